# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application meets its database: roles and access there, and what its environment says of it here."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.limits import RESERVE
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.topology import Topology

SOCKET_DIRECTORY = "/var/run/postgresql"  # where Debian's PostgreSQL and its clients meet
LOOPBACK = "127.0.0.1"
# What libpq reads, and asyncpg; those that say together whose database it is.
LIBPQ = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "name"}
TOGETHER = ("PGHOST", "PGHOSTADDR", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")
POOL_SIZE = 4  # of vivarium_settings, and of psycopg's pool itself
COMMANDS = 2  # that run beside the processes of a host: a migration, somebody's manage.py


def inputs(topology: Topology, apps: Sequence[App]) -> dict[str, Any]:
    """What the roles postgresql and postgresql_backup are told, of the applications that have a database."""
    return {
        "postgresql_users": [user for app in apps for user in users(topology, app)],
        "postgresql_required_users": [name for app in apps for name in required_users(app)],
        "postgresql_max_connections": max_connections(topology, apps),
        "postgresql_databases": [
            {"name": app["name"], "owner": app["name"], "extensions": app["database_extensions"]} for app in apps
        ],
        "postgresql_access": [entry for app in apps for entry in access(topology, app)],
        "postgresql_listen_addresses": listen_addresses(topology, apps),
        # Every database there is, so that none leaves its backups because it left the inventory.
        "postgresql_backup_databases": [],
        "postgresql_backup_port": port(topology),
    }


# What the environment of an application says.


def variables(topology: Topology, app: App) -> list[tuple[str, str, bool]]:
    """What the environment says of an application's database: name, value, whether it is secret; the inventory's own win."""
    place = _place(topology, app)
    parts = {
        **{key: (place[key], key == "password") for key in ("host", "port", "user", "password", "name")},
        "url": (_url(place, "postgresql"), True),
    }
    found = {"DATABASE_URL": parts["url"]}
    own = app["env"].keys() | (app["secrets"].keys() - {"DATABASE_PASSWORD"})
    # They say together where something is: beside another server's, ours would send it our password.
    if not own & set(TOGETHER):
        found |= {name: parts[part] for name, part in LIBPQ.items()}
    if place["sslmode"]:
        found["PGSSLMODE"] = (place["sslmode"], False)
    for name, what in app["database_variables"].items():
        found[name] = parts.get(what) or (_url(place, what), True)
    return [(name, value, secret) for name, (value, secret) in found.items() if name not in own]


def _place(topology: Topology, app: App) -> dict[str, str]:
    """Where an application's database is, and who it logs in as."""
    password = str(app["secrets"].get("DATABASE_PASSWORD", ""))
    own_host = LOOPBACK if app["database_tcp"] else SOCKET_DIRECTORY
    return {
        "host": own_host if topology.is_db else str(topology.address(topology.db[0])),
        "port": str(port(topology)),
        "user": login(app["name"], password),
        "password": password,
        "name": app["name"],
        "sslmode": "" if topology.is_db else "require",
    }


def _url(place: dict[str, str], scheme: str) -> str:
    """An address of which no part but the password may hold a '%', which configparser (Alembic) takes for its own.

    It says nothing of TLS, which drivers call differently: PGSSLMODE does.
    """
    who = f"{place['user']}:{quote(place['password'], safe='')}"
    host, number, name = place["host"], place["port"], place["name"]
    if host.startswith("/"):
        # SQLAlchemy's drivers take the host of the query, and pydantic asks for one before the slash as well.
        before = "localhost" if "+" in scheme else ""
        return f"{scheme}://{who}@{before}/{name}?host={host}" + (f"&port={number}" if number != "5432" else "")
    return f"{scheme}://{who}@{f'[{host}]' if ':' in host else host}:{number}/{name}"


def port(topology: Topology) -> int:
    """The port of the database server, which its own variables may say."""
    if not topology.db or "postgresql_port" not in topology.raw(topology.db[0]):
        return 5432
    number = str(topology.hostvars[topology.db[0]]["postgresql_port"])
    if not re.fullmatch("[1-9][0-9]{0,4}", number):
        raise AnsibleFilterError(f"postgresql_port of {topology.db[0]} must be a number of 1 to 65535")
    return int(number)


# Who may do what there.


@functools.cache
def login(application: str, password: str) -> str:
    """The role that an application logs in as: one for each password, so that a new one locks nobody out who has the one before.

    Whoever may log in to the server sees its name. It is made slowly, and gives away sixteen bits of the password at most.
    """
    name = hashlib.pbkdf2_hmac("sha256", password.encode(errors="replace"), application.encode(), 20_000).hex()
    return f"{application}-{name[:4]}"


def users(topology: Topology, app: App) -> list[dict[str, Any]]:
    """The role that owns the database, and the one that the application logs in as with its password."""
    password = app["secrets"].get("DATABASE_PASSWORD")
    owner = {"name": app["name"], "login": False}
    hosts = [topology.raw(host).get("wiring_host", {}).get("database_roles") for host in topology.app]
    known = [None if roles is None else roles.get(app["name"], []) for roles in hosts]
    # What kept releases log in as goes on. Where one of the hosts did not say, nothing is closed.
    if None not in known:
        owner["logins"] = sorted({name for names in known if names for name in names})
    return [
        owner,
        {
            "name": login(app["name"], str(password or "")),
            "password": password,
            "member_of": app["name"],
            "connections": connections(topology, app),
        },
    ]


def required_users(app: App) -> list[str]:
    """The roles without which its release could not log in; an inventory may say another address."""
    if "DATABASE_URL" in {*app["env"], *app["secrets"]}:
        return []
    return [app["name"], login(app["name"], str(app["secrets"].get("DATABASE_PASSWORD", "")))]


def access(topology: Topology, app: App) -> list[dict[str, str]]:
    """Who may connect to the application's database: its own role, from the application servers alone."""
    entry = {"database": app["name"], "user": app["name"], "method": "scram-sha-256"}
    if not topology.is_db:
        return []
    local = [{"type": "local", **entry}]
    if _uses_loopback(topology, app):
        local.append({"type": "host", **entry, "address": f"{LOOPBACK}/32"})
    return local + [
        {"type": "hostssl", **entry, "address": str(ipaddress.ip_network(topology.address(host)))}
        for host in topology.remote_apps
    ]


def _uses_loopback(topology: Topology, app: App) -> bool:
    """Whether an application speaks TCP to the database server on its own host."""
    return app["database_tcp"] and topology.is_db and topology.is_app


def listen_addresses(topology: Topology, apps: Sequence[App]) -> list[str]:
    """Where the database server answers TCP."""
    if not apps or not topology.is_db:
        return []
    loopback = [LOOPBACK] * any(_uses_loopback(topology, app) for app in apps)
    return loopback + ([str(topology.address(topology.host))] if topology.remote_apps else [])


# How much of it.


def connections(topology: Topology, app: App) -> int:
    """How many connections an application may need: the pools of all hosts, twice while a release gives way to the next."""
    try:
        pool = max(1, int(str(app["env"].get("DATABASE_POOL_SIZE", POOL_SIZE))))
    except ValueError:
        pool = POOL_SIZE
    pools = 2 * (app["workers"] + len(app["processes"])) * pool
    return max(1, len(topology.app)) * (pools + len(app["timers"]) + COMMANDS)


def max_connections(topology: Topology, apps: Sequence[App]) -> int:
    """What the server has to take: PostgreSQL's default while that will do; by fifties, since a change needs a restart."""
    needed = sum(connections(topology, app) for app in apps) + RESERVE
    return max(100, -(-needed // 50) * 50)
