# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of an environment file that systemd and sh read alike."""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError

NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def env_file(variables: Any) -> str:
    """One `NAME="value"` for each variable."""
    if not isinstance(variables, dict):
        raise AnsibleFilterError("env_file needs a dictionary of variables")
    for name in variables:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise AnsibleFilterError(f"{name!r} is not a name for an environment variable")
    return "".join(f'{name}="{quote(text(name, value))}"\n' for name, value in sorted(variables.items()))


def quote(value: str) -> str:
    """Escape what is special between double quotes; the rest, newlines included, stands for itself."""
    return re.sub(r'([\\"$`])', r"\\\1", value)


def text(name: str, value: Any) -> str:
    """A value as text, or an error that does not show it."""
    if isinstance(value, (list, tuple)):
        items = [text(name, item) for item in value]
        if any("," in item for item in items):
            raise AnsibleFilterError(f"environment variable {name}: an item of its list contains a comma")
        return ",".join(items)
    if not isinstance(value, (str, bool, int, float)):
        raise AnsibleFilterError(f"environment variable {name}: must be text, a number, a boolean or a list of these")
    value = str(value)
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value):
        raise AnsibleFilterError(f"environment variable {name}: contains a control character or is not valid Unicode")
    return value
