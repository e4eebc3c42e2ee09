# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The way of ``asgi_apps``: every key filled in, every mistake found and told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps import (
    code,
    commands,
    database,
    django,
    environment,
    hsts,
    names,
    sandbox,
    server,
    site,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.inputs import derived_problems, input_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import (
    OPTIONS,
    App,
    check_choice,
    check_ranges,
    filled,
    is_a,
)

# Keys that were renamed, and how the same is said now.
RENAMED = {"hsts_subdomains": "hsts: {include_subdomains: …}", "hsts_preload": "hsts: {preload: …}"}


def asgi_apps(
    apps: Any,
    derived: Any = None,
    version: Any = None,
    inputs: Mapping[str, Any] | None = None,
) -> list[App]:
    """Return the applications with every default filled in, or raise one error that lists every mistake."""
    problems = input_problems(inputs or {}) + derived_problems(derived or {})
    if not is_a(apps, list):
        raise AnsibleFilterError("asgi_apps must be a list of applications")
    derived = {} if problems else derived or {}
    completed = [app for index, raw in enumerate(apps) if (app := _complete(raw, index, derived, version, problems))]
    for what, values in (
        ("name", [app["name"] for app in completed]),
        ("domain", [domain for app in completed for domain in _names(app)]),
        ("port", [app["port"] for app in completed]),
    ):
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        problems += [f"the {what} '{value}' is used more than once" for value in twice]
    if version and not problems and not any(app["source"].get("git") for app in completed):
        problems.append(f"asgi_version '{version}' has no effect: no application has a git source")
    if problems:
        listed = "\n".join(f"  - {_shown(problem)}" for problem in problems)
        raise AnsibleFilterError(f"asgi_apps is not usable:\n{listed}")
    return completed


def _complete(raw: Any, index: int, derived: Mapping[str, Any], version: Any, problems: list[str]) -> App | None:
    """One application; None where it cannot be worked with."""
    label = f"asgi_apps[{index}]"
    if not is_a(raw, dict):
        problems.append(f"{label} must be a dictionary")
        return None
    if is_a(raw.get("name"), str):
        label += f" ({raw['name']})"

    def wrong(message: str) -> None:
        problems.append(f"{label}: {message}")

    # YAML reads an unquoted on or off as a boolean.
    if isinstance(raw.get("lifespan"), bool):
        raw = {**raw, "lifespan": "on" if raw["lifespan"] else "off"}
    for key in sorted(set(raw) & set(RENAMED)):
        wrong(f"{key} is said as {RENAMED[key]} now")
    app, sound = filled({k: v for k, v in raw.items() if k not in RENAMED}, OPTIONS, wrong)
    if not sound:
        return None
    added = derived.get(app["name"], {})
    # Each file has one concern: it checks its keys, and adds what follows from them. Below stands what an earlier line has made.
    check_choice(app, "framework", wrong)
    check_choice(app, "state", wrong)
    check_ranges(app, wrong)
    names.complete(app, index, wrong)
    code.complete(app, version, wrong)
    server.complete(app, wrong)
    sandbox.check(app, wrong)
    environment.check(app, wrong)
    database.complete(app, wrong)
    environment.complete_required(app, wrong)
    site.complete(app, wrong)
    hsts.complete(app, wrong)
    django.complete(app, wrong)
    commands.complete(app, wrong)
    names.add_names(app)
    environment.add_variables(app, added)
    app["hosts"] = 1
    return {**app, **{key: value for key, value in added.items() if key not in ("env", "secrets")}}


def _names(app: App) -> list[str]:
    """The names that nginx answers for; those of its own that lead to itself are told elsewhere."""
    return [*app["domains"], *(domain for domain in app["redirect_domains"] if domain not in app["domains"])]


def _shown(problem: str) -> str:
    """A sentence for a terminal, whatever is in the name that it quotes."""
    text = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in problem)
    return text if len(text) < 2000 else f"{text[:1500]} … {text[-100:]}"
