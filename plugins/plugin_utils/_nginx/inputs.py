# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with the inputs of the role nginx."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import (
    DURATION,
    NAME,
    PATH,
    address_and_port,
    is_number,
    path_problems,
    repeated,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.headers import header_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.limits import connection_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.site import nginx_site_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.there import OWN
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import extra_problems, is_switch

TIMES = (
    "nginx_client_header_timeout",
    "nginx_client_body_timeout",
    "nginx_send_timeout",
    "nginx_keepalive_timeout",
    "nginx_worker_shutdown_timeout",
)


def nginx_problems(inputs: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that is wrong with the role's inputs; none when they are usable."""
    problems = extra_problems(inputs, ["nginx_sites"]) + nginx_site_problems(inputs["nginx_sites"])
    ports = [inputs["nginx_http_port"], inputs["nginx_https_port"]]
    if not all(is_number(port, 1, 65535) for port in ports) or int(ports[0]) == int(ports[1]):
        problems.append(f"nginx_http_port ({ports[0]}) and nginx_https_port ({ports[1]}) must be two different ports")
    problems += header_problems(inputs["nginx_security_headers"])
    if not is_switch(inputs.get("nginx_ipv6", True)):
        problems.append(f"nginx_ipv6: '{inputs['nginx_ipv6']}' is neither true nor false")
    for name, default in (("nginx_http3", False), ("nginx_brotli", True)):
        if not is_switch(inputs.get(name, default)):
            problems.append(f"{name}: '{inputs[name]}' is neither true nor false")
    directory = inputs.get("nginx_acme_directory", "/var/lib/vivarium/acme")
    problems += [f"nginx_acme_directory: {problem}" for problem in path_problems(directory)]
    peers = inputs.get("nginx_acme_peers", [])
    if not isinstance(peers, list) or not all(address_and_port(peer) for peer in peers):
        problems.append("nginx_acme_peers must be a list of ADDRESS:PORT, an address and not a host name")
    if not is_number(inputs.get("nginx_worker_connections", 4096), 16, 1_000_000):
        problems.append(
            f"nginx_worker_connections: '{inputs['nginx_worker_connections']}' is not a number from 16 to 1000000"
        )
    for name in TIMES:
        timeout = inputs.get(name, "1h")
        if isinstance(timeout, bool) or not DURATION.match(str(timeout)):
            problems.append(f"{name}: '{timeout}' is not a time such as 90s or 1h30m")
    problems += connection_problems(inputs.get("nginx_connection_limit", 0), "nginx_connection_limit")
    remove, sites = inputs.get("nginx_remove_sites", []), inputs["nginx_sites"]
    if not isinstance(remove, list):
        problems.append("nginx_remove_sites must be a list of names")
    else:
        listed = [site.get("name") for site in sites if isinstance(site, dict)] if isinstance(sites, list) else []
        for name in remove:
            if not isinstance(name, str) or not NAME.match(name):
                problems.append(f"nginx_remove_sites: '{name}' is not the name of a site")
            elif name in listed:
                problems.append(f"nginx_remove_sites: '{name}' is in nginx_sites; take it out there first")
    if not is_switch(inputs.get("nginx_take_over", False)):
        problems.append(f"nginx_take_over: '{inputs['nginx_take_over']}' is neither true nor false")
    include = inputs.get("nginx_include", [])
    if not isinstance(include, list):
        problems.append("nginx_include must be a list of paths")
    else:
        problems += [
            f"nginx_include: '{path}' must be the absolute path of a file, without blanks or special characters"
            for path in include
            if not isinstance(path, str) or not PATH.match(path) or path.endswith("/") or "/../" in path
        ]
        problems += [f"nginx_include: '{path}' is listed twice" for path in repeated(map(str, include))]
        problems += [f"nginx_include: '{path}' is read anyway" for path in map(str, include) if path.startswith(OWN)]
    if not isinstance(inputs.get("nginx_extra", ""), str):
        problems.append("nginx_extra must be a text")
    return problems
