# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the roles postgresql and postgresql_backup decide: which inputs are wrong, and what a server still lacks."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.scram import scram_matches
from ansible_collections.vivarium.server.plugins.module_utils._postgresql.names import (
    LIST_SETTINGS,
    SCRATCH,
    quoted,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import (
    PACKAGE,
    extra_problems,
    is_form,
    is_switch,
    is_true,
)

# A name that needs no care in a shell, a URL, a file name or pg_hba.conf, and that PostgreSQL does not cut off.
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
NAME_RULE = "a name is lower case letters, digits, _ and -, starts with a letter or _, and has at most 63 characters"
SETTING = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?")
LOCALE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
SERVER_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9_.@+-]{1,255}){1,40}")

# pg_hba.conf and PostgreSQL itself give these names a meaning of their own.
RESERVED_ROLES = frozenset(
    {"postgres", "public", "none", "all", "current_user", "session_user", "current_role", "user"}
)
RESERVED_DATABASES = frozenset(
    {"postgres", "template0", "template1", "all", "sameuser", "samerole", "samegroup", "replication"}
)

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
# Connections that no application gets: the superuser's (superuser_reserved_connections is 3), backups, people who look.
RESERVE = 10

# Settings that have an input of their own, or that Debian's cluster keeps for itself.
SETTINGS_ELSEWHERE = {
    "listen_addresses": "use postgresql_listen_addresses",
    "port": "use postgresql_port",
    "max_connections": "use postgresql_max_connections",
    "ssl_cert_file": "use postgresql_certificate",
    "ssl_key_file": "use postgresql_certificate_key",
    "ssl": "TLS is always on",
    "password_encryption": "passwords are always SCRAM-SHA-256",
    "unix_socket_directories": "the unix socket is where Debian's clients look for it",
    **dict.fromkeys(
        ("data_directory", "config_file", "hba_file", "ident_file", "external_pid_file"),
        "Debian's cluster decides it",
    ),
}
ATTRIBUTES = {
    "superuser": False,
    "createdb": False,
    "createrole": False,
    "replication": False,
    "bypassrls": False,
    "login": True,
}


# ---------------------------------------------------------------------------------------------------------------------
# Inputs


def postgresql_problems(inputs: dict[str, Any]) -> list[str]:
    """Return what is wrong with the inputs of the role postgresql, one sentence each, never with a password in it."""
    problems = _type_problems(inputs)
    if problems:
        return problems
    lists = ("users", "databases", "access", "listen_addresses")
    problems += extra_problems(inputs, [f"postgresql_{name}" for name in lists])
    users = _named(inputs["postgresql_users"], "postgresql_users", RESERVED_ROLES, problems)
    problems += [
        f"postgresql_users lacks the role '{name}', which an application logs in as or its database belongs to, and which is"
        " derived. An inventory that sets postgresql_users has nothing but its own: say those in postgresql_users_extra instead"
        for name in inputs.get("postgresql_required_users") or []
        if is_form(NAME, name) and name not in users
    ]
    problems += [
        f"postgresql_required_users: {name!r:.80} is not a valid name ({NAME_RULE})"
        for name in inputs.get("postgresql_required_users") or []
        if not is_form(NAME, name)
    ]
    databases = _named(inputs["postgresql_databases"], "postgresql_databases", RESERVED_DATABASES, problems)
    for where, user in _each(inputs["postgresql_users"], "postgresql_users"):
        _check_user(where, user, users, problems)
    for where, database in _each(inputs["postgresql_databases"], "postgresql_databases"):
        _check_database(where, database, users, problems)
    for where, entry in _each(inputs["postgresql_access"], "postgresql_access"):
        _check_access(where, entry, users, databases, problems)
    for variable in ("postgresql_remove_databases", "postgresql_purge_databases"):
        for index, name in enumerate(inputs.get(variable) or []):
            if (
                not isinstance(name, str)
                or not NAME.fullmatch(name)
                or name in RESERVED_DATABASES
                or name.startswith(SCRATCH)
            ):
                problems.append(f"{variable}[{index}]: '{name}' is not the name of a database ({NAME_RULE})")
            elif name in databases:
                problems.append(f"{variable}[{index}]: '{name}' is in postgresql_databases; take it out there first")
    for index, address in enumerate(inputs["postgresql_listen_addresses"] or []):
        if str(address) not in ("*", "localhost") and _interface(address) is None:
            problems.append(f"postgresql_listen_addresses[{index}]: '{address}' is not an IP address")
    _check_settings("postgresql_settings", inputs["postgresql_settings"], problems, SETTINGS_ELSEWHERE)
    _check_settings("postgresql_user_settings", inputs["postgresql_user_settings"], problems, {}, per_role=True)
    for name in ("postgresql_certificate", "postgresql_certificate_key"):
        if not SERVER_PATH.fullmatch(str(inputs[name] or "")):
            problems.append(f"{name}: must be an absolute path on the server, without spaces")
    packages = inputs.get("postgresql_packages") or []
    if not isinstance(packages, list) or not all(is_form(PACKAGE, package) for package in packages):
        problems.append("postgresql_packages: must be a list of names of Debian packages")
    _check_range("postgresql_port", inputs["postgresql_port"], 1, 65535, problems)
    _check_range("postgresql_max_connections", inputs["postgresql_max_connections"], 10, 262143, problems)
    if not problems:
        _check_connections(inputs["postgresql_users"], int(inputs["postgresql_max_connections"]), problems)
    return problems


