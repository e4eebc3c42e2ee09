# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many connections each role may have, and whether the server takes them all."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_true

# Connections that no application gets: the superuser's (superuser_reserved_connections is 3), backups, people who look.
RESERVE = 10


def logs_in(user: dict[str, Any]) -> bool:
    """Whether somebody logs in as a role; one that only owns a database has members for that."""
    return is_true(user.get("login", True))


def connections_of(user: dict[str, Any]) -> int:
    """How many connections a role must be able to have: its limit, where it has one, or what its pools may open."""
    limit = user.get("connection_limit")
    if not logs_in(user):
        return 0
    return max(1, int(user.get("connections") or 0)) if limit is None else max(0, int(limit))


def check_connections(users: list[dict[str, Any]] | None, most: int, problems: list[str]) -> None:
    needed = [(user.get("member_of") or user["name"], connections_of(user)) for user in users or [] if logs_in(user)]
    least = sum(number for _name, number in needed) + RESERVE
    if needed and least > most:
        problems.append(
            f"postgresql_max_connections: {most} are too few: {', '.join(f'{name} needs {n}' for name, n in needed)}, and"
            f" {RESERVE} are kept for management. Set it to {least}, or lower what they need (workers"
            " and DATABASE_POOL_SIZE of an application, connection_limit of a role)"
        )


def postgresql_limits(users: list[dict[str, Any]], max_connections: int | str) -> list[dict[str, Any]]:
    """Give each role without a connection_limit one: what its pools may open, and an equal share of what nobody needs."""
    free = int(max_connections) - RESERVE - sum(connections_of(user) for user in users)
    open_ended = [user["name"] for user in users if user.get("connection_limit") is None and logs_in(user)]
    share = max(0, free) // max(1, len(open_ended))
    return [
        {
            **user,
            "login": logs_in(user),
            "connection_limit": connections_of(user) + share
            if user["name"] in open_ended
            else int(user.get("connection_limit") or 0),
        }
        for user in users
    ]
