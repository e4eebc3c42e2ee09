# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application's server is run with. How each is run is a row of the role's table, ``__asgi_servers`` in its vars."""

from __future__ import annotations

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App, Wrong, check_choice, is_a
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_line

# Gunicorn's worker classes that speak ASGI, the first unless another is said, and the row that knows how to run with each.
WORKER_CLASSES = {"uvicorn_worker.UvicornWorker": "gunicorn", "asgi": "gunicorn_asgi"}


def complete(app: App, wrong: Wrong) -> None:
    """The server, its words, the lifespan protocol; `serve_with` is the row of the table."""
    check_choice(app, "server", wrong)
    app["serve_with"] = app["server"]
    if app["server"] == "gunicorn":
        app["worker_class"] = app["worker_class"] or next(iter(WORKER_CLASSES))
        check_choice(app, "worker_class", wrong)
        app["serve_with"] = WORKER_CLASSES.get(app["worker_class"], "gunicorn")
    elif app["worker_class"]:
        wrong("worker_class has a meaning for server gunicorn alone")
    if not all(is_a(option, str) and (option == "" or is_line(option)) for option in app["server_options"]):
        wrong("server_options must be a list of strings, one for each word of the command line (quote numbers)")
        app["server_options"] = []
    app["lifespan"] = app["lifespan"] or ("off" if app["framework"] == "django" else "auto")
    check_choice(app, "lifespan", wrong)
