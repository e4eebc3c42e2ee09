# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How often, and with how many requests at once, one client may ask."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import is_number
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.paths import (
    rules_problems,
    same,
    spelled,
)

RATE = re.compile(r"([1-9][0-9]{0,5})r/[sm]\Z")
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
KEYS = ("rate", "burst", "methods")
MOST = 50


def limit_problems(limits: object, where: str = "rate_limits") -> list[str]:
    """What is wrong with the request rates of a site, by path."""
    if not isinstance(limits, dict):
        return [f"{where} must be a dictionary of paths and rates, such as {{/accounts/login/: 5r/m}}"]
    problems, sound = rules_problems(limits, where, MOST)
    for path, limit in sound.items():
        if limit is not None:
            problems += [f"{where}.{path}: {problem}" for problem in _limit_problems(limit)]
    return problems


def _limit_problems(limit: object) -> list[str]:
    if not isinstance(limit, dict):
        return _rate_problems(limit)
    problems = [f"unknown key '{key}' (known: {', '.join(KEYS)})" for key in map(str, limit) if key not in KEYS]
    problems += _rate_problems(limit.get("rate"))
    if limit.get("burst") is not None and not is_number(limit["burst"], 0, 1_000_000):
        problems.append(f"burst {limit['burst']!r:.80} is not a number of requests")
    methods = limit.get("methods")
    if methods is not None and (
        not isinstance(methods, list) or not methods or not all(method in METHODS for method in methods)
    ):
        problems.append(f"methods must be a list of {', '.join(METHODS)}")
    return problems


def _rate_problems(rate: object) -> list[str]:
    if rate is None:
        return ["rate is missing"]
    if isinstance(rate, str) and RATE.match(rate):
        return []
    return [f"{rate!r:.80} is not a rate with a unit, such as 10r/s (requests a second) or 5r/m (a minute)"]


def connection_problems(limit: object, where: str = "connection_limit") -> list[str]:
    """What is wrong with the number of requests that one client may have at once."""
    if limit is None or is_number(limit, 0, 65535):
        return []
    return [f"{where}: {limit!r:.80} is not a number from 0 (no limit) to 65535"]


def limits_of(site: dict[str, Any]) -> list[dict[str, Any]]:
    """The limits of a site without problems, as the templates write them; null takes one away."""
    found = []
    for path, limit in site["rate_limits"].items():
        if limit is None:
            continue
        said = limit if isinstance(limit, dict) else {"rate": limit}
        burst = said.get("burst")
        found.append(
            {
                "path": same(path),
                # Not its place among others, which changes.
                "id": hashlib.sha256(same(path).encode()).hexdigest()[:12],
                "rate": said["rate"],
                # A second's or a minute's worth at once: one who mistypes a password need not wait for the next try.
                "burst": int(said["rate"].partition("r")[0] if burst is None else burst),
                "methods": said.get("methods") or [],
                # "!" stands before a path that is crooked: that counts, whatever it leads to.
                "pattern": f"^(?:!|{spelled(path)})",
            }
        )
    return found
