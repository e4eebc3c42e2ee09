# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How values and names are written in PostgreSQL's own files and statements."""

from __future__ import annotations

import re

from ansible_collections.vivarium.server.plugins.module_utils._postgresql.names import quoted

# A name that needs no care in a shell, a URL, a file name or pg_hba.conf, and that PostgreSQL does not cut off.
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
NAME_RULE = "a name is lower case letters, digits, _ and -, starts with a letter or _, and has at most 63 characters"


def postgresql_value(value: object) -> str:
    """Return a value as postgresql.conf wants it: quoted, so that nothing in it has a meaning."""
    text = as_text(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def literal(text: str) -> str:
    return (
        "'" + text.replace("'", "''") + "'"
        if "\\" not in text
        else "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    )


def as_text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(entry) for entry in value)
    return str(value)


def setting_name(name: str) -> str:
    return ".".join(quoted(part) for part in name.split("."))
