# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application lies below its domain, and which of those that share a domain has it.

The one at ``/`` has the domain, or else the first: its certificate, its redirects and its HSTS are those of all. The others are
``under`` it and have their paths alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App, Wrong, is_a
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.mounts import PATH, RESERVED, inside, meet
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.paths import same
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_form

# What is asked for at a path, and rules for it and all below it; these stop where another application begins.
RULES = ("health_path", "site.rate_limits", "site.protect", "site.locations")


def complete(app: App, wrong: Wrong) -> None:
    """Its path; what other keys say is measured by it."""
    path = app["path"]
    if path != "/" and not is_form(PATH, path):
        wrong(
            "path must be / or begin and end with '/', such as /api/, of at most 100 letters, digits and . _ ~ - of ASCII"
        )
        app["path"] = "/"
    elif any(meet(path, reserved) for reserved in RESERVED if path != "/"):
        wrong(f"path: '{path}' is answered by nginx itself")
        app["path"] = "/"
    # As ASGI and Django write it.
    app["root_path"] = app["path"].rstrip("/")
    for option in app["server_options"]:
        if app["root_path"] and str(option).startswith(("--root-path", "--url-path-prefix")):
            wrong(f"server_options: {str(option).partition('=')[0]} is said by path, for every server alike")


def check(app: App, wrong: Wrong) -> None:
    """What it says of paths lies below its own: they are those that visitors see."""
    path = app["path"]
    if path == "/":
        return
    site = app["site"]
    urls = [("static_url", app["static_url"]), ("media_url", app["media_url"]), ("health_path", app["health_path"])]
    urls += [(f"site.{key}", url) for key in ("internal", "locations") for url in _keys(site, key)]
    for key, url in urls:
        if url and (not inside(path, str(url)) or (url == path and key != "health_path")):
            wrong(f"{key}: '{url!s:.200}' must lie below the application's path, {path}")
    for key in ("rate_limits", "protect"):
        for url in _keys(site, key):
            if is_a(url, str) and not inside(path, f"{same(url)}/"):
                wrong(f"site.{key}: '{url:.200}' must lie below the application's path, {path}")


def with_the_domains(apps: Sequence[Any]) -> list[Any]:
    """Descriptions as they are, but for what one that says nothing of it has from the one that has its domain."""
    described = [app if is_a(app, dict) else {} for app in apps]
    found = []
    for app, owner in zip(apps, owners(described), strict=True):
        if owner is not None and app.get("hsts") in (None, True) and "hsts" in described[owner]:
            app = {**app, "hsts": described[owner]["hsts"]}
        found.append(app)
    return found


def owners(apps: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """Of each application, which one has the domain that it is under; None where it has its domain itself."""
    names = [_names(app) for app in apps]
    found: list[int | None] = []
    for index, app in enumerate(apps):
        sharing = [other for other, theirs in enumerate(names) if theirs and theirs == names[index]]
        first = next((other for other in sharing if _path(apps[other]) == "/"), sharing[0] if sharing else index)
        found.append(None if first == index or _path(app) == "/" else first)
    return found


def _names(app: Mapping[str, Any]) -> frozenset[str]:
    domains = app.get("domains") or []
    return frozenset(map(str, domains)) if is_a(domains, list) else frozenset()


def _path(app: Mapping[str, Any]) -> Any:
    return app.get("path") or "/"


def share(apps: list[App]) -> list[str]:
    """Say of each application which one has its domain; returns what does not go together."""
    problems = []
    for app, owner in zip(apps, owners(apps), strict=True):
        app["under"] = None if owner is None else apps[owner]["name"]
        # Those that visitors come through to all of a domain.
        app["proxies"] = (app if owner is None else apps[owner])["site"].get("trusted_proxies")
        if owner is not None:
            problems += [f"asgi_apps ({app['name']}): {problem}" for problem in _of_the_domain(app, apps[owner])]
    for index, one in enumerate(apps):
        for other in apps[index + 1 :]:
            problems += _between(one, other)
    return problems


def _of_the_domain(app: App, owner: App) -> Iterator[str]:
    """What one says that is another's to say."""
    whose = f"{owner['name']}, which has the domain {owner['domains'][0]}"
    if any(app["certificate"].values()):
        yield f"certificate is that of {whose}: say it there"
    if app["redirect_domains"]:
        yield f"redirect_domains are those of {whose}: say them there"
    if app["site"].get("trusted_proxies"):
        yield f"site.trusted_proxies are those of {whose}: say them there"
    if app["hsts_decision"] != owner["hsts_decision"]:
        yield f"hsts is that of {whose}: say it there"


def _between(one: App, other: App) -> Iterator[str]:
    """What is wrong with two that share a domain."""
    both = sorted(_names(one) & _names(other))
    if not both or one["name"] == other["name"] or one["path"] == other["path"] == "/":
        return  # told elsewhere
    whose = f"asgi_apps ({one['name']}, {other['name']})"
    if _names(one) != _names(other):
        yield (
            f"{whose}: they share the domain '{both[0]}' and not all of their domains: applications below paths of one"
            " domain have the same list"
        )
    elif one["path"] == other["path"]:
        yield f"{whose}: the path '{one['path']}' of '{both[0]}' is used more than once"
    elif "/" not in (one["path"], other["path"]) and meet(one["path"], other["path"]):
        yield f"{whose}: of their paths, '{one['path']}' and '{other['path']}', one lies below the other"
    for top, below in ((one, other), (other, one)):
        if top["path"] != "/" or below["path"] == "/":
            continue
        for key, url in _urls(top):
            if inside(below["path"], url) or (key not in RULES and meet(below["path"], url)):
                yield (
                    f"asgi_apps ({top['name']}): {key}: '{url:.200}' and the path of {below['name']}, {below['path']}, lie in"
                    " each other"
                )


def _urls(app: App) -> Iterator[tuple[str, str]]:
    yield from ((key, app[key]) for key in ("static_url", "media_url", "health_path") if app[key])
    for key in ("internal", "locations", "rate_limits", "protect"):
        yield from ((f"site.{key}", str(url)) for url in _keys(app["site"], key))


def _keys(site: Mapping[str, Any], key: str) -> Iterable[Any]:
    """The paths that a key has something to say of."""
    return site[key] if is_a(site.get(key), dict) else ()
