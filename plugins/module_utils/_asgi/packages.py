# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a server's packages a venv has: used as locked where it is safe, completed where something is missing."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(paths: Iterable[str]) -> dict[str, str]:
    """The packages of a venv, name to version, by the paths of their metadata (NAME-VERSION.dist-info)."""
    found = {}
    for path in sorted(paths):
        if path.endswith(".dist-info"):
            name, _dash, version = os.path.basename(path).removesuffix(".dist-info").partition("-")
            found[canonical(name)] = version
    return found


def release(version: str) -> list[int]:
    """The numbers of a version, to compare: 0.16.0 is 0.16, and a pre-release counts as what it leads to."""
    numbers = [
        int(number)
        for number in re.sub(r"[^0-9.].*", "", version.split("!")[-1], flags=re.DOTALL).strip(".").split(".")
        if number
    ]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def wanted(requirements: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """The names of requirements and the least versions of them, which each must say."""
    for requirement in requirements:
        found = REQUIREMENT.match(requirement)
        if not found:
            raise ValueError(f"{requirement} says no least version")
        yield requirement, canonical(found[1]), found[2]


def too_old(requirements: Iterable[str], packages: dict[str, str]) -> list[tuple[str, str, str]]:
    """What is there in a version that is not safe, or cannot do what is asked of it: name, version, least version."""
    return [
        (name, packages[name], minimum)
        for _requirement, name, minimum in wanted(requirements)
        if name in packages and release(packages[name]) < release(minimum)
    ]


def missing(requirements: Iterable[str], packages: dict[str, str]) -> list[str]:
    return [requirement for requirement, name, _minimum in wanted(requirements) if name not in packages]
