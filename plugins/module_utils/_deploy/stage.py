# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unpacks the code of a release, and writes what it runs with beside it."""

from __future__ import annotations

import base64
import contextlib
import grp
import os
import stat
import tempfile
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import ReleaseError
from ansible_collections.vivarium.server.plugins.module_utils._asgi.running import TOKEN, new_token
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import Step, write_for_group


class Stage(Step):
    """The steps staged and configured."""

    def staged(self) -> bool:
        release = self.release
        if release == self.application.live() or release.record.get("state") == "good":
            raise ReleaseError(f"there is a release {release.id} already; run again")
        self.account(self.app["user"], f"/var/lib/asgi-{self.app['name']}")
        self.builder()
        self.clear(release)
        # Entered by whoever needs what lies in it, listed by nobody.
        release.path.mkdir(mode=0o711, parents=True)
        code = release.path / "code"
        self.hand_to_builder(code)
        # An archive comes with the module, or as a file.
        with open(self.data["archive"], "rb") if self.data["archive"] else tempfile.TemporaryFile() as stream:
            if self.data["code"]:
                stream.write(base64.b64decode(self.data["code"]))
                stream.seek(0)
            if self.data["kind"] != "package":
                # Nothing of the project runs: what is unpacked here is changed by nobody else.
                # A file may be several archives, one for each submodule.
                place = f"--property=ReadWritePaths={code}"
                command = (
                    "/bin/tar",
                    "--extract",
                    "--gzip",
                    "--ignore-zeros",
                    "--no-same-owner",
                    "--directory",
                    str(code),
                )
                if self.as_builder([place], command, stdin=stream) != 0:
                    raise ReleaseError(f"the code cannot be unpacked:\n{self.output}")
        if self.data["kind"] == "archive":
            self.strip_wrapper(code)
        if self.app["source"].get("subdirectory"):
            # What everything else calls the code is the project; the rest lies around it.
            os.rename(code, self.tree)
            code.symlink_to(self.project().relative_to(release.path))
        release.note(
            state="staged",
            version=self.data["release"]["version"],
            parts=self.data["parts"],
            created=time.time(),
        )
        return True

    def project(self) -> Path:
        """Where the project lies in what was sent: a directory there, reached by no link. Nobody changes it meanwhile."""
        place, parts = self.tree, Path(self.app["source"].get("subdirectory") or "").parts
        for part in parts:
            place /= part
            if not os.path.lexists(place) or not stat.S_ISDIR(os.lstat(place).st_mode):
                raise ReleaseError(f"source.subdirectory: there is no directory '{'/'.join(parts)}' in the code")
        return place

    def strip_wrapper(self, code: Path) -> None:
        """An archive often holds one directory around everything: the code begins inside it."""
        inside = list(code.iterdir())
        if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():
            wrapper = code.with_name("code.wrapper")
            os.rename(inside[0], wrapper)
            code.rmdir()
            os.rename(wrapper, code)

    def configured(self) -> bool:
        """What the release runs with beside its code; live() sees to it that it is on the disk before the switch is."""
        group = grp.getgrnam(self.app["user"]).gr_gid
        for entry in self.data["files"]:
            path = Path(entry["path"])
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir(mode=0o750)
                os.chown(path.parent, 0, group)
            # From its first moment nobody can read it who may not read it in the end.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(entry["content"].encode("utf-8", "surrogateescape"))
                os.fchown(descriptor, 0, group)
                os.fchmod(descriptor, int(entry["mode"], 8) & ~stat.S_IRWXO)
        write_for_group(self.release.path / TOKEN, new_token(), group)
        return True
