# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lines of pg_hba.conf: who may connect to what, from where."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._postgresql.names import quoted


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
