# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files that nginx itself serves: static files of releases, and what users have uploaded."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import URL, path_problems, repeated
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_switch, is_true

# URLs that the role itself answers.
RESERVED = ("/.well-known/acme-challenge/", "/.vivarium/")


def files_problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with the static files and the uploads of a site."""
    problems = []
    urls = []
    for key in ("static", "media"):
        for entry in site[key]:
            if not _is_entry(entry):
                problems.append(f"{key} is a list of a url and a path each")
                continue
            url = str(entry.get("url", ""))
            urls.append(url)
            if not URL.match(url) or {".", ".."} & set(url.split("/")):
                problems.append(f"{key}: url '{url}' must begin and end with / and be more than that")
            elif any(url.startswith(reserved) for reserved in RESERVED):
                problems.append(f"{key}: url '{url}' is answered by the role itself")
            problems += [f"{key}: {problem}" for problem in _source_problems(key, entry, site)]
            if not is_switch(entry.get("internal") or False):
                problems.append(f"{key}: internal '{entry['internal']}' is neither true nor false")
    problems += [f"static and media use the url '{url}' more than once" for url in repeated(urls)]
    # Whoever may upload could otherwise replace what a browser runs: Django's deployment documentation asks for this.
    for media in filter(_is_entry, site["media"]):
        for static in filter(_is_entry, site["static"]):
            for path in filter(None, (static.get("path"), static.get("fallback"))):
                inner, outer = (f"{str(each).rstrip('/')}/" for each in (media.get("path", ""), path))
                if inner.startswith(outer) or outer.startswith(inner):
                    problems.append(f"media: path '{media.get('path')}' and static path '{path}' lie in each other")
    return problems


def _source_problems(key: str, entry: dict[str, Any], site: dict[str, Any]) -> list[str]:
    """What is wrong with where files come from: a directory; for static files one behind it, and other hosts."""
    ask = entry.get("ask_upstream")
    if key == "media" or (ask is None and entry.get("fallback") is None):
        return path_problems(entry.get("path", ""))
    if ask is not None and not is_switch(ask):
        return [f"ask_upstream '{ask}' is neither true nor false"]
    problems = []
    if is_true(ask or False) and not site["upstream"]:
        problems.append("ask_upstream is for a site with an upstream")
    if not (is_true(ask or False) and entry.get("path") is None and entry.get("fallback") is None):
        problems += path_problems(entry.get("path", ""))
    if entry.get("fallback") is not None:
        problems += [f"fallback: {problem}" for problem in path_problems(entry["fallback"])]
    return problems


def location(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with every default."""
    paths = {key: entry[key].rstrip("/") + "/" for key in ("path", "fallback") if entry.get(key)}
    return {
        "path": None,
        "fallback": None,
        **entry,
        **paths,
        "ask_upstream": is_true(entry.get("ask_upstream") or False),
        "internal": is_true(entry.get("internal") or False),
    }


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict)
