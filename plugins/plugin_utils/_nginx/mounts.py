# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites below a path: several may share the server block, and with it the domains, of one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import repeated

PATH = re.compile(r"(?=.{3,100}\Z)/(?:(?!\.\.?/)[A-Za-z0-9._~-]+/)+")
# What nginx answers under every domain.
RESERVED = ("/.well-known/", "/.vivarium/")
# What the site that has the domains says for those under it.
OWNERS = ("certificate", "redirect_domains", "trusted_proxies")


def inside(path: str, url: str) -> bool:
    """Whether a URL lies below a path, or is it."""
    return url.startswith(path)


def meet(one: str, other: str) -> bool:
    """Whether one of two lies below the other."""
    return one.startswith(other) or other.startswith(one)


def path_problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with the path of a site, and with what it has outside of it."""
    path, under = site["path"], site["under"]
    if path is None:
        return ["under is for a site with a path"] if under is not None else []
    if not isinstance(path, str) or not PATH.fullmatch(path):
        return [f"path: {path!r:.80} must begin and end with '/' and be more than that, of letters, digits and . _ ~ -"]
    problems = [f"path: '{path}' is answered by nginx itself" for reserved in RESERVED if meet(path, reserved)]
    if site["listen"]:
        problems.append("path belongs to the public site, not to a backend site (listen)")
    problems += [
        f"{key}: '{url:.200}' must lie below the site's path, {path}"
        for key, url in urls(site)
        if not inside(path, url) or url == path
    ]
    if under is not None:
        said = [*(key for key in OWNERS if site[key]), *(["hsts"] if site["hsts"] is not True else [])]
        problems += [f"{key} is said by the site that it is under, '{under}'" for key in said]
    return problems


def urls(site: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a site has files and answers of its own."""
    for key in ("static", "media"):
        yield from ((key, str(entry.get("url", ""))) for entry in site[key] if isinstance(entry, dict))
    if isinstance(site["locations"], dict):
        yield from (("locations", str(path)) for path in site["locations"])


def server_problems(sites: list[dict[str, Any]], variable: str) -> list[str]:
    """What is wrong between sites that share the server block of one of them."""
    problems = []
    named = {str(site.get("name")): site for site in sites}
    for site in sites:
        owner = named.get(str(site["under"]))
        if site["under"] is not None and (not owner or owner["listen"] or owner["under"] is not None):
            problems.append(
                f"{variable}: '{site.get('name')}' is under '{site['under']}', which is no public site with domains of its own"
            )
        elif owner and set(map(str, site["domains"])) != set(map(str, owner["domains"])):
            problems.append(
                f"{variable}: '{site.get('name')}' has not the same domains as '{site['under']}', which it is under"
            )
    for name, owner in named.items():
        below = [site for site in sites if site["under"] == name or (site is owner and site["path"])]
        below = [site for site in below if isinstance(site["path"], str)]
        paths = [site["path"] for site in below]
        problems += [f"{variable}: the path '{path}' is used more than once under '{name}'" for path in repeated(paths)]
        problems += [
            f"{variable}: the paths '{one}' and '{other}' under '{name}' lie in each other"
            for number, one in enumerate(sorted(set(paths)))
            for other in sorted(set(paths))[number + 1 :]
            if meet(one, other)
        ]
        if not owner["path"]:
            problems += [
                f"{variable}: {key} '{url:.200}' of '{name}' and the path '{path}' lie in each other"
                for path in paths
                for key, url in urls(owner)
                if inside(path, url) or (key != "locations" and meet(path, url))
            ]
    return problems
