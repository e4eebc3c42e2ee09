# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a set of files, directories and links to the wanted state, all or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import stat
import time

from ansible_collections.vivarium.server.plugins.module_utils._files.changes import Change, planned, unlisted
from ansible_collections.vivarium.server.plugins.module_utils._files.folders import Refused, Tree
from ansible_collections.vivarium.server.plugins.module_utils._files.stage import recover
from ansible_collections.vivarium.server.plugins.module_utils._files.tell import (
    difference,
    printable,
    secrets_in,
    without,
)
from ansible_collections.vivarium.server.plugins.module_utils._files.write import apply
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Nobody but its owner can open the lock; who is not root has one at home. How long to wait for who holds it (seconds).
LOCK = "/run/vivarium-files.lock"
if os.geteuid() != 0:
    HOME = os.path.expanduser("~")
    LOCK = f"{HOME}/.vivarium-files.lock" if os.access(HOME, os.W_OK) else f"/tmp/vivarium-files-{os.geteuid()}.lock"  # noqa: S108
PATIENCE = 120


def main(order: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module; ``order`` is what the action made of its options."""
    changes: list[Change] = []
    strangers: list[Change] = []
    try:
        with Tree() as tree:
            if check_mode:
                changes, strangers = planned(order, True, tree)
            else:
                with locked(order):
                    folders = {entry["path"] for entry in order["directories"]}
                    folders |= {os.path.dirname(entry["path"]) for entry in order["files"] + order["links"]}
                    make_room(2 * len(folders) + 200)
                    for path in sorted(folders):
                        folder = tree.folder(path)
                        if folder:
                            recover(folder)
                    changes, strangers = planned(order, False, tree)
                    apply(order, changes, tree)
            others = unlisted(order, tree)
    except Refused as refusal:
        secrets = set(secrets_in(changes))
        message, output = (printable(without(secrets, part)) for part in (refusal.args[0], "".join(refusal.args[1:])))
        raise Failed(message, output=output) from refusal
    except OSError as error:
        raise Failed(f"writing failed, and what had changed was put back: {printable(str(error))}") from error
    result = {
        "changed": bool(changes),
        "changed_paths": [printable(change.path) for change in changes],
        "concerns": sorted({label for change in changes for label in change.concerns}),
        "unlisted": [printable(path) for path in others],
        "unmarked": [printable(change.path) for change in strangers],
    }
    if diff:
        result["diff"] = [difference(change) for change in changes]
    return result


@contextlib.contextmanager
def locked(order: dict[str, Any]) -> Iterator[None]:
    """Wait until no other run works; whatever lies half done in a directory is then from a dead one."""
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            raise Refused(f"{LOCK} could be locked by others: look at it and remove it")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(handle, 4096, 0).decode("utf-8", "replace") or "a process that has yet to say so"
                    raise Refused(
                        f"nothing was changed: for {PATIENCE} seconds another run has held {LOCK}, which is {holder}"
                    ) from None
                time.sleep(0.05)
        paths = [entry["path"] for key in ("directories", "files", "links") for entry in order[key]]
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        note(handle, f"process {os.getpid()}, since {since}, for {''.join(paths[:1])}{more}")
        try:
            yield
        finally:
            note(handle, "")
    finally:
        os.close(handle)


def note(handle: int, text: str) -> None:
    """Say in the lock who holds it."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode("utf-8", "surrogateescape"), 0)


def make_room(handles: int) -> None:
    """A directory takes two handles; where there are hundreds, a process may not have so many unless it says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if handles > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(handles, hard), hard))
