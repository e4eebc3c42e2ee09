# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The headers of answers that nginx adds, and those of requests that an application sees."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import (
    HEADER,
    HEADER_VALUE,
    identifier,
    repeated,
)

# What nginx itself tells an application.
OWN_HEADERS = ("host", "connection", "upgrade", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x-request-id")
# By which a proxy in front says who asks; as __nginx_cleared_headers of the role has them.
CLIENT_HEADERS = (
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "cloudfront-viewer-address",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "incap-client-ip",
    "proxy-client-ip",
    "true-client-ip",
    "via",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-client-real-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-forwarded-by",
    "x-nf-client-connection-ip",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-remote-addr",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-port",
    "x-remote-addr",
    "x-remote-ip",
    "x-sucuri-clientip",
    "x-vercel-forwarded-for",
)
# What nginx itself says of an answer.
FRAMING = ("connection", "content-length", "content-type", "date", "location", "server", "transfer-encoding", "upgrade")


def pass_problems(names: list[Any], where: str = "pass_headers") -> list[str]:
    """What is wrong with the headers of clients that pass."""
    problems = []
    for name in names:
        if not isinstance(name, str) or not HEADER.match(name):
            problems.append(f"{where}: '{name}' is not a header of letters, digits and hyphens")
        elif name.lower() in OWN_HEADERS:
            problems.append(f"{where}: nginx itself says {name}, a client's own never passes")
    return problems


def header_problems(headers: Any) -> list[str]:
    """What is wrong with the headers of every answer."""
    if (
        not isinstance(headers, dict)
        or not all(HEADER.match(str(name)) and HEADER_VALUE.match(str(value)) for name, value in headers.items())
        or repeated(str(name).lower() for name in headers)
    ):
        return [
            "nginx_security_headers is a dictionary of header names and values; a value has no quotation marks, dollar signs,"
            " backslashes or line breaks"
        ]
    if "strict-transport-security" in {str(name).lower() for name in headers}:
        return ["nginx_security_headers: what Strict-Transport-Security says is decided for each site, by its hsts"]
    return []


def site_header_problems(headers: object, where: str = "headers") -> list[str]:
    """What is wrong with the headers that a site adds to those of every answer, or takes away."""
    if not isinstance(headers, dict):
        return [f"{where} must be a dictionary of names and values; null takes a header away"]
    problems = [
        f"{where}: '{name}' is there more than once" for name in repeated(str(name).lower() for name in headers)
    ]
    for name, value in headers.items():
        if not isinstance(name, str) or not HEADER.match(name):
            problems.append(f"{where}: {name!r:.80} is not a header of letters, digits and hyphens")
        elif name.lower() == "strict-transport-security":
            problems.append(f"{where}: what Strict-Transport-Security says is decided by hsts")
        elif name.lower() in FRAMING:
            problems.append(f"{where}: {name} is nginx's own")
        elif value is not None and not (isinstance(value, str) and HEADER_VALUE.match(value)):
            problems.append(
                f"{where}.{name} must be a text of at most 3000 characters without double quotation marks, dollar signs,"
                " backslashes and line breaks, or null"
            )
    return problems


def own_headers_of(site: dict[str, Any]) -> list[dict[str, str]]:
    """The headers that a site adds, each with its variable."""
    return [
        # No header begins with a digit: the variable is none of those for all sites.
        {"name": name, "value": value, "variable": f"vivarium_header_{number}_{identifier(site['name'])}"}
        for number, (name, value) in enumerate(site["headers"].items(), 1)
        if value is not None
    ]


def headers_of(site: dict[str, Any], common: dict[str, Any]) -> list[dict[str, str]]:
    """The headers of every answer of a site: those for all sites that it says nothing about, and its own."""
    own = {name.lower() for name in site["headers"]}
    return [
        {"name": name, "variable": f"vivarium_header_{identifier(name.lower())}"}
        for name in common
        if name.lower() not in own
    ] + own_headers_of(site)
