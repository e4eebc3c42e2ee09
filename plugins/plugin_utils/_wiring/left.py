# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What leaves a host, and what is on it though the inventory does not have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.names import NAME


def removals(remove: list[str], purge: list[str]) -> dict[str, list[str]]:
    """What goes with the applications of -e asgi_remove and -e asgi_purge, as inputs of the other roles."""
    return {
        "certificates_remove": remove,
        "nginx_remove_sites": [name + kind for name in remove for kind in ("", "_backend")],
        "postgresql_remove_databases": remove,
        "postgresql_purge_databases": purge,
        "postgresql_backup_purge": purge,
    }


def wiring_left(
    applications: Iterable[str], sites: Iterable[str], databases: Iterable[str], kept: Sequence[Any] = ()
) -> list[str]:
    """Sentences on what is on a host and not in the inventory: applications, files of sites, databases, data put aside."""
    found: dict[str, list[str]] = {}
    for name in applications:
        found.setdefault(name, []).append("application")
    for path in sites:
        site = path.rpartition("/")[2].removesuffix(".conf")
        application = site.removesuffix("_backend")
        found.setdefault(application if application in found else site, []).append(f"site {site}")
    for name in databases:
        found.setdefault(name, []).append("database")
    return [
        f"{name} is not in the inventory and goes on as it is ({', '.join(things)}). "
        + (
            f"To take it away and keep its data: -e asgi_remove={name} with the playbook site"
            if NAME.fullmatch(name)
            else f"To take it away: nginx_remove_sites: [{name}]"
        )
        for name, things in found.items()
    ] + [f"Kept of what was taken away, until -e asgi_purge=NAME: {', '.join(kept)}"] * bool(kept)
