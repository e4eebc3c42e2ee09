# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What belongs to the settings, checks and middleware that a release brings beside the project."""

from __future__ import annotations

import re

from ansible_collections.vivarium.server.plugins.module_utils._asgi.headings import STANDING_WAIVERS
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import (
    App,
    Wrong,
    check_choice,
    check_strings,
    is_a,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import MODULE, is_line

CHECK_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}\.[A-Z][0-9]{3}")
# What a project with sessions in its database needs, and what does nothing for others.
CLEARSESSIONS = {"command": "python -m vivarium_clearsessions", "on_calendar": "daily"}


def complete(app: App, wrong: Wrong) -> None:
    """Its settings and ours, the middleware around it, the waivers, and the timer that comes with our settings."""
    django = app["framework"] == "django"
    check_choice(app, "check_fail_level", wrong)
    if django and not app["settings"]:
        wrong("settings is required for framework django: the dotted path of the settings module")
    if app["settings"] and not MODULE.fullmatch(app["settings"]):
        wrong("settings must be a dotted module path")
    check_strings(app, "asgi_middleware", wrong)
    for path in app["asgi_middleware"]:
        if not MODULE.fullmatch(path) or "." not in path:
            wrong(f"asgi_middleware: '{path}' must be a dotted path to a class or function that wraps an ASGI callable")
    if app["vivarium_settings"] and not django:
        wrong("vivarium_settings is for framework django")
    for key, reason in app["waivers"].items():
        if not is_a(key, str) or not CHECK_ID.fullmatch(key):
            wrong(f"waivers: '{key}' is no id of a check, such as security.W021")
        elif not is_a(reason, str) or not reason.strip():
            wrong(f"waivers.{key} needs a reason")
        elif not is_line(reason.strip()):
            wrong(f"waivers.{key} must be one line of text")
    app["standing_waivers"] = {
        key: reason
        for key, (wish, reason) in STANDING_WAIVERS.items()
        if django and not (app["hsts_decision"] or {}).get(wish)
    }
    app["vivarium_settings"] = django if app["vivarium_settings"] is None else app["vivarium_settings"]
    if app["vivarium_settings"]:
        app["timers"] = {"clearsessions": dict(CLEARSESSIONS), **app["timers"]}
    # An application without the timer says so with null.
    if app["timers"].get("clearsessions", ...) is None:
        del app["timers"]["clearsessions"]
