# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether an application has a database of the inventory's, and how it is spoken to and of."""

from __future__ import annotations

import re

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import (
    App,
    Wrong,
    check_strings,
    filled,
    is_a,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import ENV_NAME, is_form

# What `database` may be instead of true or false, for which an argument spec has no words.
OPTIONS = {"tcp": {"type": "bool", "default": False}, "variables": {"type": "dict", "default": {}}}
# What a variable can say of the database; any other word is the scheme of an address.
PARTS = ("url", "host", "port", "user", "password", "name")
SCHEME = re.compile(
    r"postgres|postgresql|postgis|pgsql|psql|psycopg|asyncpg|(postgres|postgresql)\+[a-z][a-z0-9_]{0,31}"
)
EXTENSION = re.compile(r"[a-z_][a-z0-9_-]{0,62}")


def complete(app: App, wrong: Wrong) -> None:
    """Its switch, its options, its extensions."""
    check_strings(app, "database_extensions", wrong)
    for extension in app["database_extensions"]:
        if not EXTENSION.fullmatch(extension):
            wrong(f"database_extensions: '{extension}' is not the name of an extension")
    options, sound = filled(app["database"] if is_a(app["database"], dict) else {}, OPTIONS, wrong, "database")
    if app["database"] is None:
        app["database"] = app["framework"] == "django"
    elif not isinstance(app["database"], bool) and not is_a(app["database"], dict):
        wrong(f"database must be true, false, or a dictionary of {', '.join(OPTIONS)}")
    app["database"] = app["database"] is not False
    app["database_tcp"] = sound and options["tcp"]
    app["database_variables"] = options["variables"] if sound else {}
    # DATABASE_PASSWORD is no variable of the application's by itself.
    own = app["env"].keys() | (app["secrets"].keys() - {"DATABASE_PASSWORD"})
    for key, value in app["database_variables"].items():
        where = "database.variables"
        if not is_form(ENV_NAME, key):
            wrong(f"{where}: '{key}' is not a name of an environment variable")
        elif key in own:
            wrong(f"{where}: {key} stands in env or secrets too, which win; keep one")
        if value not in PARTS and not is_form(SCHEME, value):
            wrong(
                f"{where}.{key} must be one of {', '.join(PARTS)}, or the scheme of an address such as"
                " postgresql+asyncpg"
            )
