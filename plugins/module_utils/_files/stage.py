# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where new files come into being and old ones are kept, so that all of it can be taken back.

Readers of a file see the old or the new one at any moment: it changes by a rename. Until all files are in place and proven, the
old ones are kept in the stage, on the disk: a run that is killed is taken back by the next one.
"""

from __future__ import annotations

import contextlib
import os
import stat

from ansible_collections.vivarium.server.plugins.module_utils._files.changes import ABSENT, Change, State
from ansible_collections.vivarium.server.plugins.module_utils._files.folders import (
    PLACE,
    Folder,
    Refused,
    names_in,
    within,
)
from ansible_collections.vivarium.server.plugins.module_utils._files.tell import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# Work in progress lies in a directory of this name beside the files: new/NAME is what comes, old/NAME what was there.
STAGE = ".vivarium~"


class Stage:
    """The directory, beside the files, in which the new ones come into being and the old ones are kept."""

    def __init__(self, folder: Folder, undo: contextlib.ExitStack) -> None:
        self.folder, self.path = folder, os.path.join(folder.path, STAGE)
        with within(folder, self.path):
            os.mkdir(STAGE, 0o711, dir_fd=folder.handle)
            undo.callback(dismiss, folder)
            self.handle = os.open(STAGE, PLACE, dir_fd=folder.handle)
            undo.callback(os.close, self.handle)
            self.check()
            for name in ("new", "old"):
                os.mkdir(name, 0o711, dir_fd=self.handle)

    def check(self) -> None:
        """It is the one that was made, at its place: without it, a run that is killed would be taken for finished."""
        with within(self.folder, self.path):
            info = os.fstat(self.handle)
            if info.st_uid != os.geteuid() or not os.path.samestat(info, os.lstat(STAGE, dir_fd=self.folder.handle)):
                raise Refused(f"{self.path} was replaced while it was in use")

    def write(self, path: str, state: State) -> None:
        """Write a new file or link; nobody can read it who may not read it in the end."""
        new = f"new/{os.path.basename(path)}"
        with within(self.folder, path):
            if state.kind == "link":
                os.symlink(state.content, new, dir_fd=self.handle)
            elif state.kind == "file":
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with os.fdopen(os.open(new, flags, 0o600, dir_fd=self.handle), "wb") as file:
                    give(file.fileno(), self.folder, path, state)
                    file.write(state.content)
                    file.flush()
                    os.fsync(file.fileno())

    def place(self, change: Change, undo: contextlib.ExitStack) -> None:
        """Put the new version in the old one's place, keeping the old one at hand."""
        path, name, here = change.path, os.path.basename(change.path), self.folder.handle
        into, out = {"src_dir_fd": here, "dst_dir_fd": self.handle}, {"src_dir_fd": self.handle, "dst_dir_fd": here}
        new, old = f"new/{name}", f"old/{name}"
        with within(self.folder, path):
            kept = change.have is not ABSENT and change.want is not ABSENT and keep(name, old, into)
            if change.have is not ABSENT:
                if not kept:
                    os.rename(name, old, **into)
                undo.callback(put_back, self.folder, path, os.rename, old, name, **out)
            if kept:
                os.rename(new, name, **out)
            elif change.want is not ABSENT:
                # Linked, not renamed: fails if somebody else was faster, and tells recover() that this file is not finished.
                os.link(new, name, follow_symlinks=False, **out)
                undo.callback(put_back, self.folder, path, os.unlink, name, dir_fd=here)


def keep(name: str, old: str, into: dict[str, int]) -> bool:
    """Link the old version to where it is kept. Of a file of somebody else's the kernel may refuse that: it can but be moved."""
    try:
        os.link(name, old, follow_symlinks=False, **into)
    except PermissionError:
        return False
    return True


def give(handle: int, folder: Folder, path: str, state: State) -> None:
    """Set owner, group and mode of what is open."""
    try:
        os.fchown(handle, state.uid, state.gid)
    except PermissionError as error:
        if folder.user is None:
            raise
        name = folder.user.name
        raise Refused(
            f"{path} cannot become {attributes(state)}: its directory is {name}'s, with whose rights it is written. "
            f"Let it belong to {name}, or choose a directory of root's"
        ) from error
    os.fchmod(handle, state.mode)


def put_back(folder: Folder, path: str, function: Callable[..., None], *arguments: Any, **handles: int) -> None:
    """Undo something; if that is not possible it is said, and the rest is still put back."""
    try:
        with within(folder, path):
            function(*arguments, **handles)
    except (OSError, Refused) as error:
        raise Refused(f"something failed, and {path} could not be put back: {error}") from error


def recover(folder: Folder) -> None:
    """Put back what a killed run left half done in a directory."""
    path, here = os.path.join(folder.path, STAGE), folder.handle
    with within(folder, path):
        try:
            info = os.lstat(STAGE, dir_fd=here)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
            raise Refused(f"{path} is not ours: look at it and remove it")
        for name, handle, _stage in halves(folder):
            for entry in names_in(handle, folder, path):
                if name == "new":
                    unlink_same(entry, handle, here)
                else:
                    os.rename(entry, entry, src_dir_fd=handle, dst_dir_fd=here)
        clear(folder)


def halves(folder: Folder) -> Iterator[tuple[str, int, int]]:
    """The two directories of a stage, as far as they are there."""
    with contextlib.ExitStack() as handles:
        stage = os.open(STAGE, PLACE, dir_fd=folder.handle)
        handles.callback(os.close, stage)
        for name in ("new", "old"):
            with contextlib.suppress(FileNotFoundError):
                handle = os.open(name, PLACE, dir_fd=stage)
                handles.callback(os.close, handle)
                yield name, handle, stage


def clear(folder: Folder) -> None:
    """Remove a stage; what is in it and cannot be ours is an error."""
    path = os.path.join(folder.path, STAGE)
    with within(folder, path):
        for name, handle, stage in halves(folder):
            for entry in names_in(handle, folder, path):
                os.unlink(entry, dir_fd=handle)
            os.rmdir(name, dir_fd=stage)
        os.rmdir(STAGE, dir_fd=folder.handle)


def dismiss(folder: Folder) -> None:
    """Remove a stage where something failed: that is what is to be told."""
    with contextlib.suppress(OSError, Refused):
        clear(folder)


def unlink_same(name: str, new: int, here: int) -> None:
    """Remove a file that came to its place but was not finished."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(name, dir_fd=new), os.lstat(name, dir_fd=here)):
            os.unlink(name, dir_fd=here)
