# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a server has that the inventory does not: databases that left it, somebody else's set-up, another owner."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.answer import access_in, rows_of
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.words import NAME

# A line of pg_hba.conf as the role writes it for a database.
ACCESS = re.compile(rf'(?P<kind>[a-z]+) +"(?P<database>{NAME.pattern})" +\+?"[^" ]+" +(?:[0-9a-fA-F.:/]+ +)?[a-z0-9-]+')
ALWAYS_THERE = {"C", "POSIX", "C.utf8"}
# A sentence in the role's own pg_hba.conf, and the lines of Debian's.
OURS = "The first line that fits a connection decides; a connection that no line fits is refused."
DEBIANS = {
    "local all postgres peer",
    "local all all peer",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 scram-sha-256",
    "local replication all peer",
    "host replication all 127.0.0.1/32 scram-sha-256",
    "host replication all ::1/128 scram-sha-256",
}


def postgresql_kept(answer: str, databases: list[dict[str, Any]], remove: Iterable[str]) -> dict[str, Any]:
    """Return what databases that are no longer in the lists keep: who may connect, and what the server needs for that.

    The answer is that of the server to templates/state.sql.j2, if it answered, and pg_hba.conf in base64.
    """
    rows = rows_of(answer)
    server = rows[0] if rows else {}
    gone = {*(database["name"] for database in databases), *remove}
    found = [match for match in map(ACCESS.fullmatch, access_in(answer).splitlines()) if match]
    found = [
        match
        for match in found
        if match["database"] not in gone and match["database"] in server.get("names", [match["database"]])
    ]
    remote = any(match["kind"] != "local" for match in found)
    addresses = [part.strip() for part in server.get("listen_addresses", "").split(",") if part.strip()]
    return {
        "databases": list(dict.fromkeys(match["database"] for match in found)),
        "closed": [name for name in remove if name in server.get("names", [])],
        "access": [match[0] for match in found],
        "listen_addresses": addresses if remote else [],
        "max_connections": server.get("max_connections", 0) if found else 0,
    }


def postgresql_used(
    answer: str,
    version: int | str,
    port: int | str,
    databases: list[dict[str, Any]],
    listen_addresses: Iterable[object],
    max_connections: int | str,
) -> list[str]:
    """Return what a server that somebody else has set up would lose, in words; nothing where it is the role's own, or new."""
    access = access_in(answer)
    if not access or OURS in access:
        return []
    server = (rows_of(answer) or [{}])[0]
    lines = [" ".join(line.partition("#")[0].split()) for line in access.splitlines()]
    lost = [f"the line '{_shown(line)}' of pg_hba.conf" for line in lines if line and line not in DEBIANS]
    listed = {"postgres", "template0", "template1", *(database["name"] for database in databases)}
    lost += [
        f"access to the database {name}"
        for name in server.get("names", [])
        if name not in listed and NAME.fullmatch(name)
    ]
    there = {part.strip() for part in server.get("listen_addresses", "").split(",")} - {
        "",
        "localhost",
        "127.0.0.1",
        "::1",
    }
    lost += [
        f"the address {_shown(each)} that it answers on" for each in sorted(there - set(map(str, listen_addresses)))
    ]
    if server.get("max_connections", 0) > max(100, int(max_connections)):
        lost.append(f"connections: {server['max_connections']} there, {max_connections} here")
    for line in answer.splitlines():
        words = line.split()
        if words[:2] == [str(version), "main"] and words[2:3] and words[2].isdigit() and words[2] != str(port):
            lost.append(f"its port {words[2]} (postgresql_port)")
    return lost


def _shown(text: str) -> str:
    return re.sub("[^ -~]", "?", text)[:200]


def _same_locale(name: object) -> str:
    """The name of a locale as ``locale -a`` writes it, de_DE.utf8 for de_DE.UTF-8."""
    language, dot, rest = str(name).partition(".")
    codeset, at, modifier = rest.partition("@")
    return language + dot + codeset.lower().replace("-", "") + at + modifier


def postgresql_foreign(state: str, databases: list[dict[str, Any]]) -> list[str]:
    """Return why databases cannot be as they are wanted, one sentence each: another owner, or a locale that the host lacks."""
    there = (rows_of(state) or [{"databases": {}}])[0]["databases"]
    wanted = {database["name"]: database.get("owner") or database["name"] for database in databases}
    said = [line.removeprefix("locales:") for line in state.splitlines() if line.startswith("locales:")]
    locales = {*ALWAYS_THERE, *(_same_locale(name) for line in said for name in line.split())}
    return [
        f"postgresql_databases: a database '{name}' is there and belongs to the role {there[name]['owner']!r}, not to '{owner}':"
        " nothing was changed. Choose another name; or, if it is meant:"
        f' runuser --pty -u postgres -- psql -c \'ALTER DATABASE "{name}" OWNER TO "{owner}"\' (its tables keep their owners;'
        " docs/adopt.md has a way that takes them along)"
        for name, owner in wanted.items()
        if name in there and there[name]["owner"] != owner
    ] + [
        f"postgresql_databases: the database '{database['name']}' wants the locale {database['locale']}, which this host does not"
        " have: nothing was changed. It comes with the package locales: a line for it in /etc/locale.gen, then locale-gen and"
        " systemctl restart postgresql"
        for database in databases
        if database.get("locale") and database["name"] not in there and _same_locale(database["locale"]) not in locales
    ]
