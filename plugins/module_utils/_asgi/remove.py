# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes applications off a host, and keeps what they hold aside until it is not wanted any more."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.names import MARK, OWN, text
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    LOCK_LIMIT,
    PROGRAMS,
    Application,
    LockedError,
    ReleaseError,
    end_processes,
    run,
)
from ansible_collections.vivarium.server.plugins.module_utils._maintenance.state import PLACE
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNITS = Path("/etc/systemd/system")
# How long to wait for a step of a deploy, or a drain, that works on the application just now (seconds).
PATIENCE = 60
# How long systemd may take to stop units; the longest of their own limits (seconds).
STOP_LIMIT = 3600


class Removal:
    """One application, by the names that only the role gives (docs/releases.md)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accounts = Path(f"/etc/sysusers.d/asgi-{name}.conf")
        self.users = (name, f"{name}-build")
        self.application = Application(name)
        # A directory that holds data, its name once the application is gone, and what in it is the data; None: all.
        self.data = (
            (self.application.root, Path(f"/srv/{name}.removed"), ("media", "deploys.log")),
            (Path(f"/var/lib/asgi-{name}"), Path(f"/var/lib/asgi-{name}.removed"), None),
        )

    def is_here(self) -> bool:
        """The file that makes the users is the last to go."""
        return self.accounts.is_file()

    def kept(self) -> list[str]:
        """What lies aside, also of applications of this name that were there before."""
        found = (aside.parent.glob(f"{aside.name}*") for _place, aside, _data in self.data)
        return sorted(str(path) for paths in found for path in paths)

    def units(self) -> list[Path]:
        """What the role wrote of the application's; other names cannot begin so, for no application has a hyphen in its own."""
        found = [
            path
            for pattern in (f"{self.name}.service", f"{self.name}@.*", f"{self.name}-*")
            for path in UNITS.glob(pattern)
        ]
        kinds = (".service", ".socket", ".timer")
        return sorted(path for path in found if path.suffix in kinds and (MARK in text(path) or OWN in text(path)))

    def remove(self, break_lock: bool) -> None:
        lock = self.application.lock
        for place, _aside, _data in self.data:
            if place.is_symlink():
                raise Failed(
                    f"{self.name}: {place} is a link, and what lies behind it cannot be put aside; nothing of it was taken away."
                    " Move the directory to the link's place"
                )
        if self.application.root.is_dir():
            try:
                # What works on it on this host just now comes to its end first.
                lock.enter(PATIENCE, lambda holder: not break_lock and busy(holder))
                if not break_lock and busy(lock.holder()):
                    raise LockedError(lock.holder())
            except LockedError as error:
                raise Failed(
                    f"{self.name}: a deploy by {error.holder.get('user', 'root')} on"
                    f" {error.holder.get('controller', 'this host')} is under way, so nothing of it was taken away; wait for it,"
                    " or go on with -e asgi_break_lock=true"
                ) from error
        try:
            self.stop()
            for place, aside, data in self.data:
                self.put_aside(place, aside, data)
            self.clear()
        finally:
            lock.leave()

    def stop(self) -> None:
        units = self.units()
        timers = [path.name for path in units if path.suffix == ".timer"]
        brought = [path.name for path in units if path.name == f"{self.name}.service"]
        if timers or brought:
            run(["systemctl", "disable", "--quiet", "--now", *timers, *brought], timeout=STOP_LIMIT)
        patterns = [
            f"{self.name}@*.socket",
            f"{self.name}@*.service",
            f"{self.name}-*.service",
            f"{self.name}.*.service",
        ]
        run(["systemctl", "stop", *patterns], timeout=STOP_LIMIT)
        # Whatever else runs as one of its users: nothing may change what is put aside, or come back.
        for user in self.users:
            discard(f"/var/spool/cron/crontabs/{user}")
            discard(f"/var/lib/systemd/linger/{user}")
            with contextlib.suppress(KeyError):
                end_processes(pwd.getpwnam(user).pw_uid)

    def put_aside(self, place: Path, aside: Path, data: tuple[str, ...] | None) -> None:
        """Rename what holds data, close it, and remove the rest of it; nothing of the application's runs any more."""
        if place.is_dir():
            if aside.is_dir():
                # Of an application of this name that was taken away before.
                others = (Path(f"{aside}.{number}") for number in range(1, 1000))
                aside.rename(next(path for path in others if not path.exists()))
            try:
                place.rename(aside)
            except OSError as error:
                raise Failed(f"{self.name}: {place} cannot be put aside as {aside}: {error.strerror}") from error
        if not aside.is_dir():
            return
        os.chmod(aside, 0o700)
        os.chown(aside, 0, 0)
        for entry in list(os.scandir(aside)):
            if data is not None and (entry.name not in data or is_empty(entry)):
                discard(entry.path)
        if not os.listdir(aside):
            aside.rmdir()

    def clear(self) -> None:
        for path in self.units():
            path.unlink()
        for path in (
            Path(PROGRAMS, f"{self.name}-run"),
            Path(PROGRAMS, f"{self.name}-build"),
            *Path(PROGRAMS).glob(f"commands/{self.name}-*"),
            Path(f"/usr/local/bin/{self.name}-manage"),
            Path(f"/etc/tmpfiles.d/asgi-{self.name}.conf"),
            # When timers ran last.
            *Path("/var/lib/systemd/timers").glob(f"stamp-{self.name}-*.timer"),
        ):
            path.unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "reset-failed", f"{self.name}@*", f"{self.name}-*"])
        # What systemd made for the instances of its templates.
        run(["systemctl", "stop", f"system-{self.name}.slice", f"system-{self.name}\\x2d*.slice"])
        for directory in (
            f"/run/asgi-{self.name}",
            f"/var/cache/asgi-{self.name}",
            f"/var/cache/asgi-{self.name}-build",
            # Where this is a web server too; on others nginx's part takes the link away.
            str(PLACE / self.name),
            str(PLACE / f".{self.name}"),
        ):
            discard(directory)
        for user in reversed(self.users):
            with contextlib.suppress(KeyError):
                pwd.getpwnam(user)
                code, output = run(["userdel", user], stderr=subprocess.STDOUT)
                if code != 0:
                    raise Failed(f"{self.name}: the user {user} cannot be removed: {output.strip()}")
        self.accounts.unlink()


def busy(holder: dict[str, Any]) -> bool:
    """Whether a run of a playbook has the lock and may be going on."""
    return bool(holder) and time.time() - holder.get("since", 0) < LOCK_LIMIT


def is_empty(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not os.listdir(entry.path)


def discard(path: str) -> None:
    """Remove a file or a tree; links in it are removed, not followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    here = [removal for removal in map(Removal, parameters["remove"]) if removal.is_here()]
    purges = [Removal(name) for name in parameters["purge"]]
    for removal in purges:
        if removal.is_here() and removal.name not in parameters["remove"]:
            raise Failed(
                f"asgi_purge: {removal.name} is on this host and may be in use: nothing was changed. Take it away first"
                f" (asgi_remove={removal.name})"
            )
    if not check_mode:
        for removal in here:
            try:
                removal.remove(parameters["break_lock"])
            except ReleaseError as error:
                raise Failed(f"{removal.name}: {error}") from error
    purged = [path for removal in purges for path in removal.kept()]
    for path in [] if check_mode else purged:
        discard(path)
    names = dict.fromkeys(parameters["remove"] + parameters["purge"])
    kept = [path for name in names for path in Removal(name).kept()]
    return {
        "changed": bool(here or purged),
        "removed": [removal.name for removal in here],
        "purged": purged,
        "kept": kept,
    }
