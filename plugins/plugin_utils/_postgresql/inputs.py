# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with the inputs of the role postgresql."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container, Iterator
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._postgresql.names import LIST_SETTINGS, SCRATCH
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.limits import check_connections, logs_in
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.words import NAME, NAME_RULE, as_text
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import PACKAGE, extra_problems, is_form, is_switch

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
    check_range("postgresql_port", inputs["postgresql_port"], 1, 65535, problems)
    check_range("postgresql_max_connections", inputs["postgresql_max_connections"], 10, 262143, problems)
    if not problems:
        check_connections(inputs["postgresql_users"], int(inputs["postgresql_max_connections"]), problems)
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
            check_range(f"{where}: {key}", user[key], lowest, 262143, problems)
    if user.get("member_of") is not None and (user["member_of"] not in users or user["member_of"] == user.get("name")):
        problems.append(f"{where}: member_of '{user['member_of']}' is no other role of postgresql_users")
    logins = user.get("logins")
    if logins is not None and not (isinstance(logins, list) and all(is_form(NAME, name) for name in logins)):
        problems.append(f"{where}: logins must be a list of names of roles")
    _check_settings(
        f"{where}: settings", user.get("settings"), problems, {"role": "member_of is for that"}, per_role=True
    )


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
        elif any(char in as_text(value) for char in "\n\r\0"):
            problems.append(f"{where}: the value of {name} must be one line")


def check_range(where: str, value: object, lowest: int, highest: int, problems: list[str]) -> None:
    if isinstance(value, bool) or not re.fullmatch("-?[0-9]{1,12}", str(value)):
        problems.append(f"{where}: '{value}' is not a whole number")
        return
    number = int(str(value))
    if not lowest <= number <= highest:
        problems.append(f"{where}: {number} is not between {lowest} and {highest}")


def _interface(address: object) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(_plain(address))
    except ValueError:
        return None


def _plain(address: object) -> str:
    """An address as text that is none where it has a zone: what follows the '%' of an IPv6 address may be any text."""
    return str(address).replace("%", " ")
