# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an application runs beside its server: commands of a build and of a deploy, background processes, timers."""

from __future__ import annotations

import re
import shlex
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS, App, Wrong, filled, is_a
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_line

UNIT_PART = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# The role's own units beside an application's processes and timers.
OWN_UNITS = frozenset(["drain"])
# systemd.time(7), with names of time zones; a '%' would be a specifier.
CALENDAR = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*~,.:/+_ -]{0,254}")
# Of each process and timer, whose own names are the keys: an argument spec has no words for that.
KINDS: dict[str, dict[str, Any]] = {
    "processes": {
        "command": {"type": "str", "required": True},
        "stop_timeout": {"type": "int", "default": 30},
        "overlap": {"type": "bool", "default": True},
    },
    "timers": {
        "command": {"type": "str", "required": True},
        "on_calendar": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 3600},
    },
}
RANGES = {"stop_timeout": (0, 86400), "timeout": (1, 2592000)}


def complete(app: App, wrong: Wrong) -> None:
    """All of them."""
    for key in ("build", "static"):
        _check_list(key, app[key], wrong)
    if app["static"] and app["framework"] != "django":
        wrong("static is what follows Django's collectstatic, which this application does not have")
    app["hooks"], _sound = filled(app["hooks"], OPTIONS["hooks"]["options"], wrong, "hooks")
    for moment, commands in app["hooks"].items():
        if is_a(commands, list):
            _check_list(f"hooks.{moment}", commands, wrong)
    for kind in KINDS:
        for name in app[kind]:
            _complete_unit(app, kind, name, wrong)
    for key in sorted(set(app["processes"]) & set(app["timers"])):
        wrong(f"'{key}' is both a process and a timer; they would share a unit name")


def _check_list(key: str, commands: list[Any], wrong: Wrong) -> None:
    for command in commands:
        if problem := command_problem(command):
            wrong(f"{key} must be a list of commands: each {problem}")


def _complete_unit(app: App, kind: str, name: Any, wrong: Wrong) -> None:
    """A process or a timer."""
    if not is_a(name, str) or not UNIT_PART.fullmatch(name) or name in OWN_UNITS:
        wrong(
            f"{kind}: '{name}' must be lower-case letters, digits, '-' and '_', begin with a letter, and not be 'drain'"
        )
    app[kind][name], sound = filled(app[kind][name], KINDS[kind], wrong, f"{kind}.{name}")
    if not sound:
        return
    unit = app[kind][name]
    if problem := command_problem(unit["command"]):
        wrong(f"{kind}.{name}.command {problem}")
    if kind == "timers" and not CALENDAR.fullmatch(unit["on_calendar"]):
        wrong(f"{kind}.{name}.on_calendar must be one line as in systemd.time(7), such as daily or Mon 04:30")
    for field, (low, high) in RANGES.items():
        if not low <= unit.get(field, low) <= high:
            wrong(f"{kind}.{name}.{field} must be between {low} and {high}")


def command_problem(value: Any) -> str | None:
    """Why a value is no command. Its words are data to whatever runs it, so nothing more is asked of them."""
    if not is_a(value, str) or not is_line(value.replace("\t", " ")):
        return "must be one line of text (for a script, put it into the code)"
    try:
        words = shlex.split(value)
    except ValueError:
        return "must have its quotes closed"
    # A word with '=' at the head is a variable, as env(1) takes it.
    return None if words and words[0] and words[0][0] != "-" else "must begin with the name of a program"


def asgi_words(command: Any, variable: str = "manage_command") -> list[str]:
    """The words of a command as a shell would split them; nothing but quotes and backslashes has a meaning."""
    try:
        return shlex.split(str(command))
    except ValueError:
        raise AnsibleFilterError(f"{variable} must have its quotes closed") from None