def _type_problems(inputs: dict[str, Any]) -> list[str]:
    """Inputs that a specification takes for lists and dictionaries though they are texts."""
    lists = (
        "users", "databases", "access", "listen_addresses", "packages", "remove_databases", "purge_databases", "required_users",
    )  # fmt: skip
    problems = [
        f"postgresql_{name}: must be a list"
        for name in lists
        if not isinstance(inputs.get(f"postgresql_{name}") or [], list) or inputs.get(f"postgresql_{name}") == ""
    ]
    settings = [("postgresql_settings", inputs), ("postgresql_user_settings", inputs)]
    if not problems:
        users, databases = inputs["postgresql_users"] or [], inputs["postgresql_databases"] or []
        settings += [("settings", user) for user in users]
        problems += [
            f"postgresql_databases[{index}]: extensions: must be a list"
            for index, database in enumerate(databases)
            if database.get("extensions") is not None and not isinstance(database["extensions"], list)
        ]
    problems += [
        f"{name}: must be a dictionary"
        for name, values in settings
        if values.get(name) is not None and not isinstance(values[name], dict)
    ]
    return problems


def _each(entries: list[dict[str, Any]] | None, variable: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, entry in enumerate(entries or []):
        name = entry.get("name")
        yield f"{variable}[{index}]" + (f" ('{name}')" if name else ""), entry


def _named(
    entries: list[dict[str, Any]] | None, variable: str, reserved: Container[str], problems: list[str]
) -> set[Any]:
    """Check the names of a list of dictionaries and return them."""
    seen = set()
    for index, entry in enumerate(entries or []):
        name = entry.get("name")
        where = f"{variable}[{index}].name"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(f"{where}: '{name}' is not a valid name ({NAME_RULE})")
        elif name in reserved or name.startswith(("pg_", SCRATCH)):
            problems.append(f"{where}: '{name}' is reserved")
        elif name in seen:
            problems.append(f"{where}: '{name}' is there twice")
        seen.add(name)
    return seen


def _check_user(where: str, user: dict[str, Any], users: Container[str], problems: list[str]) -> None:
    password = user.get("password")
    if not is_switch(user.get("login", True)):
        problems.append(f"{where}: login must be true or false")
    elif not logs_in(user):
        if password is not None:
            problems.append(f"{where}: password has no meaning where login is false")
    elif password is None or password == "":
        problems.append(f"{where}: password is missing")
    elif not isinstance(password, str):
        problems.append(f"{where}: password must be a string; quote it")
    elif password.startswith(("SCRAM-SHA-256$", "md5")) and len(password) > 34:
        problems.append(f"{where}: password looks like a stored verifier; give the password itself")
    elif "\0" in password:
        problems.append(f"{where}: password holds a NUL character")
    for key, lowest in (("connection_limit", -1), ("connections", 0)):
        if user.get(key) is not None:
            _check_range(f"{where}: {key}", user[key], lowest, 262143, problems)
    if user.get("member_of") is not None and (user["member_of"] not in users or user["member_of"] == user.get("name")):
        problems.append(f"{where}: member_of '{user['member_of']}' is no other role of postgresql_users")
    logins = user.get("logins")
    if logins is not None and not (isinstance(logins, list) and all(is_form(NAME, name) for name in logins)):
        problems.append(f"{where}: logins must be a list of names of roles")
    _check_settings(
        f"{where}: settings", user.get("settings"), problems, {"role": "member_of is for that"}, per_role=True
    )


def logs_in(user: dict[str, Any]) -> bool:
    """Whether somebody logs in as a role; one that only owns a database has members for that."""
    return is_true(user.get("login", True))


def _check_database(where: str, database: dict[str, Any], users: Container[str], problems: list[str]) -> None:
    owner = database.get("owner") or database.get("name")
    if owner not in users:
        problems.append(f"{where}: owner '{owner}' is not in postgresql_users")
    for extension in database.get("extensions") or []:
        if not isinstance(extension, str) or not NAME.fullmatch(extension):
            problems.append(f"{where}: extensions: '{extension}' is not the name of an extension")
    locale = database.get("locale")
    if locale is not None and not LOCALE.fullmatch(str(locale)):
        problems.append(f"{where}: locale '{locale}' is not the name of a locale")


def _check_access(
    where: str, entry: dict[str, Any], users: Container[str], databases: Container[str], problems: list[str]
) -> None:
    if entry.get("database") not in databases:
        problems.append(f"{where}: database '{entry.get('database')}' is not in postgresql_databases")
    if entry.get("user") not in users:
        problems.append(f"{where}: user '{entry.get('user')}' is not in postgresql_users")
    address = entry.get("address")
    if entry.get("type", "hostssl") == "local":
        if address:
            problems.append(f"{where}: address has no meaning for type local")
        return
    if entry.get("method") == "peer":
        problems.append(f"{where}: method peer works with type local only")
    if not address:
        problems.append(f"{where}: address is missing")
        return
    try:
        ipaddress.ip_network(_plain(address))
    except ValueError:
        network = _interface(address)
        if network is None:
            problems.append(f"{where}: address '{address}' is not an IP address or network (such as 10.0.0.3/32)")
        else:
            problems.append(
                f"{where}: address '{address}' is a host and a network at once; did you mean {network.ip} or {network.network}?"
            )


def _check_settings(
    where: str, settings: dict[str, Any] | None, problems: list[str], elsewhere: dict[str, str], per_role: bool = False
) -> None:
    for name, value in (settings or {}).items():
        if not isinstance(name, str) or not SETTING.fullmatch(name):
            problems.append(f"{where}: '{name}' is not the name of a setting")
        elif name in elsewhere:
            problems.append(f"{where}: {name} cannot be set here: {elsewhere[name]}")
        elif per_role and name in LIST_SETTINGS:
            problems.append(f"{where}: {name} is a list and cannot be set here; set it on the database")
        elif isinstance(value, dict) or (isinstance(value, (list, tuple)) and per_role):
            problems.append(f"{where}: the value of {name} must be a string, a number or a boolean")
        elif any(char in _text(value) for char in "\n\r\0"):
            problems.append(f"{where}: the value of {name} must be one line")


def _check_range(where: str, value: object, lowest: int, highest: int, problems: list[str]) -> None:
    if isinstance(value, bool) or not re.fullmatch("-?[0-9]{1,12}", str(value)):
        problems.append(f"{where}: '{value}' is not a whole number")
        return
    number = int(str(value))
    if not lowest <= number <= highest:
        problems.append(f"{where}: {number} is not between {lowest} and {highest}")


def _needed(user: dict[str, Any]) -> int:
    """How many connections a role must be able to have: its limit, where it has one, or what its pools may open."""
    limit = user.get("connection_limit")
    if not logs_in(user):
        return 0
    return max(1, int(user.get("connections") or 0)) if limit is None else max(0, int(limit))


def _check_connections(users: list[dict[str, Any]] | None, most: int, problems: list[str]) -> None:
    needed = [(user.get("member_of") or user["name"], _needed(user)) for user in users or [] if logs_in(user)]
    least = sum(number for _name, number in needed) + RESERVE
    if needed and least > most:
        problems.append(
            f"postgresql_max_connections: {most} are too few: {', '.join(f'{name} needs {n}' for name, n in needed)}, and"
            f" {RESERVE} are kept for management. Set it to {least}, or lower what they need (workers"
            " and DATABASE_POOL_SIZE of an application, connection_limit of a role)"
        )


def postgresql_limits(users: list[dict[str, Any]], max_connections: int | str) -> list[dict[str, Any]]:
    """Give each role without a connection_limit one: what its pools may open, and an equal share of what nobody needs."""
    free = int(max_connections) - RESERVE - sum(_needed(user) for user in users)
    open_ended = [user["name"] for user in users if user.get("connection_limit") is None and logs_in(user)]
    share = max(0, free) // max(1, len(open_ended))
    return [
        {
            **user,
            "login": logs_in(user),
            "connection_limit": _needed(user) + share
            if user["name"] in open_ended
            else int(user.get("connection_limit") or 0),
        }
        for user in users
    ]


def _interface(address: object) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(_plain(address))
    except ValueError:
        return None


def _plain(address: object) -> str:
    """An address as text that is none where it has a zone: what follows the '%' of an IPv6 address may be any text."""
    return str(address).replace("%", " ")


CRON_FIELD = "[0-9A-Za-z*/,-]+"
SCHEDULE = re.compile(rf"@(hourly|daily|midnight|weekly)|{CRON_FIELD}( +{CRON_FIELD}){{4}}")
DIRECTORY = re.compile(r"(/[A-Za-z0-9_.@+-]{1,255}){2,40}")
MAIL = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._%+@,-]{0,999})?")


