# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a server still lacks: roles, databases, statements; and what it refused of that."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.module_utils._postgresql.names import quoted
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.answer import rows_of
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.limits import logs_in
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.scram import scram_matches
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.words import (
    NAME,
    as_text,
    literal,
    setting_name,
)

ATTRIBUTES = {
    "superuser": False,
    "createdb": False,
    "createrole": False,
    "replication": False,
    "bypassrls": False,
    "login": True,
}


def postgresql_plan(
    state: str,
    users: list[dict[str, Any]],
    databases: list[dict[str, Any]],
    access: list[dict[str, Any]],
    user_settings: dict[str, Any] | None,
    remove: Collection[str] = (),
    purge: Collection[str] = (),
) -> dict[str, Any]:
    """Compare what the server said about itself with what it should be. The answer holds no password and no verifier.

    ``state`` is what templates/state.sql.j2 makes psql print: one JSON object for the server, then one per database.
    """
    rows = rows_of(state)
    if not rows:
        raise AnsibleFilterError("postgresql_plan: the server's answer is not what was asked for")
    server, details = rows[0], {detail["database"]: detail for detail in rows[1:]}
    databases = [
        {
            "name": database["name"],
            "owner": database.get("owner") or database["name"],
            "locale": database.get("locale") or "C.UTF-8",
            "extensions": database.get("extensions") or [],
        }
        for database in databases
    ]
    there = server["databases"]
    # A database that is there and did not answer, which its owner can bring about, is not asked for its extensions either.
    known = {*(database["name"] for database in databases), "postgres", "template1"}
    silent = [name for name in there if name in known and name not in details]
    available = server["available_extensions"]
    extensions = [
        # One that PostgreSQL calls trusted is the owner's to make; the script of another runs as the superuser.
        {
            "database": database["name"],
            "name": extension,
            "role": database["owner"] if available.get(extension) else None,
            "about": f"the extension {extension} in the database {database['name']}",
        }
        for database in databases
        for extension in database["extensions"]
        if database["name"] not in silent and extension not in details.get(database["name"], {}).get("extensions", [])
    ]

    def refused(entry: dict[str, Any]) -> bool:
        untrusted = entry["name"] in available and entry["role"] is None
        return untrusted and bool(details.get(entry["database"], {}).get("foreign_functions"))

    # Each role and each database on its own: whose it is can hold a change of its own up, and none of another's.
    statements = [
        (
            "postgres",
            f"the role {user['name']}",
            _membership(user, server["roles"]) + _role_settings(user, user_settings, server["roles"]),
        )
        for user in users
        if logs_in(user)
    ]
    for user in users:
        statements += [
            ("postgres", f"the login {name}, whose password no release has any more", _end_of_login(name, user["name"]))
            for name in _unused_logins(user, users, server)
        ]
    # What reset its session (DISCARD ALL, as poolers do) acts as the login, and what that makes would be lost to the next one.
    statements += [
        (
            name,
            f"what {login} has in the database {name}",
            [f"REASSIGN OWNED BY {quoted(login)} TO {quoted(entry['owner'])}"],
        )
        for name, entry in there.items()
        for login in _own_members(entry)
        if login in details.get(name, {}).get("owners", [])
    ]
    for database in [*databases, {"name": "postgres", "owner": None}, {"name": "template1", "owner": None}]:
        name = database["name"]
        statements += [
            ("postgres", f"the database {name}", _privileges(database, access, there.get(name))),
            (name, f"the database {name}", _schema(database["owner"], details.get(name, {}))),
        ]
    # What is to go is closed first. Its owner is left alone where another database is his, or the lists have him.
    listed = {user["name"] for user in users}
    spared = {name for name, entry in there.items() if entry.get("shared") or entry["owner"] in listed}
    for name in dict.fromkeys([*remove, *purge]):
        if name in remove and name in there and name not in spared:
            statements += [
                (
                    "postgres",
                    f"the role {login}, which may not log in any more",
                    _end_of_login(login, there[name]["owner"]),
                )
                for login in _logins(there[name])
            ]
    doomed = [
        {"name": name, "roles": [] if name in spared or there[name].get("copies") else _roles_of(there[name])}
        for name in purge
        if name in there and (name in remove or not _logins(there[name]))
    ]
    roles = [user["name"] for user in users if _role_is_off(user, server["roles"].get(user["name"]))]
    new_databases = [database for database in databases if database["name"] not in there]
    needed = [{"database": name, "about": about, "queries": queries} for name, about, queries in statements if queries]
    return {
        "roles": roles,
        "new_roles": [user["name"] for user in users if user["name"] not in server["roles"]],
        "databases": [{key: database[key] for key in ("name", "owner", "locale")} for database in new_databases],
        "statements": needed,
        "extensions": [entry for entry in extensions if not refused(entry)],
        # In check mode these are said.
        "changes": [
            *(f"the role {name}" for name in roles),
            *(f"the database {database['name']}" for database in new_databases),
            *(f"{each['about']}: {'; '.join(each['queries'])}" for each in needed),
            *(entry["about"] for entry in extensions if not refused(entry)),
            *(f"the database {entry['name']}, which goes for good" for entry in doomed),
        ],
        "purge": doomed,
        "unknown_extensions": [
            f"postgresql_databases: database '{entry['database']}' asks for the extension '{entry['name']}', which this"
            " server does not have; the package that brings it belongs into postgresql_packages"
            for entry in extensions
            if entry["name"] not in available
        ],
        # What its owner can bring about, so that it stops nothing else.
        "refused": [
            f"the database {name}: it does not answer the superuser (psql -d {name} as postgres says why;"
            f' where its owner has shut it: ALTER DATABASE "{name}" ALLOW_CONNECTIONS true)'
            for name in silent
        ]
        + [
            f"the database {name}: it is in use, its role may log in; take the application away first (asgi_remove)"
            for name in purge
            if name in there and _logins(there[name]) and name not in remove
        ]
        + [
            f"postgresql_databases: the extension '{entry['name']}' is not a trusted one, and its script would run as the"
            f" superuser in the database '{entry['database']}', which holds functions of other roles."
            " If you trust those, make it yourself: runuser --pty -u postgres -- env PGOPTIONS='-c search_path=pg_catalog' psql"
            f" -d {entry['database']} -c"
            f" 'CREATE EXTENSION \"{entry['name']}\" SCHEMA public'"
            for entry in extensions
            if refused(entry)
        ],
    }


