# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with the sites of nginx: with each, and between them."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx import (
    headers,
    limits,
    locations,
    pages,
    protect,
    reach,
    static,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.complete import DEFAULTS, complete
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import (
    NAME,
    SIZE,
    identifier,
    is_number,
    repeated,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import domain_problem
from ansible_collections.vivarium.server.plugins.plugin_utils.hsts import hsts_problems


def nginx_site_problems(sites: Any, variable: str = "nginx_sites") -> list[str]:
    """Return a sentence for everything that is wrong with the sites; none when they are usable."""
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        return [f"{variable} must be a list of sites"]
    problems = []
    for index, site in enumerate(sites):
        label = f"{variable}[{index}] ({site.get('name', 'without a name')})"
        problems += [f"{label}: {problem}" for problem in _site_problems(complete(site))]
    return problems + _conflicts([complete(site) for site in sites if not _texts(complete(site))], variable)


def _site_problems(site: dict[str, Any]) -> list[str]:
    problems = []
    if not NAME.match(str(site.get("name", ""))):
        problems.append("name must be lower-case letters, digits, - and _, and begin with a letter or a digit")
    if texts := _texts(site):
        return [f"{key} must be a list" for key in texts]
    if not site.get("domains"):
        problems.append("domains needs at least one name")
    for key in ("domains", "redirect_domains"):
        for position, domain in enumerate(site.get(key) or []):
            # The first domain is where redirects go: it must be a name that a browser can ask for.
            target = key == "domains" and position == 0 and site["redirect_domains"]
            problem = domain_problem(domain, wildcard=not target)
            problems += [f"{key}: {problem}"] if problem else []
    problems += reach.upstream_problems(site)
    problems += reach.certificate_problems(site)
    problems += reach.backend_problems(site)
    problems += static.files_problems(site)
    problems += hsts_problems(site["hsts"])
    problems += headers.pass_problems(site["pass_headers"])
    problems += pages.problems(site)
    if not SIZE.match(str(site["client_max_body_size"])):
        problems.append(f"client_max_body_size: '{site['client_max_body_size']}' is not a size such as 10m")
    for key in ("read_timeout", "websocket_timeout"):
        if not is_number(site[key], 1, 999_999_999):
            problems.append(f"{key}: '{site[key]}' is not a number of seconds")
    problems += headers.site_header_problems(site["headers"])
    problems += limits.limit_problems(site["rate_limits"])
    problems += limits.connection_problems(site["connection_limit"])
    problems += protect.protect_problems(site["protect"], site["health_path"])
    problems += protect.health_problems(site["health_path"])
    taken = [
        entry["url"] for entry in [*site["static"], *site["media"]] if isinstance(entry, dict) and entry.get("url")
    ]
    problems += locations.location_problems(site["locations"], list(map(str, taken)), bool(site["upstream"]))
    if not isinstance(site["extra"], str):
        problems.append("extra must be a text")
    return problems


def _texts(site: dict[str, Any]) -> list[str]:
    """The keys whose value is one text: a specification takes it for a list of one, a template for a list of letters."""
    lists = ["domains", *(key for key, default in DEFAULTS.items() if default == [])]
    return [key for key in lists if not isinstance(site.get(key, []), list)]


def _conflicts(sites: list[dict[str, Any]], variable: str) -> list[str]:
    """What is wrong between sites: two of a name, or two that want to answer for one domain at one place."""
    problems = [
        f"{variable}: the name '{name}' is used more than once"
        for name in repeated([str(site.get("name")) for site in sites])
    ]
    names = {str(site.get("name")) for site in sites}
    problems += [f"{variable}: two names differ only in - and _: '{name}'" for name in repeated(map(identifier, names))]
    for place in {str(site["listen"] or "") for site in sites}:
        domains = [
            domain
            for site in sites
            if str(site["listen"] or "") == place
            for domain in [*(site.get("domains") or []), *site["redirect_domains"]]
        ]
        where = f" on {place}" if place else ""
        problems += [f"{variable}: the domain '{domain}' is used more than once{where}" for domain in repeated(domains)]
    return sorted(problems)
