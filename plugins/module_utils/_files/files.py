# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a set of files, directories and links to the wanted state, all or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import grp
import hashlib
import itertools
import os
import pwd
import resource
import shlex
import stat
import subprocess
import time
from collections import namedtuple

from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

# Work in progress lies in a directory of this name beside the files: new/NAME is what comes, old/NAME what was there.
STAGE = ".vivarium~"
# Nobody but its owner can open the lock; who is not root has one at home. How long to wait for who holds it, and for a validator
# (seconds).
LOCK = "/run/vivarium-files.lock"
if os.geteuid() != 0:
    HOME = os.path.expanduser("~")
    LOCK = f"{HOME}/.vivarium-files.lock" if os.access(HOME, os.W_OK) else f"/tmp/vivarium-files-{os.geteuid()}.lock"  # noqa: S108
PATIENCE = 120
VALIDATION = 600
# What is there may be of any size: more is not read, unless what is to come is as large. More than so many files are not ours.
LARGEST = 1024 * 1024
MOST_FILES = 10_000

# What is added to the name of a file of somebody else's for the copy that is kept.
COPY = ".before"

# A place where directories are opened, not what is in them.
PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

State = namedtuple("State", "kind uid gid mode content")
ABSENT = State("absent", None, None, None, None)
Change = namedtuple("Change", "path have want secret concerns validate")
# Stands for a content that was not read.
Unread = namedtuple("Unread", "size")
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

    def __init__(self):
        self.trusted = {0, os.geteuid()}
        self.known, self.links = {}, 0
        self.handles = contextlib.ExitStack()
        self.root = self.judged("/", self.opened("/", None), None)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.handles.close()

    def forget(self, path):
        """Look again at whose a directory is, and those below it."""
        self.known = {key: folder for key, folder in self.known.items() if not f"{folder.path}/".startswith(f"{path}/")}

    def folder(self, path):
        """A directory by its path; None if there is none."""
        return self.walk(self.root, path)

    def above(self, path):
        """The directory in which something lies."""
        return self.folder(os.path.dirname(path))

    def walk(self, folder, path):
        for part in path.split("/"):
            if folder is None:
                return None
            if part == "..":
                # Its path holds no link.
                folder = self.folder(os.path.dirname(folder.path))
            elif part not in ("", "."):
                folder = self.entered(folder, part)
        return folder

    def entered(self, above, name):
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

    def opened(self, name, above):
        handle = os.open(name, PLACE, dir_fd=above)
        self.handles.callback(os.close, handle)
        return handle

    def followed(self, above, path, target, info):
        """Where a link leads that nobody but root can have made."""
        if not above.links or info.st_uid not in self.trusted:
            raise Refused(f"{path} is a link that others than root can change: will not follow it")
        self.links += 1
        if self.links > 40:
            raise Refused(f"{path}: too many links")
        return self.walk(self.root if target.startswith("/") else above, target)

    def judged(self, path, handle, above):
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


def user_of(info):
    """The owner of a directory, with the groups that he has when he logs in."""
    try:
        entry = pwd.getpwuid(info.st_uid)
    except KeyError:
        return User(str(info.st_uid), info.st_uid, 65534, [])
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid))


def others(info, handle, trusted):
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
def within(folder, path):
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
def rights(user):
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


def state_of(folder, path, size=0):
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
        content, kind = None, "directory" if stat.S_ISDIR(info.st_mode) else "special file"
        if stat.S_ISREG(info.st_mode):
            kind, content = "file", Unread(info.st_size)
            if info.st_size <= LARGEST or info.st_size == size:
                content = content_of(folder, name, content)
    return State(kind, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), content)


def content_of(folder, name, unread):
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


def wanted(kind, entry, tolerant):
    """What an entry of the order asks for."""
    if entry.get("state") == "absent":
        return ABSENT
    if kind == "link":
        return State(kind, None, None, None, entry["target"])
    uid = number(entry, "owner", lambda name: pwd.getpwnam(name).pw_uid, tolerant)
    gid = number(entry, "group", lambda name: grp.getgrnam(name).gr_gid, tolerant)
    content = entry["content"].encode("utf-8", "surrogateescape") if kind == "file" else None
    return State(kind, uid, gid, int(entry["mode"], 8), content)


def number(entry, key, look_up, tolerant):
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


def plan(order, tolerant, tree):
    """Compare what is there with what is asked for: the changes, in the order in which they are made."""
    changes, removals, folders = [], [], set()
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