def postgresql_backup_problems(inputs: dict[str, Any]) -> list[str]:
    """Return what is wrong with the inputs of the role postgresql_backup, one sentence each."""
    problems = []
    for variable in ("postgresql_backup_databases", "postgresql_backup_superuser_databases", "postgresql_backup_purge"):
        names = inputs.get(variable, [])
        if not isinstance(names, list):
            problems.append(f"{variable}: must be a list")
            continue
        for index, name in enumerate(names):
            if not isinstance(name, str) or not NAME.fullmatch(name):
                problems.append(f"{variable}[{index}]: '{name}' is not a valid name ({NAME_RULE})")
            elif name in ("template0", "template1") or name.startswith(SCRATCH):
                problems.append(f"{variable}[{index}]: '{name}' is not a database to back up")
            elif name in names[:index]:
                problems.append(f"{variable}[{index}]: '{name}' is there twice")
    timeouts = inputs["postgresql_backup_timeouts"] or {}
    if not isinstance(timeouts, dict):
        problems.append("postgresql_backup_timeouts: must be a dictionary of databases and seconds")
        timeouts = {}
    for name, seconds in timeouts.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(f"postgresql_backup_timeouts: '{name}' is not a valid name ({NAME_RULE})")
        else:
            _check_range(f"postgresql_backup_timeouts: {name}", seconds, 1, 7 * 86400, problems)
    directory = str(inputs["postgresql_backup_directory"] or "")
    if not DIRECTORY.fullmatch(directory) or "/.." in directory:
        problems.append("postgresql_backup_directory: must be an absolute path with two parts at least and no spaces")
    if not SCHEDULE.fullmatch(str(inputs["postgresql_backup_schedule"])):
        problems.append(
            "postgresql_backup_schedule: must be five fields as in crontab(5), or @hourly, @daily or @weekly"
        )
    if not MAIL.fullmatch(str(inputs["postgresql_backup_mailto"] or "")):
        problems.append("postgresql_backup_mailto: must be an address, or several with commas and no spaces")
    for variable, lowest, highest in (
        ("postgresql_backup_keep_days", 1, 36500),
        ("postgresql_backup_keep_last", 1, 10000),
        ("postgresql_backup_reserve_mb", 0, 10**9),
        ("postgresql_backup_port", 1, 65535),
    ):
        _check_range(variable, inputs[variable], lowest, highest, problems)
    return problems


