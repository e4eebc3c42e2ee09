# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A site with every default, and with what the templates derive from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx import pages
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import identifier, networks
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.headers import headers_of, own_headers_of
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.limits import limits_of
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.locations import locations_of
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.protect import passes, rules_of, users_of
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.static import location
from ansible_collections.vivarium.server.plugins.plugin_utils.hsts import decided, header

# The files of a site.
PARTS = ("conf", "names", "users")

DEFAULTS: dict[str, Any] = {
    "upstream": [],
    "enabled_by": None,
    "certificate": None,
    "static": [],
    "media": [],
    "hsts": True,
    "client_max_body_size": "10m",
    "read_timeout": 60,
    "websocket_timeout": 3600,
    "redirect_domains": [],
    "listen": None,
    "trusted_proxies": [],
    "pass_headers": [],
    "title": None,
    "pages": None,
    "headers": {},
    "rate_limits": {},
    "connection_limit": None,
    "protect": {},
    "health_path": None,
    "locations": {},
    "extra": "",
}


def complete(site: dict[str, Any]) -> dict[str, Any]:
    """A site with every default filled in."""
    # A null is what a wiring writes where a site does not have the thing.
    return {**DEFAULTS, **{key: value for key, value in site.items() if value is not None}}


def nginx_sites(sites: list[dict[str, Any]], headers: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the sites with every default filled in and with what the templates derive from them."""
    sites = [complete(site) for site in sites]
    first: dict[str, str] = {}
    for site in sites:
        if site["certificate"] and not site["listen"]:
            first.setdefault(site["certificate"]["certificate"], identifier(site["name"]))
    return [
        {
            **_derive(site, headers or {}),
            "certificate_id": first.get((site["certificate"] or {}).get("certificate", "")),
        }
        for site in sites
    ]


def nginx_site_files(
    sites: list[dict[str, Any]], directory: str, pages_directory: str, maintenance: str, remove: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Return what vivarium.server.files writes for completed sites, and removes of those that are to go."""
    files = []
    for site in sites:
        # The names that its certificate is shown for; a file without a purpose goes.
        secure = site["certificate"] and not site["backend"]
        parts = {"conf": "site.conf.j2", "names": "site.names.j2" if secure else None}
        for part, template in parts.items():
            entry = {"template": template, "vars": {"site": site}} if template else {"state": "absent"}
            files.append({"path": f"{directory}/{site['name']}.{part}", **entry})
        # Its workers read it at each request; nobody else.
        users: dict[str, Any] = {"state": "absent"}
        if site["users"]:
            lines = "".join(f"{name}:{value}\n" for name, value in site["users"].items())
            users = {"content": lines, "group": "www-data", "mode": "0640", "secret": True}
        files.append({"path": f"{directory}/{site['name']}.users", **users})
        # The page's name and not a directory for each site: there is nothing to take away but files.
        files += [
            {"path": f"{pages_directory}/{site['name']}.{page}", "content": content}
            for page, content in pages.pages(site).items()
        ]
    for name in remove:
        paths = [
            *(f"{directory}/{name}.{part}" for part in PARTS),
            *(f"{pages_directory}/{name}.{page}.html" for page in pages.PAGES),
            f"{maintenance}/{name}",
        ]
        files += [{"path": path, "state": "absent"} for path in paths]
    return files


def speaks_http3(site: dict[str, Any]) -> bool:
    """Whether visitors may come by HTTP/3: not past the proxies in front of a site, and what these speak is theirs to say."""
    return bool(site["certificate"]) and not site["listen"] and not site["trusted_proxies"]


def _derive(site: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    return {
        **site,
        "id": identifier(site["name"]),
        "backend": bool(site["listen"]),
        "hsts_value": header(decided(site["hsts"])),
        "trusted_proxies": networks(site["trusted_proxies"]),
        "pass_headers": [name.lower() for name in site["pass_headers"]],
        "static": [location(entry) for entry in site["static"]],
        "media": [location(entry) for entry in site["media"]],
        "open_path": pages.open_path(site["health_path"]),
        "title": site["title"] or str(site["name"]),
        "pages": f"{site['pages'].rstrip('/')}/" if site["pages"] else None,
        "answer_headers": headers_of(site, headers),
        "http3": speaks_http3(site),
        "alt_svc": speaks_http3(site) and "alt-svc" not in {str(name).lower() for name in (*headers, *site["headers"])},
        "own_headers": own_headers_of(site),
        "limits": limits_of(site),
        "rules": rules_of(site),
        "users": users_of(site),
        "passes": passes(site),
        "locations": locations_of(site),
    }