def without_mark(order, changes):
    """The changes of files that somebody else has written."""
    marks = {entry["path"]: entry["mark"].encode() for entry in order["files"] if entry.get("mark")}

    def ours(change):
        return isinstance(change.have.content, bytes) and marks[change.path] in change.have.content

    return [each for each in changes if each.path in marks and each.have is not ABSENT and not ours(each)]


def copies(changes, tree):
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


def unlisted(order, tree):
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


def names_in(place, folder, path):
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


def private(state):
    """Whether a file that goes away was not for everyone to read: then the diff does not show it either."""
    return state.kind == "file" and not state.mode & stat.S_IROTH


def refuse_clash(path, have, want):
    """A directory never makes way for something else, nor something else for a directory; a device stays."""
    clash = have is not ABSENT and (have.kind == "directory") != (want.kind == "directory")
    if clash or have.kind == "special file":
        verb = "remove" if want is ABSENT else f"make it a {want.kind}"
        raise Refused(f"{path} is a {have.kind}: will not {verb}")


def apply(order, changes, tree):
    """Carry out the changes; whatever goes wrong on the way, everything is put back."""
    entries = [change for change in changes if change.want.kind != "directory"]
    with contextlib.ExitStack() as undo:
        for change in changes:
            if change.want.kind == "directory":
                make_directory(change, tree, undo)
        stages = {}
        for path in sorted({os.path.dirname(change.path) for change in entries}):
            folder = tree.folder(path)
            if folder is None:
                raise Refused(f"{path} is gone")
            if folder.path not in stages:
                stages[folder.path] = Stage(folder, undo)
        work = [(change, stages[tree.above(change.path).path]) for change in entries]
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


def put_back(folder, path, function, *arguments, **handles):
    """Undo something; if that is not possible it is said, and the rest is still put back."""
    try:
        with within(folder, path):
            function(*arguments, **handles)
    except (OSError, Refused) as error:
        raise Refused(f"something failed, and {path} could not be put back: {error}") from error


def make_directory(change, tree, undo):
    """Make a directory and its missing parents, or set its owner and mode."""
    path, have, want = change.path, change.have, change.want
    if have is ABSENT:
        missing = [path]
        while tree.above(missing[0]) is None:
            missing.insert(0, os.path.dirname(missing[0]))
        for each in missing:
            above, name = tree.above(each), os.path.basename(each)
            with within(above, each):
                os.mkdir(name, 0o700, dir_fd=above.handle)
                undo.callback(put_back, above, each, os.rmdir, name, dir_fd=above.handle)
                if each != path:
                    own(above, each, State("directory", -1, -1, 0o755, None))
    else:
        above = tree.above(path)
        undo.callback(put_back, above, path, own, above, path, have)
    with within(above, path):
        own(above, path, want)
    # It may be another user's now.
    tree.forget(os.path.join(above.path, os.path.basename(path)))


