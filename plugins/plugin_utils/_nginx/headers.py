# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The headers of answers that nginx adds, and those of requests that an application sees."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import HEADER, HEADER_VALUE, repeated

# What nginx itself tells an application.
OWN_HEADERS = ("host", "connection", "upgrade", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x-request-id")


def pass_problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with the headers of clients that pass."""
    problems = []
    for name in site["pass_headers"]:
        if not isinstance(name, str) or not HEADER.match(name):
            problems.append(f"pass_headers: '{name}' is not a header of letters, digits and hyphens")
        elif name.lower() in OWN_HEADERS:
            problems.append(f"pass_headers: nginx itself says {name}, a client's own never passes")
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
