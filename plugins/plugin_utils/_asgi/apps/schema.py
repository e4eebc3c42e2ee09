# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The keys of an application: which there are, their types, choices and defaults.

``roles/asgi/meta/argument_specs.yml`` says it, for Ansible's own check, for the README and for this. What it has no words for is
code: how keys depend on each other, what a text looks like, and what is in a dictionary whose keys are names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.argument_specs import options_of
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import LONGEST

# An application, and what is told of each mistake in it.
App = dict[str, Any]
Wrong = Callable[[str], None]

OPTIONS = options_of("asgi")["asgi_apps"]["options"]
TYPES = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "raw": object}
TYPE_NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list", dict: "a dictionary"}
# What may be longer than any other text: PEM.
LONG = ("certificate", "key")
RANGES = {
    "workers": (1, 256),
    "step_timeout": (1, 86400),
    "start_timeout": (1, 3600),
    "drain_timeout": (0, 86400),
    "settle_time": (0, 3600),
    "hang_timeout": (0, 3600),
    "keep_releases": (2, 100),
}


def filled(raw: Any, options: Mapping[str, Any], wrong: Wrong, where: str = "") -> tuple[App, bool]:
    """Copy the known keys of a dictionary, filled in and type-checked; tells also whether they can be worked with."""
    if not is_a(raw, dict):
        wrong(f"{where} must be a dictionary")
        return {}, False
    inside, sound = f"{where}: " if where else "", True
    for key in sorted(str(key) for key in set(raw) - set(options)):
        wrong(f"{inside}unknown key '{key}' (known: {', '.join(options)})")
    result = {}
    for key, option in options.items():
        kind, value = TYPES[option["type"]], raw.get(key)
        if value is None:
            if option.get("required"):
                wrong(f"{inside}{key} is required")
                sound = False
            value = option.get("default")
        elif not is_a(value, kind):
            wrong(f"{inside}{key} must be {TYPE_NAMES[kind]}")
            sound = False
        elif kind is str and len(value) > LONGEST and key not in LONG:
            wrong(f"{inside}{key} is longer than {LONGEST} characters")
            sound = False
        # What is completed is neither the user's own nor the default of others.
        result[key] = kind(value) if kind in (dict, list) and is_a(value, kind) else value
    return result, sound


def is_a(value: Any, kind: type) -> bool:
    """Whether a value of YAML is of a type: true is no number, a text no list."""
    if kind is dict:
        return isinstance(value, Mapping)
    if kind is list:
        return isinstance(value, Sequence) and not isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def check_choice(app: App, key: str, wrong: Wrong) -> None:
    """One of the choices of a key."""
    choices = OPTIONS[key]["choices"]
    if app[key] not in choices:
        wrong(f"{key} '{app[key]}' is unknown (known: {', '.join(choices)})")


def check_ranges(app: App, wrong: Wrong) -> None:
    """Numbers that are too small or too large; one that is not set is derived."""
    for key, (low, high) in RANGES.items():
        if app[key] is not None and not low <= app[key] <= high:
            wrong(f"{key} must be between {low} and {high}")


def check_strings(app: App, key: str, wrong: Wrong) -> None:
    """A list of nothing but text; anything else is put away, so that what looks at it next need not ask."""
    if not all(is_a(item, str) for item in app[key] or []):
        wrong(f"{key} must be a list of strings")
        app[key] = []
