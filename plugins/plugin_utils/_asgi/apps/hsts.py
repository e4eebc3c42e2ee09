# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The decision about HSTS that nginx, Django's settings and the report share; the environment must not say otherwise."""

from __future__ import annotations

import itertools
import re

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App, Wrong
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_true
from ansible_collections.vivarium.server.plugins.plugin_utils.hsts import decided, header, hsts_problems

NUMBER = re.compile(r"[0-9]{1,9}")
# What a decision is called among Django's settings.
SETTINGS = {
    "max_age": "SECURE_HSTS_SECONDS",
    "include_subdomains": "SECURE_HSTS_INCLUDE_SUBDOMAINS",
    "preload": "SECURE_HSTS_PRELOAD",
}


def complete(app: App, wrong: Wrong) -> None:
    """The decision, the header that says it, and the same for Django."""
    problems = hsts_problems(app["hsts"])
    for problem in problems:
        wrong(problem)
    app["hsts_decision"] = decided(True if problems else app["hsts"])
    app["hsts_header"] = header(app["hsts_decision"])
    app["hsts_env"] = {
        name: str((app["hsts_decision"] or {}).get(key, 0 if key == "max_age" else False)).lower()
        for key, name in SETTINGS.items()
        if app["framework"] == "django"
    }
    if problems:
        return
    for (key, name), where in itertools.product(SETTINGS.items(), ("env", "secrets")):
        if name not in app["hsts_env"] or app[where].get(name) is None:
            continue
        said, derived = (str(each).strip().lower() for each in (app[where][name], app["hsts_env"][name]))
        same = said == derived if key == "max_age" else is_true(said) == is_true(derived)
        if not same:
            says = app["hsts_header"] or "nothing"
            wrong(
                f"{where}.{name} contradicts hsts, from which nginx sends {says} and this variable is derived. Remove it, and say"
                f" what is meant with hsts: {_example(key, said if where == 'env' else '')}"
            )


def _example(key: str, said: str) -> str:
    """How the same is said as a decision; nothing is quoted that has not the form of it."""
    if key == "max_age":
        return "false" if said == "0" else f"{{max_age: {said if NUMBER.fullmatch(said) else 'SECONDS'}}}"
    return f"{{{key}: true}}" if is_true(said) else f"{{{key}: false}}"
