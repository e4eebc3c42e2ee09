# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the groups of an inventory and its applications make a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.names import wiring_names
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.topology import Topology
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.words import found, some

# What people call a group of web servers; an inventory without any says so with an empty group.
LIKE_WEB_SERVERS = re.compile(r"(web|www|nginx|front|proxy|proxies|lb|load).*")


def check_lists(topology: Topology, apps: Any) -> None:
    """Each host derives its part from the whole list: what one has and another has not would be taken for removed there."""
    hosts = list(dict.fromkeys([*topology.app, *topology.web, *topology.db]))
    if not hosts or topology.host not in hosts or not topology.hostvars:
        return
    own = topology.raw(topology.host).get("asgi_apps")
    # The first asks all, the others the first: a fleet does not ask each other.
    asked = hosts[1:] if topology.host == hosts[0] else hosts[:1]
    same = all(own is other or own == other for other in (topology.raw(host).get("asgi_apps") for host in asked))
    # One text may stand for a list of each host's own.
    if same and isinstance(own, str) and topology.host != hosts[0]:
        same = _identities(topology.hostvars[hosts[0]]["asgi_apps"]) == _identities(apps)
    if same:
        return
    lists = {host: topology.raw(host).get("asgi_apps") for host in hosts}
    said = {host: wiring_names(value) or ("a list of its own" if value else "none") for host, value in lists.items()}
    raise AnsibleFilterError(
        "asgi_apps is not the same on all hosts of web_servers, app_servers and db_servers ("
        + some(f"{host}: {value}" for host, value in said.items())
        + "). Each host derives its sites, databases and access from the whole list, so nothing was changed. Put the list"
        " into group_vars/all. Servers with applications of their own are an inventory each"
    )


def _identities(apps: Any) -> list[Any]:
    """What two hosts must agree on: the rest of a description may hold what differs from host to host."""
    return [
        (app.get("name"), list(app.get("domains") or []), app.get("path"), app.get("port"))
        if isinstance(app, dict)
        else app
        for app in (apps if isinstance(apps, list) else [])
    ]


def check_groups(topology: Topology, apps: Any) -> None:
    """Somebody has to run the applications, and to show them."""
    if not apps:
        return
    groups = topology.groups
    if not topology.app:
        raise AnsibleFilterError(
            f"no host would run the applications of asgi_apps: the inventory group app_servers is empty. {found(groups)}"
        )
    others = [name for name, hosts in groups.items() if hosts and LIKE_WEB_SERVERS.fullmatch(name.lower())]
    if "web_servers" not in groups and others:
        raise AnsibleFilterError(
            "no host would show the applications of asgi_apps to visitors: the inventory has no group web_servers, but"
            f" {some(others)}. Put that group into ours (web_servers: {{children: {{{others[0]}: {{}}}}}}), or say with an"
            " empty one that there is none (web_servers: {})"
        )


def check_database_servers(topology: Topology, apps: Sequence[App]) -> None:
    """All applications that have a database have it on the same host."""
    if apps and not topology.db:
        raise AnsibleFilterError(
            f"asgi_apps: {apps[0]['name']} has a database, but the inventory group db_servers is empty"
            f" (set the application's 'database: false' if it needs none). {found(topology.groups)}"
        )
    if apps and len(topology.db) > 1:
        raise AnsibleFilterError(
            f"the inventory group db_servers has {len(topology.db)} hosts ({', '.join(topology.db)}): it must be one, which holds"
            " the databases of all applications. Servers that each hold everything of their own are an inventory each: run"
            " the playbook with -i inventories/one, then with -i inventories/two"
        )
