# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How PostgreSQL writes names, and which are kept for backups: for the filters, and for the backup's program on the host."""

from __future__ import annotations

import re

# The names of the scratch database and of the role that fills it: the first that is free. pg_hba.conf lets a role into the
# database of its name alone, with its password. A statement that the server cannot interrupt keeps the database that it runs in,
# its role, and the server from dropping any other database: it waits for every session first. So a drop has a limit, what is left
# goes later, and the next takes the next name. No role serves a second dump: whoever still is that role could end its sessions.
SCRATCH = "vivarium_scratch"
SCRATCHES = (SCRATCH, *(f"{SCRATCH}_{number}" for number in range(2, 10)))
# The value of these is a list of names. ALTER … SET takes them one by one, and would quote a text of several as one name.
LIST_SETTINGS = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"})


def quoted(name: str) -> str:
    """A name as an identifier in which nothing has a meaning."""
    return '"' + name.replace('"', '""') + '"'


def unquoted(identifier: str) -> str:
    """The name that an identifier stands for."""
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def names_of(value: str) -> list[str]:
    """The names of a list such as search_path, as PostgreSQL reads it."""
    return [
        inner.replace('""', '"') if inner or not plain else plain.lower()
        for inner, plain in re.findall(r'"((?:[^"]|"")*)"|([^\s,"][^\s,]*)', value)
    ]
