# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How requests come to a site and go on from it: certificate, proxies in front, upstream."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import (
    HIDDEN,
    PATH,
    address_and_port,
    is_network,
    path_problems,
)

# What is for the site that visitors come to: they are not the ones who ask a backend site.
PUBLIC = ("certificate", "redirect_domains", "rate_limits", "connection_limit", "protect", "locations")


def upstream_problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with what answers for a site."""
    problems = []
    for upstream in site["upstream"]:
        if str(upstream).startswith("unix:"):
            path = str(upstream)[len("unix:") :]
            if not PATH.match(path) or ":" in path or "/../" in f"{path}/":
                problems.append(f"upstream: '{upstream}' needs an absolute path after unix:")
            elif path.startswith(HIDDEN):
                problems.append(
                    f"upstream: '{upstream}' lies where the sandbox of nginx sees nothing: {', '.join(HIDDEN)}"
                )
        elif not address_and_port(upstream):
            problems.append(
                f"upstream: '{upstream}' is neither unix:/path nor ADDRESS:PORT (an address, not a host name:"
                " nginx does not start when it cannot look one up)"
            )
    if site["enabled_by"] is not None:
        problems += [f"enabled_by: {problem}" for problem in path_problems(site["enabled_by"])]
    if not site["upstream"] and not site["static"] and not site["media"]:
        problems.append("has neither an upstream nor static or media files to serve")
    return problems


def certificate_problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with where the certificate and its key lie."""
    certificate = site["certificate"]
    if not certificate:
        return []
    if not isinstance(certificate, dict):
        return ["certificate is a dictionary of a certificate and its key"]
    problems = []
    for key in ("certificate", "key"):
        path = certificate.get(key)
        if not path:
            problems.append(f"certificate: {key} is missing: a certificate and its key come together")
        elif not PATH.match(str(path)) or "/../" in f"{path}/":
            problems.append(f"certificate: {key} must be an absolute path without blanks or special characters")
        elif str(path).startswith(HIDDEN):
            problems.append(f"certificate: {key} lies where the sandbox of nginx sees nothing: {', '.join(HIDDEN)}")
    return problems


def backend_problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with a backend site."""
    problems = []
    if site["listen"]:
        if not site["trusted_proxies"]:
            problems.append("listen needs trusted_proxies: a backend site answers nobody but its trusted proxies")
        if not address_and_port(site["listen"]):
            problems.append(f"listen: '{site['listen']}' is not ADDRESS:PORT")
        for key in PUBLIC:
            if site[key]:
                problems.append(f"{key} belongs to the public site, not to a backend site (listen)")
    problems += proxy_problems(site["trusted_proxies"])
    return problems


def proxy_problems(proxies: list[Any], where: str = "trusted_proxies") -> list[str]:
    """What is wrong with the addresses of proxies in front."""
    return [
        f"{where}: '{proxy}' is neither an address nor a network"
        if not is_network(proxy)
        else f"{where}: '{proxy}' is everybody"
        for proxy in proxies
        if not is_network(proxy) or str(proxy).endswith("/0")
    ]
