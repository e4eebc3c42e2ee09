# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which packages a project asks for, and in which file it says so."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._asgi.packages import canonical
from ansible_collections.vivarium.server.plugins.module_utils._deploy.packages import FOREIGN, LOCKS
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.code import EXTRA, REQUIREMENTS
from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import MOST_LOCKED, Tree

REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?")
# Where projects keep requirements that do not lie at the top, and what extras and groups of production are called.
ELSEWHERE = (
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
)
PRODUCTION = ("production", "prod")
# Python of Debian 12 and 13.
DEBIAN = ("3.11", "3.13")
MOST_FILES = 20


@dataclass
class Packages:
    """``kind`` is the file that a deploy would install from; ``foreign`` one that it cannot read."""

    kind: str = ""
    foreign: str = ""
    names: set[str] = field(default_factory=set)
    install: dict[str, list[str]] = field(default_factory=dict)
    python: str = ""
    python_wanted: str = ""

    def has(self, *names: str) -> bool:
        return any(canonical(name) in self.names for name in names)


def read(tree: Tree, within: str = "") -> Packages:
    """What the directory ``within`` says, or else those around it."""
    found = Packages()
    place = next((place for place in _around(within) if any(tree.has(_in(place, name)) for name in LOCKS)), within)
    found.kind = next((name for name in LOCKS if tree.has(_in(place, name))), "")
    found.foreign = next((name for name in FOREIGN if tree.has(_in(place, name))), "")
    project = tree.toml(_in(place, "pyproject.toml"))
    locked = place
    if found.kind == "pyproject.toml":
        # The lock file of a workspace lies at its top.
        tops = [
            around for around in _around(within) if _is_workspace(tree, around) and tree.has(_in(around, "uv.lock"))
        ]
        found.kind, locked = ("uv.lock", tops[0]) if tops else (found.kind, place)
    for kind, key in (
        ("uv.lock", "package"),
        ("pylock.toml", "packages"),
        ("poetry.lock", "package"),
        ("pdm.lock", "package"),
    ):
        found.names |= {canonical(name) for name in _texts(tree.toml(_in(locked, kind)).get(key), "name")}
    found.names |= {name for line in _pyproject(project) for name in _named(line)}
    if found.kind in ("requirements.txt", ""):
        files = [name for name in ("requirements.txt", *ELSEWHERE) if tree.has(_in(place, name))][:1]
        for name in files:
            found.names |= {one for line in _lines(tree, _in(place, name)) for one in _named(line)}
            if name != "requirements.txt" and REQUIREMENTS.fullmatch(name):
                found.kind, found.install = name, {"requirements": [name]}
    if not found.install and found.kind in ("uv.lock", "pyproject.toml"):
        for key, offered in (
            ("extras", _dict(project.get("project")).get("optional-dependencies")),
            ("groups", project.get("dependency-groups")),
        ):
            names = [name for name in PRODUCTION if name in _dict(offered) and EXTRA.fullmatch(name)][:1]
            found.install |= {key: names} if names else {}
    # One that nobody names for a deploy is not installed: what is missing is told by its own step.
    _python(tree, place, project, found)
    return found


def _python(tree: Tree, place: str, project: dict[str, Any], found: Packages) -> None:
    """Which Python it is tried with, and one that Debian does not have, where it takes no other."""
    # ansible-core brings it; where plugins are looked at without that, it is missing.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    poetry = _dict(_dict(_dict(project.get("tool")).get("poetry")).get("dependencies")).get("python")
    wanted = _dict(project.get("project")).get("requires-python") or poetry
    pinned = re.match(r"(?:cpython@?)?(3\.\d{1,2})\b", (tree.text(_in(place, ".python-version")) or "").strip())
    found.python = pinned[1] if pinned else ""
    try:
        asked = SpecifierSet(re.sub(r"\^(\d+\.\d+)", r">=\1,<4", wanted)) if isinstance(wanted, str) else SpecifierSet()
    except InvalidSpecifier:
        return
    if not any(asked.contains(f"{version}.9") for version in DEBIAN):
        newest = [version for version in (f"3.{minor}" for minor in range(16, 9, -1)) if asked.contains(f"{version}.9")]
        # The one that the project is tried with, or else the oldest that it takes.
        found.python_wanted = found.python if found.python in newest else (newest[-1] if newest else "")


def _is_workspace(tree: Tree, place: str) -> bool:
    tool = _dict(tree.toml(_in(place, "pyproject.toml")).get("tool"))
    return "workspace" in _dict(tool.get("uv"))


def _around(within: str) -> Iterator[str]:
    while within:
        yield within
        within = posixpath.dirname(within)
    yield ""


def _in(place: str, name: str) -> str:
    return posixpath.join(place, name)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(entries: Any, key: str) -> Iterator[str]:
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            yield entry[key]


def _named(line: Any) -> Iterator[str]:
    """The package of a requirement, and those that its extras stand for here."""
    if isinstance(line, str) and (said := REQUIREMENT.match(line)):
        name = canonical(said[1])
        yield name
        if name == "celery" and "redis" in (said[2] or ""):
            yield "redis"


def _pyproject(project: dict[str, Any]) -> Iterator[Any]:
    """Requirements in a pyproject.toml, as the standard and as Poetry write them."""
    said = _dict(project.get("project"))
    for lines in (said.get("dependencies"), *_dict(said.get("optional-dependencies")).values()):
        yield from lines if isinstance(lines, list) else []
    poetry = _dict(_dict(project.get("tool")).get("poetry"))
    yield from _dict(poetry.get("dependencies"))


def _lines(tree: Tree, name: str) -> Iterator[str]:
    """The lines of a file of requirements and of those that it includes."""
    waiting, seen = [name], set[str]()
    while waiting and len(seen) < MOST_FILES:
        path = posixpath.normpath(waiting.pop(0))
        if path in seen:
            continue
        seen.add(path)
        for line in (tree.text(path, MOST_LOCKED) or "").splitlines():
            if included := re.match(r"\s*(?:-r|--requirement)[\s=]*(\S+)", line):
                waiting.append(posixpath.join(posixpath.dirname(path), included[1]))
            elif not line.lstrip().startswith(("#", "-")):
                yield line
