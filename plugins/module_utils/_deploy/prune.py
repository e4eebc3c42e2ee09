# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Removes releases that nobody needs any more."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import Release, processes_of
from ansible_collections.vivarium.server.plugins.module_utils._deploy.static import Static

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Prune(Static):
    """What the step live does at its end."""

    def prune(self, units: Iterable[str]) -> None:
        """Remove old releases, but none that is live, that runs or still stops, or that a rollback would want."""
        releases = self.application.releases()
        good = [release for release in releases if release.record.get("state") == "good"]
        running = {unit.removesuffix(".service").split("@", 1)[1] for unit in units}
        kept = set(good[-self.app["keep_releases"] :]) | {self.application.live(), self.release}
        users = {0}
        with contextlib.suppress(KeyError):
            users |= {pwd.getpwnam(self.app[user]).pw_uid for user in ("user", "build_user")}
        for release in releases:
            if release not in kept and release.id not in running and not is_somewhere(release.path, users):
                self.clear(release)
            else:
                self.close(release)
        self.prune_static(self.application.releases())

    def close(self, release: Release) -> None:
        """Close a release to others that was made when everybody could read one; its directories have been root's since then."""
        for name in ("code", "venv", "static", "lib"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, KeyError):
                handle = os.open(release.path / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    found = os.fstat(handle)
                    if found.st_uid == 0 and found.st_mode & stat.S_IRWXO:
                        os.fchown(handle, 0, grp.getgrnam(self.app["user"]).gr_gid)
                        os.fchmod(handle, 0o750)
                finally:
                    os.close(handle)


def is_somewhere(path: Path, users: Iterable[int]) -> bool:
    """Whether a process of one of these users works below a directory: a task by the clock, or a person's shell.

    Others can enter a release as well; a release that nobody needs is not kept for them.
    """
    for pid in {pid for user in users for pid in processes_of(user)}:
        with contextlib.suppress(OSError):
            if path in (place := Path(os.readlink(f"/proc/{pid}/cwd"))).parents or place == path:
                return True
    return False
