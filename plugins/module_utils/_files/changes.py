# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is there, what is asked for, and the changes between the two."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import stat
from collections import namedtuple

from ansible_collections.vivarium.server.plugins.module_utils._files.folders import (
    Folder,
    Refused,
    Tree,
    names_in,
    within,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# What is there may be of any size: more is not read, unless what is to come is as large.
LARGEST = 1024 * 1024
# What is added to the name of a file of somebody else's for the copy that is kept.
COPY = ".before"

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

State = namedtuple("State", "kind uid gid mode content")
ABSENT = State("absent", None, None, None, None)
Change = namedtuple("Change", "path have want secret concerns validate")
# Stands for a content that was not read.
Unread = namedtuple("Unread", "size")


def planned(order: dict[str, Any], tolerant: bool, tree: Tree) -> tuple[list[Change], list[Change]]:
    """The changes, and those among them of files that somebody else has written, which may stop all of them."""
    changes = plan(order, tolerant, tree)
    strangers = without_mark(order, changes)
    if strangers and order.get("unmarked", "leave") == "leave":
        return [], strangers
    kept = list(copies(strangers, tree)) if order.get("unmarked") == "keep" else []
    return kept + changes, strangers


def plan(order: dict[str, Any], tolerant: bool, tree: Tree) -> list[Change]:
    """Compare what is there with what is asked for: the changes, in the order in which they are made."""
    changes: list[Change] = []
    removals: list[Change] = []
    folders = set()
    for key, kind in (("directories", "directory"), ("files", "file"), ("links", "link")):
        for entry in order[key]:
            path = entry["path"]
            want, above = wanted(kind, entry, tolerant), tree.above(path)
            have = state_of(above, path, len(want.content or ""))
            if have != want:
                refuse_clash(path, have, want)
                hidden = entry.get("secret", False) or (want.kind != "file" and private(have))
                change = Change(path, have, want, hidden, entry["concerns"], entry.get("validate"))
                (removals if want is ABSENT else changes).append(change)
            if kind == "directory":
                folders.add(path)
            elif not (tolerant or want is ABSENT or above or os.path.dirname(path) in folders):
                raise Refused(f"{path}: its directory does not exist")
    return changes + removals


def state_of(folder: Folder | None, path: str, size: int = 0) -> State:
    """What is at `path` in its directory now; a link's content is its target. A large file is read only if it has this size."""
    if folder is None:
        return ABSENT
    name = os.path.basename(path)
    with within(folder, path):
        try:
            info = os.lstat(name, dir_fd=folder.handle)
            if stat.S_ISLNK(info.st_mode):
                return State("link", None, None, None, os.readlink(name, dir_fd=folder.handle))
        except FileNotFoundError:
            return ABSENT
        content: bytes | Unread | None = None
        kind = "directory" if stat.S_ISDIR(info.st_mode) else "special file"
        if stat.S_ISREG(info.st_mode):
            kind, content = "file", Unread(info.st_size)
            if info.st_size <= LARGEST or info.st_size == size:
                content = content_of(folder, name, content)
    return State(kind, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), content)


def content_of(folder: Folder, name: str, unread: Unread) -> bytes | Unread:
    """The bytes of a file; what nobody but root may read, or what its owner is holding, is replaced unread."""
    try:
        handle = os.open(name, READ, dir_fd=folder.handle)
    except (PermissionError, BlockingIOError, FileNotFoundError):
        return unread
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return unread
        content = file.read(unread.size + 1)
    return content if len(content) == unread.size else unread


def wanted(kind: str, entry: dict[str, Any], tolerant: bool) -> State:
    """What an entry of the order asks for."""
    if entry.get("state") == "absent":
        return ABSENT
    if kind == "link":
        return State(kind, None, None, None, entry["target"])
    uid = number(entry, "owner", lambda name: pwd.getpwnam(name).pw_uid, tolerant)
    gid = number(entry, "group", lambda name: grp.getgrnam(name).gr_gid, tolerant)
    content = entry["content"].encode("utf-8", "surrogateescape") if kind == "file" else None
    return State(kind, uid, gid, int(entry["mode"], 8), content)


def number(entry: dict[str, Any], key: str, look_up: Callable[[str], int], tolerant: bool) -> int | str:
    """The number of an owner or a group; in check mode a name that is still to be made stands for itself."""
    name = str(entry[key])
    if name.isdigit():
        return int(name)
    try:
        return look_up(name)
    except KeyError:
        if tolerant:
            return name
        raise Refused(f"{entry['path']}: {key} {name} does not exist") from None


def private(state: State) -> bool:
    """Whether a file that goes away was not for everyone to read: then the diff does not show it either."""
    return state.kind == "file" and not state.mode & stat.S_IROTH


def refuse_clash(path: str, have: State, want: State) -> None:
    """A directory never makes way for something else, nor something else for a directory; a device stays."""
    clash = have is not ABSENT and (have.kind == "directory") != (want.kind == "directory")
    if clash or have.kind == "special file":
        verb = "remove" if want is ABSENT else f"make it a {want.kind}"
        raise Refused(f"{path} is a {have.kind}: will not {verb}")


def without_mark(order: dict[str, Any], changes: list[Change]) -> list[Change]:
    """The changes of files that somebody else has written."""
    marks = {entry["path"]: entry["mark"].encode() for entry in order["files"] if entry.get("mark")}

    def ours(change: Change) -> bool:
        return isinstance(change.have.content, bytes) and marks[change.path] in change.have.content

    return [each for each in changes if each.path in marks and each.have is not ABSENT and not ours(each)]


def copies(changes: list[Change], tree: Tree) -> Iterator[Change]:
    """What keeps the former versions of files beside the new ones."""
    for change in changes:
        path, want = change.path + COPY, change.have
        if isinstance(want.content, Unread):
            raise Refused(f"nothing was changed: {change.path} cannot be copied, it has {want.content.size} bytes")
        have = state_of(tree.above(path), path, len(want.content))
        if have is ABSENT:
            yield Change(path, have, want, change.secret or private(want), [], None)
        elif have.content != want.content:
            raise Refused(
                f"nothing was changed: {path}, where the copy of {change.path} belongs, is there already and is another file:"
                " move it away"
            )


def unlisted(order: dict[str, Any], tree: Tree) -> list[str]:
    """The files and links in directories that match the pattern given there and that nobody listed."""
    listed = {entry["path"] for key in ("directories", "files", "links") for entry in order[key]}
    found = []
    for entry in order["directories"]:
        folder = tree.folder(entry["path"]) if entry["unlisted"] else None
        if folder is None:
            continue
        for name in names_in(folder.handle, folder, entry["path"]):
            path, pattern = os.path.join(entry["path"], name), entry["unlisted"]
            meant = fnmatch.fnmatchcase(name, pattern) and name.startswith(".") <= pattern.startswith(".")
            if meant and path not in listed and state_of(folder, path).kind in ("file", "link"):
                found.append(path)
    return sorted(found)
