# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inputs of every role on one host, derived from the applications and the groups; a file beside this one for each meeting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.complete import asgi_apps
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.names import asgi_removable
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring import (
    certificates,
    checks,
    database,
    python,
    sites,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.left import removals
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.topology import Topology
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.words import listed
from ansible_collections.vivarium.server.plugins.plugin_utils.argument_specs import options_of


def wiring(
    apps: Any,
    host: str,
    groups: Mapping[str, Sequence[str]],
    hostvars: Any,
    https_port: Any = 443,
    http_port: Any = 80,
    version: Any = None,
    required: bool = False,
    remove: Any = "",
    purge: Any = "",
    skip: Any = "",
    acme: Any = "",
) -> dict[str, Any]:
    """Return the inputs of every role on one host."""
    if required and not apps:
        raise AnsibleFilterError(
            f"asgi_apps has no application on {host}, so there is nothing to do. It belongs into group_vars/all of the inventory"
        )
    if not apps:
        Display().warning("asgi_apps is empty or not set: no application is set up by this run.")
    topology = Topology(host, groups, hostvars, int(https_port), int(http_port), listed(skip))
    return (
        _derive(topology, apps, version)
        | {"nginx_acme_peers": sites.peers(topology) if acme else []}
        | removals(asgi_removable(remove, apps), asgi_removable(purge, apps, "asgi_purge"))
    )


def _derive(topology: Topology, apps: Any, version: Any) -> dict[str, Any]:
    checks.check_lists(topology, apps)
    checks.check_groups(topology, apps)
    derived = {app["name"]: _added(topology, app) for app in asgi_apps(apps, version=version)}
    completed = asgi_apps(apps, derived, version)
    with_database = [app for app in completed if app["database"]]
    checks.check_database_servers(topology, with_database)
    return {
        "asgi_derived": derived,
        "nginx_sites": [site for app in completed for site in sites.sites(topology, app)],
        "certificates_requests": [
            certificates.request(app) for app in completed if topology.is_web and not app["under"]
        ],
        **database.inputs(topology, with_database),
        "python_libraries": python.libraries(completed),
    }


def _added(topology: Topology, app: App) -> dict[str, Any]:
    """What the topology adds to an application: its database, its public origins, the way to it through nginx."""
    env = sites.origins(topology, app)
    secrets: dict[str, str] = {}
    if app["database"] and topology.is_app and topology.db:
        for name, value, secret in database.variables(topology, app):
            (secrets if secret else env)[name] = value
    return {"env": env, "secrets": secrets, "verify": sites.way(topology, app), "hosts": max(1, len(topology.app))}


def wiring_argument_spec(roles: Iterable[str]) -> dict[str, Any]:
    """Return the options of the roles of this collection, as validate_argument_spec takes them."""
    options: dict[str, Any] = {}
    for role in roles:
        options |= options_of(role)
    return options
