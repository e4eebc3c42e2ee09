# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forms that inputs of roles must have where they reach a file, a command line or a path of a host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils.env_file import NAME, text

# Every form is for fullmatch(): `$` would let a line break at the end through.
# What env_file takes, as an input no longer than this.
ENV_NAME = re.compile(rf"(?=\w{{1,128}}\Z){NAME.pattern}")
# A Python module, or what is in one, by its dotted path.
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# A user or a group, as useradd(8) takes it.
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# A package of Debian, perhaps of one architecture, perhaps at one version or of one release.
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,99}(:[a-z0-9]{1,20})?([=/][A-Za-z0-9][A-Za-z0-9.+:~-]{0,99})?")
# The longest text that is taken where nothing shorter is said.
LONGEST = 4096
# And for the value of an environment variable; the kernel takes 128 KiB for a word and its variable.
LONGEST_VALUE = 100_000
# As YAML and -e give them.
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def is_line(value: object) -> bool:
    """Whether a value is one line of text that has something in it; no control characters, none that turn text around."""
    return isinstance(value, str) and len(value) <= LONGEST and bool(value.strip()) and value.isprintable()


def is_form(form: re.Pattern[str], value: object) -> bool:
    """Whether a value is text that has a form from its first character to its last."""
    return isinstance(value, str) and bool(form.fullmatch(value))


def is_number(value: object, lowest: int, highest: int) -> bool:
    """Whether a value is a whole number, as a number or in plain digits as -e gives it."""
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,12}", str(value)):
        return False
    return lowest <= int(str(value)) <= highest


def is_switch(value: object) -> bool:
    """Whether a value is true or false, also as -e gives it."""
    return str(value).lower() in TRUE + FALSE


def is_true(value: object) -> bool:
    """Whether such a value is true."""
    return str(value).lower() in TRUE


def extra_problems(inputs: dict[str, Any], names: Iterable[str]) -> list[str]:
    """What is wrong with what an inventory adds to lists that are derived (NAME_extra); a list that it sets is taken as it is."""
    problems = []
    for name in names:
        extra, whole = inputs.get(f"{name}_extra", []), inputs.get(name) or []
        if not isinstance(extra, list):
            problems.append(f"{name}_extra must be a list")
        elif isinstance(whole, list) and any(entry not in whole for entry in extra):
            problems.append(
                f"{name}_extra adds to the {name} that is derived, and this inventory sets {name} itself: put its entries there"
            )
    return problems


def environment_problems(variable: str, environment: object) -> list[str]:
    """What is wrong with a dictionary of environment variables; a value is never told."""
    if not isinstance(environment, dict):
        return [f"{variable} must be a dictionary"]
    problems = []
    for name, value in environment.items():
        if not is_form(ENV_NAME, name):
            problems.append(f"{variable}: {name!r:.80} is not a name of an environment variable")
        elif problem := value_problem(name, value):
            problems.append(f"{variable}.{name}{problem}")
    return problems


def value_problem(name: str, value: Any) -> str | None:
    """What is wrong with the value of an environment variable, to be said after the variable; never the value."""
    if value is None:
        return " is not set"
    try:
        return f" is longer than {LONGEST_VALUE} characters" if len(text(name, value)) > LONGEST_VALUE else None
    except AnsibleFilterError as error:
        return f": {str(error).split(': ', 1)[1]}"
