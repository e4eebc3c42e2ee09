# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Closes sites for maintenance and opens them again; nginx need not be told, it looks at each request."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._maintenance.state import (
    DIRECTORY,
    HANG_UP,
    MAPPED,
    PLACE,
    line_of,
    state_of,
)
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SITES = Path("/etc/nginx/sites.d")


def check(names: list[str]) -> None:
    """Raise where closing a site would close nothing, or where somebody else could open it."""
    for name in names:
        try:
            known = f"{PLACE}/{name};" in (SITES / f"{name}.conf").read_text(errors="replace")
        except FileNotFoundError:
            known = False
        if not known:
            raise Failed(
                f"{name}: nginx on this host has no site of that name that can be closed, so nothing was changed here. Run the"
                " playbook site once, then this one again"
            )
    info = os.lstat(PLACE)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise Failed(f"{PLACE} must be a directory of root's that nobody else can write to; nothing was changed here")


def close(name: str, allow: list[str], retry_after: int, since: int, new: bool) -> None:
    """Make what the link is to lead to, then the link, in one rename."""
    own = PLACE / f".{name}"
    own.mkdir(exist_ok=True)
    if new:
        # First, and until it is done: this run may end before.
        (own / HANG_UP).touch()
    former = [entry.name for entry in os.scandir(own) if entry.is_dir()]
    numbers = [int(match[2]) for match in map(DIRECTORY.fullmatch, former) if match]
    directory = own / f"{since}-{max(numbers, default=0) + 1}-{retry_after}"
    directory.mkdir()
    (directory / "allow").mkdir()
    for address in allow:
        (directory / "allow" / address).touch()
        if ":" not in address:
            (directory / "allow" / f"{MAPPED}{address}").touch()
    # Whatever the umask is: nginx's workers look there.
    for path in (own, directory, directory / "allow"):
        path.chmod(0o755)
    os.sync()
    scratch = PLACE / f".{name}.new"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(directory.relative_to(PLACE))
    try:
        os.replace(scratch, PLACE / name)
    except OSError as error:
        raise Failed(f"{name}: {PLACE / name} cannot be replaced: {error.strerror}") from error
    os.sync()
    for other in former:
        shutil.rmtree(own / other)


def reopen(name: str) -> None:
    """Take the link away, then what it led to."""
    try:
        (PLACE / name).unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{name}: {PLACE / name} cannot be removed: {error.strerror}") from error
    os.sync()
    shutil.rmtree(PLACE / f".{name}", ignore_errors=True)


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    names, wanted = parameters["sites"], parameters["state"]
    allow, retry_after = sorted(parameters["allow"]), parameters["retry_after"]
    before = {name: state_of(name) for name in names}
    after: dict[str, dict[str, Any] | None]
    if wanted == "on":
        check(names)
        after = {
            name: {"since": (found or {}).get("since") or int(time.time()), "retry_after": retry_after, "allow": allow}
            for name, found in before.items()
        }
    else:
        after = {name: None if wanted == "off" else found for name, found in before.items()}
    changes = [name for name in names if before[name] != after[name]]
    for name in [] if check_mode else changes:
        if found := after[name]:
            close(name, allow, retry_after, found["since"], new=not before[name])
        else:
            reopen(name)
    return {
        "changed": bool(changes),
        "closed": [
            name for name in names if wanted == "on" and (not before[name] or (PLACE / f".{name}" / HANG_UP).exists())
        ],
        "sites": after,
        "text": [line_of(name, after[name]) for name in names],
    }
