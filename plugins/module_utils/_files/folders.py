# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directories on the way to files, and with whose rights each is worked in."""

from __future__ import annotations

import contextlib
import grp
import itertools
import os
import pwd
import stat
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A directory that holds more is none that we fill.
MOST_FILES = 10_000

# A place where directories are opened, not what is in them.
PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW

# A directory by its handle. `user` is with whose rights to work in it, None for our own; `foreign` says that it or a directory
# above it belongs to somebody else, `links` whether a link in it may be followed.
Folder = namedtuple("Folder", "path handle user foreign links")
User = namedtuple("User", "name uid gid groups")


class Refused(Exception):
    """The order cannot be carried out; nothing has changed. Arguments: the message, a validator's output."""


class Tree:
    """The directories on the way to the files, each opened once, by its name in the handle of the one above it.

    Who can change a directory can put a link or another directory in the place of what is in it, at any moment. So a link is
    followed only where nobody but root can have made it (/var/run, /lib), and from the first directory on that belongs to
    another user all is done with that user's rights: he gains nothing that he could not do himself.
    """

    def __init__(self) -> None:
        self.trusted = {0, os.geteuid()}
        self.known: dict[str, Folder] = {}
        self.links = 0
        self.handles = contextlib.ExitStack()
        self.root = self.judged("/", self.opened("/", None), None)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_error: object) -> None:
        self.handles.close()

    def forget(self, path: str) -> None:
        """Look again at whose a directory is, and those below it."""
        self.known = {key: folder for key, folder in self.known.items() if not f"{folder.path}/".startswith(f"{path}/")}

    def folder(self, path: str) -> Folder | None:
        """A directory by its path; None if there is none."""
        return self.walk(self.root, path)

    def above(self, path: str) -> Folder | None:
        """The directory in which something lies."""
        return self.folder(os.path.dirname(path))

    def there(self, path: str) -> Folder:
        """A directory that was there before."""
        folder = self.folder(path)
        if folder is None:
            raise Refused(f"{path} is gone")
        return folder

    def walk(self, folder: Folder | None, path: str) -> Folder | None:
        for part in path.split("/"):
            if folder is None:
                return None
            if part == "..":
                # Its path holds no link.
                folder = self.folder(os.path.dirname(folder.path))
            elif part not in ("", "."):
                folder = self.entered(folder, part)
        return folder

    def entered(self, above: Folder, name: str) -> Folder | None:
        path = os.path.join(above.path, name)
        if path not in self.known:
            target = None
            with within(above, path):
                try:
                    handle = self.opened(name, above.handle)
                except FileNotFoundError:
                    return None
                except NotADirectoryError:
                    info = os.lstat(name, dir_fd=above.handle)
                    target = os.readlink(name, dir_fd=above.handle) if stat.S_ISLNK(info.st_mode) else None
                    handle = None
            if handle is not None:
                self.known[path] = self.judged(path, handle, above)
            elif target is None:
                return None
            else:
                found = self.followed(above, path, target, info)
                if found is None:
                    return None
                self.known[path] = found
        return self.known[path]

    def opened(self, name: str, above: int | None) -> int:
        handle = os.open(name, PLACE, dir_fd=above)
        self.handles.callback(os.close, handle)
        return handle

    def followed(self, above: Folder, path: str, target: str, info: os.stat_result) -> Folder | None:
        """Where a link leads that nobody but root can have made."""
        if not above.links or info.st_uid not in self.trusted:
            raise Refused(f"{path} is a link that others than root can change: will not follow it")
        self.links += 1
        if self.links > 40:
            raise Refused(f"{path}: too many links")
        return self.walk(self.root if target.startswith("/") else above, target)

    def judged(self, path: str, handle: int, above: Folder | None) -> Folder:
        """A directory, and who can change it."""
        if above and above.foreign:
            return Folder(path, handle, above.user, True, False)
        info = os.fstat(handle)
        if info.st_uid not in self.trusted:
            return Folder(path, handle, user_of(info) if os.geteuid() == 0 else None, True, False)
        shared = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # In a sticky one, as /tmp is, what belongs to root stays where it is; other things come and go.
        if shared and not info.st_mode & stat.S_ISVTX:
            who = others(info, handle, self.trusted)
            if who:
                raise Refused(
                    f"{path} can be changed by {who}: root writes nothing there. Take that right away: chmod go-w {path}"
                )
            shared = False
        return Folder(path, handle, None, False, not shared)


def user_of(info: os.stat_result) -> User:
    """The owner of a directory, with the groups that he has when he logs in."""
    try:
        entry = pwd.getpwuid(info.st_uid)
    except KeyError:
        return User(str(info.st_uid), info.st_uid, 65534, [])
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid))


def others(info: os.stat_result, handle: int, trusted: set[int]) -> str | None:
    """Who else can write to a directory that belongs to root; None where its group has no other member."""
    if info.st_mode & stat.S_IWOTH:
        return "everybody"
    with contextlib.suppress(OSError):
        os.getxattr(f"/proc/self/fd/{handle}", "system.posix_acl_access")
        return "those in its access list"
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(info.st_gid)
        users = {entry.pw_name: entry for entry in pwd.getpwall()}
        members = {*group.gr_mem, *(name for name, entry in users.items() if entry.pw_gid == info.st_gid)}
        if any(name not in users or users[name].pw_uid not in trusted for name in members):
            return f"the group {group.gr_name}"
    return None


@contextlib.contextmanager
def within(folder: Folder, path: str) -> Iterator[None]:
    """Work in a directory with the rights that belong there; an error names the whole path."""
    try:
        with rights(folder.user):
            yield
    except OSError as error:
        reason = (
            f"{error.strerror} for {folder.user.name}, who can change its directory" if folder.user else error.strerror
        )
        raise OSError(error.errno, reason, path) from error


@contextlib.contextmanager
def rights(user: User | None) -> Iterator[None]:
    """The rights of another user; None leaves those that we have."""
    if user is None or user.uid == os.geteuid():
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(user.groups)
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def names_in(place: int, folder: Folder, path: str) -> list[str]:
    """The names in a directory; so many that they cannot be ours are refused."""
    with within(folder, path):
        handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=place)
        try:
            with os.scandir(handle) as entries:
                names = [entry.name for entry in itertools.islice(entries, MOST_FILES + 1)]
        finally:
            os.close(handle)
    if len(names) > MOST_FILES:
        raise Refused(f"{path} holds more than {MOST_FILES} files: look at it")
    return names
