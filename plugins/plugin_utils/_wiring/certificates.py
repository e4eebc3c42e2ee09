# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application meets its certificate: what the role certificates makes, and where nginx finds it."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App

DIRECTORY = "/etc/ssl/vivarium"


def request(app: App) -> dict[str, Any]:
    """What is asked of the role."""
    wanted = {key: value for key, value in app["certificate"].items() if value}
    return {"name": app["name"], "domains": app["domains"] + app["redirect_domains"], **wanted}


def files(app: App) -> dict[str, str]:
    """What it makes of that."""
    directory = f"{DIRECTORY}/{app['name']}"
    return {"certificate": f"{directory}/fullchain.pem", "key": f"{directory}/privkey.pem"}