def _privileges(database: dict[str, Any], access: list[dict[str, Any]], there: dict[str, Any] | None) -> list[str]:
    """Nobody connects to a database but its owner and whom an access entry lets in."""
    name = database["name"]
    if there is None:
        there = {"public": True, "connects": [database["owner"]]}  # as PostgreSQL makes it
    wanted = [database["owner"]] if database["owner"] else []
    wanted += [entry["user"] for entry in access if entry["database"] == name and entry.get("method") != "reject"]
    return [
        *([f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC"] if there["public"] else []),
        *(
            f"GRANT CONNECT ON DATABASE {quoted(name)} TO {quoted(role)}"
            for role in sorted(set(wanted))
            if role not in there["connects"]
        ),
    ]


def _schema(owner: str | None, there: dict[str, Any]) -> list[str]:
    """The schema public as PostgreSQL 15 and later make it, in databases that are older too."""
    statements = []
    if there.get("public_creates"):
        statements.append("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if owner and there.get("schema_owner") not in (None, "pg_database_owner", owner):
        statements.append("ALTER SCHEMA public OWNER TO pg_database_owner")
    return statements


def _role_is_off(user: dict[str, Any], role: dict[str, Any] | None) -> bool:
    if role is None:
        return True
    if not logs_in(user):
        return any(role[attribute] is not value for attribute, value in ATTRIBUTES.items() if attribute != "login")
    return (
        any(role[attribute] is not value for attribute, value in ATTRIBUTES.items())
        or role["connection_limit"] != int(user["connection_limit"])
        or role["expires"]
        or not scram_matches(role["verifier"], user["password"])
    )


def _own_members(database: dict[str, Any]) -> list[str]:
    """The roles that the collection has made for passwords of a database's owner; other members of it are somebody else's."""
    form = re.compile(re.escape(database["owner"]) + "-[0-9a-f]{4}")
    return sorted(name for name in database.get("members") or {} if form.fullmatch(name) and NAME.fullmatch(name))


def _roles_of(database: dict[str, Any]) -> list[str]:
    return [*_own_members(database), database["owner"]]


def _logins(database: dict[str, Any]) -> list[str]:
    """Who may log in as a database's owner."""
    members = [name for name in _own_members(database) if database["members"][name]]
    return members + ([database["owner"]] if database["login"] else [])


def _unused_logins(user: dict[str, Any], users: list[dict[str, Any]], server: dict[str, Any]) -> list[str]:
    """Logins of an owner whose password is not the inventory's, and that no release logs in as."""
    if logs_in(user) or user.get("logins") is None:
        return []
    ours = [other for other in users if other.get("member_of") == user["name"]]
    verifier = server["roles"].get(user["name"], {}).get("verifier")
    # Before there was a role for each password the owner had it; somebody else may log in with that one as well.
    spared = {*user["logins"], *(other["name"] for other in ours)}
    spared |= {user["name"]} if any(scram_matches(verifier, other["password"]) for other in ours) else set()
    owned = [entry for entry in server["databases"].values() if entry["owner"] == user["name"]]
    return sorted({name for entry in owned for name in _logins(entry)} - spared)


def _end_of_login(name: str, owner: str) -> list[str]:
    """Nobody logs in as a role any more; one that was made for a password goes, unless it owns something."""
    closed = f"ALTER ROLE {quoted(name)} NOLOGIN PASSWORD NULL"
    gone = f"DO $$BEGIN DROP ROLE {quoted(name)}; EXCEPTION WHEN dependent_objects_still_exist THEN {closed}; END$$"
    return [
        closed if name == owner else gone,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {literal(name)}",  # noqa: S608
    ]


def _membership(user: dict[str, Any], roles: dict[str, Any]) -> list[str]:
    """Whoever logs in as a member of an owner acts as that from the first moment: what it makes is the owner's."""
    owner = user.get("member_of")
    if not owner or owner in roles.get(user["name"], {}).get("member_of", []):
        return []
    return [f"GRANT {quoted(owner)} TO {quoted(user['name'])}"]


def _role_settings(user: dict[str, Any], defaults: dict[str, Any] | None, roles: dict[str, Any]) -> list[str]:
    """Return the statements that make a role's settings what they should be, and nothing beside them.

    The role can set what it likes for itself. Names of its own making do not get into a statement: all goes, then ours come back.
    """
    settings = {**(defaults or {}), **(user.get("settings") or {})}
    settings |= {"role": user["member_of"]} if user.get("member_of") else {}
    wanted = {key: as_text(value) for key, value in settings.items() if value is not None}
    there = dict(entry.split("=", 1) for entry in roles.get(user["name"], {}).get("settings") or [])
    role_name = quoted(user["name"])
    reset = not set(there) <= set(wanted)
    return [
        *([f"ALTER ROLE {role_name} RESET ALL"] if reset else []),
        *(
            f"ALTER ROLE {role_name} SET {setting_name(key)} TO {literal(value)}"
            for key, value in sorted(wanted.items())
            if reset or there.get(key) != value
        ),
    ]


# What community.postgresql puts around the server's sentence: the statement, and at the end all of them.
AROUND = re.compile(
    r"Cannot execute SQL '.*?' None: |Management of PostgreSQL extension failed: |, query list: .*", re.DOTALL
)


def postgresql_troubles(results: list[dict[str, Any]]) -> list[str]:
    """Return what the server refused in tasks of community.postgresql, one sentence each, with its reason and no statement."""
    troubles = []
    for result in results:
        if "msg" not in result:
            continue
        item = result.get("__postgresql_statements") or result.get("__postgresql_extension")
        about = item["about"] if item else f"the role {result['__postgresql_user']['name']}"
        reason = re.sub("[^ -~]+", " ", AROUND.sub("", result["msg"]))
        troubles.append(f"{about}: {reason[:300].strip()}")
    return troubles
