# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paths of a site that nginx answers in the place of the application."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import path_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.paths import rule_path_problem
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.static import RESERVED

ANSWERS = ("redirect", "return", "directory", "raw")
KEYS = (*ANSWERS, "code")
REDIRECTS = (301, 302, 303, 307, 308)
RETURNS = (204, 403, 404, 410)
REST = r"/[A-Za-z0-9._~/@+:,=&?%#!*()-]{0,1000}"
TARGET = re.compile(rf"https?://[A-Za-z0-9.-]{{1,253}}(?::[0-9]{{1,5}})?(?:{REST})?\Z|(?!//){REST}\Z")


def location_problems(
    locations: object, taken: list[str], upstream: bool = True, where: str = "locations"
) -> list[str]:
    """What is wrong with the locations of a site; taken are the URLs of its files."""
    if not isinstance(locations, dict):
        return [f"{where} must be a dictionary of paths, such as {{/old/: {{redirect: /new/}}}}"]
    problems = []
    for path, answer in locations.items():
        if problem := rule_path_problem(path):
            problems.append(f"{where}: {path!r:.80} {problem.partition(';')[0]}")
            continue
        for url in (*RESERVED, *taken):
            if f"{path}/".startswith(url):
                problems.append(
                    f"{where}.{path}: "
                    + ("is answered by nginx itself" if url in RESERVED else f"files lie there ({url})")
                )
        if path == "/" and upstream:
            problems.append(f"{where}./: is the application itself")
        problems += [f"{where}.{path}: {problem}" for problem in _answer_problems(path, answer)]
    return problems


def _answer_problems(path: str, answer: object) -> list[str]:
    said = {key: value for key, value in answer.items() if value is not None} if isinstance(answer, dict) else {}
    problems = [f"unknown key '{key}' (known: {', '.join(KEYS)})" for key in map(str, said) if key not in KEYS]
    if sum(key in said for key in ANSWERS) != 1:
        return [*problems, f"needs one of {', '.join(ANSWERS)}"]
    if "code" in said and ("redirect" not in said or said["code"] not in REDIRECTS):
        problems.append(f"code is for redirect, and one of {', '.join(map(str, REDIRECTS))}")
    if "redirect" in said:
        target = said["redirect"]
        if not isinstance(target, str) or not TARGET.match(target) or "/../" in f"{target}/":
            problems.append(
                "redirect must be a path or an http or https URL, without blanks, quotation marks and $ ; { } \\"
            )
        elif target == path or (path.endswith("/") and target.startswith(path)):
            problems.append(f"redirect: '{target:.80}' leads back to where it came from")
    if "return" in said and (isinstance(said["return"], bool) or said["return"] not in RETURNS):
        problems.append(f"return must be one of {', '.join(map(str, RETURNS))}")
    if "directory" in said:
        problems += [f"directory: {problem}" for problem in path_problems(said["directory"])]
        if not path.endswith("/"):
            problems.append("a directory needs a path that ends with '/'")
    if "raw" in said and (not isinstance(said["raw"], str) or not said["raw"].strip()):
        problems.append("raw must be directives of nginx")
    return problems


def locations_of(site: dict[str, Any]) -> list[dict[str, Any]]:
    """The locations of a site without problems, as the template writes them."""
    found = []
    for path, answer in site["locations"].items():
        said = {"code": 301, **{key: value for key, value in answer.items() if value is not None}}
        directory = f"{said['directory'].rstrip('/')}/" if "directory" in said else None
        # One that ends with a slash stands for all below it, another one for itself.
        found.append(
            {
                **dict.fromkeys(ANSWERS),
                **said,
                "directory": directory,
                "path": path,
                "sign": "^~" if path.endswith("/") else "=",
            }
        )
    return found
