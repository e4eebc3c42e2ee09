# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compares the releases that are live on a host with the ones that are wanted."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.names import installed_applications
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    Application,
    Release,
    read_regular,
    tell_of_fallen,
    variables,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator
    from typing import Any

UNITS = Path("/etc/systemd/system")
# What the templates of processes and timers say of themselves.
OURS = "vivarium.server.asgi, which removes it"
# What brings an application back at boot.
BOOT = "/etc/systemd/system/multi-user.target.wants/{}.service"
GONE = "its interpreter is gone"
REASONS = {
    "source": "the code changed",
    "install": "the interpreter, the server's packages or the way it is built changed",
    "env": "the environment changed",
    "checks": "the settings and checks that Vivarium adds changed",
    "process": "the way its processes run changed",
}


def main(wanted: dict[str, dict[str, Any]], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module; ``wanted`` is what the action made of its options, by the names of the applications."""
    result: dict[str, Any] = {
        "reasons": {},
        "unfinished": [],
        "releases": {},
        "stale_units": [],
        "warnings": [],
        "stopping": [],
        "others": others(wanted),
    }
    for name, application in ((name, Application(name)) for name in wanted):
        live = application.live()
        units = application.running_units()
        releases = application.releases()
        result["releases"][name] = about(live, releases, units)
        result["releases"][name]["other_secrets"] = {
            release.id: other_secrets(release, wanted[name].get("secrets", {})) for release in releases
        }
        # Nobody may have waited for it.
        result["warnings"] += ["\n".join(told)] if (told := tell_of_fallen(application)) else []
        result["stale_units"] += stale_units(name, wanted[name]["units"])
        if wanted[name]["stopped"]:
            result["reasons"][name] = []
            result["stopping"] += [name] if units or os.path.lexists(BOOT.format(name)) else []
            continue
        if not live:
            result["reasons"][name] = ["it has no live release"]
            continue
        known = live.record.get("parts", {})
        reasons = [reason for part, reason in REASONS.items() if known.get(part) != wanted[name]["parts"].get(part)]
        # Debian was upgraded, or a package removed: what is live runs on until it ends, and would not start again.
        reasons += [GONE] if interpreter_is_gone(live) else []
        result["reasons"][name] = reasons
        left = [] if reasons else list(what_is_left(live, wanted[name]["processes"], units))
        if left:
            result["unfinished"].append(
                {
                    "name": name,
                    "id": live.id,
                    "version": live.record.get("version"),
                    "reasons": left,
                    "live": live.id,
                }
            )
    return {"changed": False, **result}


def others(wanted: Container[str]) -> list[str]:
    """Applications that the role has set up on this host before, and that are not asked about."""
    return [name for name in installed_applications() if name not in wanted]


def interpreter_is_gone(release: Release) -> bool:
    """Whether the interpreter that a release was built with is not there any more, or is one of another version by now."""
    python = release.path / "venv/bin/python"
    if not os.path.lexists(python):
        return False
    if not os.path.exists(python):
        return True
    there = re.fullmatch(r"python(3\.[0-9]+)", os.path.basename(os.path.realpath(python)))
    packages = [path.name for path in (release.path / "venv/lib").glob("python3.*")]
    return bool(there and packages and f"python{there[1]}" not in packages)


def about(live: Release | None, releases: list[Release], units: Container[str]) -> dict[str, Any]:
    """What a person, or a rollback, wants to know of an application."""
    record = live.record if live else {}
    good = {release.id: release.record for release in releases if release.record.get("state") == "good"}
    # A release that was rolled away from is newer than the live one, or was live longer ago than the one it gave way to.
    older = [
        (known.get("live_since", 0), identifier)
        for identifier, known in good.items()
        if live and identifier != live.id and known.get("created", 0) < record.get("created", 0)
    ]
    return {
        "id": live.id if live else None,
        "version": record.get("version"),
        "since": record.get("live_since"),
        "all": [release.id for release in releases],
        "good": list(good),
        "bad": {
            release.id: release.record.get("reason") for release in releases if release.record.get("state") == "bad"
        },
        "previous": max(older)[1] if older else None,
        "active": live is not None and live.unit in units,
        "instead_of": record.get("instead_of"),
        "migrated_since": migrated_since(live, releases),
    }


def other_secrets(release: Release, wanted: dict[str, str]) -> list[str]:
    """The secrets that a release has otherwise than the inventory, whose digests are given by their names."""
    if not wanted:
        return []
    try:
        environment = read_regular(release.path / "env")
    except OSError:
        return list(wanted)
    there = variables(environment.decode(errors="surrogateescape"))
    digests = {
        name: hashlib.sha256(there[name].encode(errors="surrogateescape")).hexdigest()
        for name in wanted
        if name in there
    }
    return sorted(name for name, digest in wanted.items() if digests.get(name) != digest)


def migrated_since(live: Release | None, releases: list[Release]) -> dict[str, list[str]]:
    """Of each release that is older than the live one: the migrations that releases after it have applied, up to the live one."""
    if not live:
        return {}
    found: dict[str, list[str]] = {}
    applied: list[str] = []
    for release in sorted(releases, key=lambda release: release.record.get("created", 0), reverse=True):
        if release.record.get("created", 0) <= live.record.get("created", 0):
            found[release.id] = list(applied)
            applied = [*release.record.get("migrations", []), *applied]
    return found


def stale_units(name: str, wanted: Container[str]) -> list[str]:
    """Units with the application's name before them that this role wrote and would not write now."""
    found = (path for kind in ("service", "timer") for path in UNITS.glob(f"{name}-*.{kind}"))
    return sorted(path.name for path in found if path.name not in wanted and OURS in path.read_text(errors="replace"))


def what_is_left(live: Release, processes: Iterable[str], units: Collection[str]) -> Iterator[str]:
    """What an earlier run did not finish, or what has stopped since."""
    name = live.application.name
    if live.unit not in units:
        yield "its live release does not run"
    # The lock of a run that is under way just now refuses the one that is to finish.
    if live.record.get("state") == "bad":
        yield "it did not stay up"
    elif live.record.get("state") != "good" or live.application.lock.holder().get("release") == live.id:
        yield "an earlier run was stopped before it had finished"
    for process in processes:
        if f"{name}-{process}@{live.id}.service" not in units:
            yield f"its process {process} does not run"
    kinds = {tuple(unit.removesuffix(".service").split("@", 1)) for unit in units}
    others = {
        identifier
        for kind, identifier in kinds
        if identifier != live.id and kind != f"{name}-drain" and (f"{name}-drain", identifier) not in kinds
    }
    if others:
        yield f"parts of other releases run ({', '.join(sorted(others))})"
