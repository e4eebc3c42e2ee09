# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carries changes out: all of them, or none."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess

from ansible_collections.vivarium.server.plugins.module_utils._files.changes import ABSENT, Change, State
from ansible_collections.vivarium.server.plugins.module_utils._files.folders import Folder, Refused, Tree, User, within
from ansible_collections.vivarium.server.plugins.module_utils._files.stage import Stage, clear, give, put_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long to wait for a validator (seconds).
VALIDATION = 600


def apply(order: dict[str, Any], changes: list[Change], tree: Tree) -> None:
    """Carry out the changes; whatever goes wrong on the way, everything is put back."""
    entries = [change for change in changes if change.want.kind != "directory"]
    with contextlib.ExitStack() as undo:
        for change in changes:
            if change.want.kind == "directory":
                make_directory(change, tree, undo)
        stages = {}
        for path in sorted({os.path.dirname(change.path) for change in entries}):
            folder = tree.there(path)
            if folder.path not in stages:
                stages[folder.path] = Stage(folder, undo)
        work = [(change, stages[tree.there(os.path.dirname(change.path)).path]) for change in entries]
        for change, stage in work:
            stage.write(change.path, change.want)
        for change, stage in work:
            if change.validate:
                new = os.path.join(stage.path, "new", os.path.basename(change.path))
                run(change.validate.replace("%s", shlex.quote(new)), change.path, stage.folder.user)
        for change, stage in work:
            stage.place(change, undo)
        if order["validate"] and changes:
            run(order["validate"], "the new files")
        for stage in stages.values():
            stage.check()
        undo.pop_all()
    for stage in stages.values():
        os.close(stage.handle)
        try:
            clear(stage.folder)
        except OSError as error:
            raise Refused(f"all is written, but {stage.path} cannot be removed: {error.strerror}") from error


def make_directory(change: Change, tree: Tree, undo: contextlib.ExitStack) -> None:
    """Make a directory and its missing parents, or set its owner and mode."""
    path, have, want = change.path, change.have, change.want
    if have is ABSENT:
        missing = [path]
        while tree.above(missing[0]) is None:
            missing.insert(0, os.path.dirname(missing[0]))
        for each in missing:
            above, name = tree.there(os.path.dirname(each)), os.path.basename(each)
            with within(above, each):
                os.mkdir(name, 0o700, dir_fd=above.handle)
                undo.callback(put_back, above, each, os.rmdir, name, dir_fd=above.handle)
                if each != path:
                    own(above, each, State("directory", -1, -1, 0o755, None))
    else:
        above = tree.there(os.path.dirname(path))
        undo.callback(put_back, above, path, own, above, path, have)
    with within(above, path):
        own(above, path, want)
    # It may be another user's now.
    tree.forget(os.path.join(above.path, os.path.basename(path)))


def own(above: Folder, path: str, state: State) -> None:
    """Set a directory's owner, group and mode."""
    handle = os.open(os.path.basename(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above.handle)
    try:
        give(handle, above, path, state)
    finally:
        os.close(handle)


def run(command: str, what: str, user: User | None = None) -> None:
    """Run a validator; with the rights of whoever could replace the file that it reads."""
    identity = {"user": user.uid, "group": user.gid, "extra_groups": user.groups, "cwd": "/"} if user else {}
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=VALIDATION,
            **identity,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused(f"validation of {what} did not end within {VALIDATION} seconds ({command})") from error
    except OSError as error:
        raise Refused(f"cannot validate {what}: {error}") from error
    if done.returncode != 0:
        output = done.stdout.decode("utf-8", "replace").strip()
        raise Refused(f"validation of {what} failed ({command}): {output}", output)