# ---------------------------------------------------------------------------------------------------------------------
# Configuration files


def postgresql_value(value: object) -> str:
    """Return a value as postgresql.conf wants it: quoted, so that nothing in it has a meaning."""
    text = _text(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def postgresql_access(
    access: Iterable[dict[str, Any]], databases: list[dict[str, Any]], users: Iterable[dict[str, Any]] = ()
) -> list[str]:
    """Return the lines of pg_hba.conf: the owners through the unix socket, then what was asked for, each once.

    A role that others are members of stands for these too.
    """
    groups = {user["member_of"] for user in users if user.get("member_of")}
    entries = [{"type": "local", "database": d["name"], "user": d.get("owner") or d["name"]} for d in databases]
    lines = []
    for entry in entries + list(access):
        kind = entry.get("type", "hostssl")
        address = "" if kind == "local" else str(ipaddress.ip_network(entry["address"]))
        method = entry.get("method") or "scram-sha-256"
        user = "+" * (entry["user"] in groups) + quoted(entry["user"])
        line = f"{kind:<8} {quoted(entry['database']):<20} {user:<20} {address:<20} {method}"
        if line not in lines:
            lines.append(line)
    return lines


def _literal(text: str) -> str:
    return (
        "'" + text.replace("'", "''") + "'"
        if "\\" not in text
        else "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(entry) for entry in value)
    return str(value)


# ---------------------------------------------------------------------------------------------------------------------
# The server's state and what it lacks


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
    rows = _rows(state)
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


def postgresql_kept(answer: str, databases: list[dict[str, Any]], remove: Iterable[str]) -> dict[str, Any]:
    """Return what databases that are no longer in the lists keep: who may connect, and what the server needs for that.

    The answer is that of the server to templates/state.sql.j2, if it answered, and pg_hba.conf in base64.
    """
    rows = _rows(answer)
    server = rows[0] if rows else {}
    gone = {*(database["name"] for database in databases), *remove}
    found = [match for match in map(ACCESS.fullmatch, _access_in(answer).splitlines()) if match]
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
    access = _access_in(answer)
    if not access or OURS in access:
        return []
    server = (_rows(answer) or [{}])[0]
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


def _access_in(answer: str) -> str:
    """What the last line of an answer holds: pg_hba.conf."""
    try:
        return base64.b64decode((answer.splitlines() or [""])[-1], validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""


def _rows(state: str) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in state.splitlines() if line.startswith("{")]
    except ValueError as error:
        raise AnsibleFilterError("postgresql_plan: the server's answer is not what was asked for") from error


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
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {_literal(name)}",  # noqa: S608
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
    wanted = {key: _text(value) for key, value in settings.items() if value is not None}
    there = dict(entry.split("=", 1) for entry in roles.get(user["name"], {}).get("settings") or [])
    role_name = quoted(user["name"])
    reset = not set(there) <= set(wanted)
    return [
        *([f"ALTER ROLE {role_name} RESET ALL"] if reset else []),
        *(
            f"ALTER ROLE {role_name} SET {_setting(key)} TO {_literal(value)}"
            for key, value in sorted(wanted.items())
            if reset or there.get(key) != value
        ),
    ]


def _setting(name: str) -> str:
    return ".".join(quoted(part) for part in name.split("."))


def _same_locale(name: object) -> str:
    """The name of a locale as ``locale -a`` writes it, de_DE.utf8 for de_DE.UTF-8."""
    language, dot, rest = str(name).partition(".")
    codeset, at, modifier = rest.partition("@")
    return language + dot + codeset.lower().replace("-", "") + at + modifier


def postgresql_foreign(state: str, databases: list[dict[str, Any]]) -> list[str]:
    """Return why databases cannot be as they are wanted, one sentence each: another owner, or a locale that the host lacks."""
    there = (_rows(state) or [{"databases": {}}])[0]["databases"]
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


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "postgresql_access": postgresql_access,
            "postgresql_foreign": postgresql_foreign,
            "postgresql_kept": postgresql_kept,
            "postgresql_limits": postgresql_limits,
            "postgresql_backup_problems": postgresql_backup_problems,
            "postgresql_plan": postgresql_plan,
            "postgresql_problems": postgresql_problems,
            "postgresql_troubles": postgresql_troubles,
            "postgresql_used": postgresql_used,
            "postgresql_value": postgresql_value,
        }