def own(above, path, state):
    """Set a directory's owner, group and mode."""
    handle = os.open(os.path.basename(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above.handle)
    try:
        give(handle, above, path, state)
    finally:
        os.close(handle)


def give(handle, folder, path, state):
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


class Stage:
    """The directory, beside the files, in which the new ones come into being and the old ones are kept."""

    def __init__(self, folder, undo):
        self.folder, self.path = folder, os.path.join(folder.path, STAGE)
        with within(folder, self.path):
            os.mkdir(STAGE, 0o711, dir_fd=folder.handle)
            undo.callback(dismiss, folder)
            self.handle = os.open(STAGE, PLACE, dir_fd=folder.handle)
            undo.callback(os.close, self.handle)
            self.check()
            for name in ("new", "old"):
                os.mkdir(name, 0o711, dir_fd=self.handle)

    def check(self):
        """It is the one that was made, at its place: without it, a run that is killed would be taken for finished."""
        with within(self.folder, self.path):
            info = os.fstat(self.handle)
            if info.st_uid != os.geteuid() or not os.path.samestat(info, os.lstat(STAGE, dir_fd=self.folder.handle)):
                raise Refused(f"{self.path} was replaced while it was in use")

    def write(self, path, state):
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

    def place(self, change, undo):
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


def keep(name, old, into):
    """Link the old version to where it is kept. Of a file of somebody else's the kernel may refuse that: it can but be moved."""
    try:
        os.link(name, old, follow_symlinks=False, **into)
    except PermissionError:
        return False
    return True


def recover(folder):
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


def halves(folder):
    """The two directories of a stage, as far as they are there."""
    with contextlib.ExitStack() as handles:
        stage = os.open(STAGE, PLACE, dir_fd=folder.handle)
        handles.callback(os.close, stage)
        for name in ("new", "old"):
            with contextlib.suppress(FileNotFoundError):
                handle = os.open(name, PLACE, dir_fd=stage)
                handles.callback(os.close, handle)
                yield name, handle, stage


def clear(folder):
    """Remove a stage; what is in it and cannot be ours is an error."""
    path = os.path.join(folder.path, STAGE)
    with within(folder, path):
        for name, handle, stage in halves(folder):
            for entry in names_in(handle, folder, path):
                os.unlink(entry, dir_fd=handle)
            os.rmdir(name, dir_fd=stage)
        os.rmdir(STAGE, dir_fd=folder.handle)


def dismiss(folder):
    """Remove a stage where something failed: that is what is to be told."""
    with contextlib.suppress(OSError, Refused):
        clear(folder)


def unlink_same(name, new, here):
    """Remove a file that came to its place but was not finished."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(name, dir_fd=new), os.lstat(name, dir_fd=here)):
            os.unlink(name, dir_fd=here)


def run(command, what, user=None):
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


def difference(change):
    """A change, for people to read."""
    have, want = change.have, change.want
    if have.kind == want.kind and have.content == want.content:
        before, after = f"{attributes(have)}\n", f"{attributes(want)}\n"
    else:
        before, after = text(have, change.secret and "old"), text(want, change.secret and "new")
    return {
        "before_header": f"{printable(change.path)} ({attributes(have)})",
        "after_header": f"{printable(change.path)} ({attributes(want)})",
        "before": before,
        "after": after,
    }


def attributes(state):
    """Kind, owner, group and mode in a few words."""
    if state.mode is None:
        return state.kind
    owner, group = state.uid, state.gid
    with contextlib.suppress(KeyError, TypeError):
        owner = pwd.getpwuid(owner).pw_name
    with contextlib.suppress(KeyError, TypeError):
        group = grp.getgrgid(group).gr_name
    return f"{state.kind} {owner}:{group} {state.mode:04o}"


def text(state, hidden):
    """What a diff shows of a file's content."""
    if state is ABSENT:
        return ""
    if state.kind == "directory":
        return f"{attributes(state)}\n"
    if state.kind == "link":
        return f"link to {printable(state.content)}\n"
    if hidden:
        return f"({hidden} content, secret)\n"
    if isinstance(state.content, Unread):
        return f"({state.content.size} bytes)\n"
    with contextlib.suppress(UnicodeDecodeError):
        if len(state.content) < 100_000:
            shown = state.content.decode()
            if printable(shown) == shown.replace("\r\n", "\n"):
                return shown
    return f"({len(state.content)} bytes, sha256 {hashlib.sha256(state.content).hexdigest()})\n"


def printable(text):
    """A text that changes nothing on a terminal: who could write a file or name one may not speak to the operator's."""
    text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def secrets_in(changes):
    """Lines and values of secret files, so that a validator that quotes them does not give them away."""
    for change in changes:
        for content in (change.have.content, change.want.content) if change.secret else ():
            lines = content.decode("utf-8", "replace").splitlines() if isinstance(content, bytes) else []
            for line in lines:
                yield from (part for part in (line.strip(), line.partition("=")[2].strip(" \"'")) if len(part) > 3)


def without(secrets, text):
    """A text in which nothing secret stands."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "********")
    return text


@contextlib.contextmanager
def locked(order):
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


def make_room(handles):
    """A directory takes two handles; where there are hundreds, a process may not have so many unless it says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if handles > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(handles, hard), hard))


def note(handle, text):
    """Say in the lock who holds it."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode("utf-8", "surrogateescape"), 0)


def planned(order, tolerant, tree):
    """The changes, and those among them of files that somebody else has written, which may stop all of them."""
    changes = plan(order, tolerant, tree)
    strangers = without_mark(order, changes)
    if strangers and order.get("unmarked", "leave") == "leave":
        return [], strangers
    kept = list(copies(strangers, tree)) if order.get("unmarked") == "keep" else []
    return kept + changes, strangers


def main(order, check_mode, diff):
    """The module; ``order`` is what the action made of its options."""
    changes, strangers = [], []
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
