#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a set of files, directories and links to the wanted state, all or nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write all the files of a role at once, or none of them
version_added: 0.1.0
description:
  - Renders templates on the controller and brings files, directories and links on the host to the wanted state in one
    round trip, which takes about as long as a single M(ansible.builtin.copy).
  - The set is a transaction. New content is written beside the old, each file that has a validator is checked, then
    all are renamed into place. If anything fails, O(validate) included, everything is put back as it was.
  - What a killed run left half done is put back by the next run before it starts; that run then reports what it changes.
  - Says which files changed and, by labels, whom that concerns, so that a handler restarts only what must be restarted.
  - A symbolic link at O(files[].path) is replaced by the file; it is never written through.
options:
  directories:
    description: Directories that exist. Missing parents are made, owned by root with mode 0755.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: Owner, a name or a number.
        type: str
        default: root
      group:
        description: Group, a name or a number.
        type: str
        default: root
      mode:
        description: Mode, in octal digits and quoted.
        type: str
        default: "0755"
      purge:
        description:
          - A shell pattern such as V(*.conf). Files and links in the directory whose names match it and which this task
            does not list are removed. Subdirectories stay; so do names that start with a dot unless the pattern does.
        type: str
      concerns:
        description: Labels returned in RV(concerns) when the directory changed or something in it was purged.
        type: list
        elements: str
        default: []
  files:
    description: Files that exist with this content, or do not exist.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. Its directory exists or is listed in O(directories).
        type: path
        required: true
      template:
        description:
          - A template, rendered as M(ansible.builtin.template) does with its defaults. It is searched where that searches,
            and last in the C(templates) directory that the roles of this collection share.
          - Exactly one of O(files[].template), O(files[].content) and O(files[].source) is required for a present file.
        type: str
      content:
        description: The content itself.
        type: str
      source:
        description: A file in the role's or playbook's C(files) directory, copied as it is.
        type: str
      vars:
        description: Variables for this template only.
        type: dict
        default: {}
      owner:
        description: Owner, a name or a number.
        type: str
        default: root
      group:
        description: Group, a name or a number.
        type: str
        default: root
      mode:
        description: Mode, in octal digits and quoted.
        type: str
        default: "0644"
      secret:
        description: Keep the content out of the diff. (It is never in the result, in verbose output or in the host's journal.)
        type: bool
        default: false
      validate:
        description: A command, run without a shell, that checks the new file, V(%s), before anything is replaced.
        type: str
      concerns:
        description: Labels returned in RV(concerns) when this file changed.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes a file or a link, never a directory.
        type: str
        choices: [present, absent]
        default: present
  links:
    description: Symbolic links, replaced atomically.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the link. A file there is replaced, a directory is not.
        type: path
        required: true
      target:
        description: What the link holds. It need not exist.
        type: str
        required: true
      concerns:
        description: Labels returned in RV(concerns) when this link changed.
        type: list
        elements: str
        default: []
  validate:
    description:
      - A command, run without a shell, that checks the whole set when all is in place. It runs only if something changed.
      - If it fails, every file, link and directory is put back as it was and the task fails with the command's output.
    type: str
attributes:
  check_mode:
    description: Reports the changes and the diff that a real run would; validators do not run.
    support: full
  diff_mode:
    description: One entry for each path that changes.
    support: full
notes:
  - In check mode an owner, group or parent directory that an earlier task would have made may be missing.
author: Vivarium maintainers
"""

EXAMPLES = r"""
- name: configure | Write nginx's files
  vivarium.server.files:
    directories:
      - {path: /etc/nginx/sites.d, purge: "*.conf", concerns: [nginx]}
    files:
      - {path: /etc/nginx/nginx.conf, template: nginx.conf.j2, concerns: [nginx]}
      - {path: /etc/nginx/sites.d/shop.conf, template: site.conf.j2, vars: {site: shop}, concerns: [nginx]}
      - {path: /etc/sudoers.d/deploy, content: "%deploy ALL=(root) NOPASSWD: /bin/true\n", mode: "0440", validate: visudo -cf %s}
      - {path: /etc/nginx/old.conf, state: absent}
    links:
      - {path: /srv/shop/live, target: releases/42}
    validate: nginx -t
  register: __nginx_files
  notify: nginx | Reload

- name: configure | Write a secret
  vivarium.server.files:
    files:
      - path: /etc/shop.env
        content: "{{ shop_secrets | vivarium.server.env_file }}"
        mode: "0600"
        secret: true
"""

RETURN = r"""
changed_paths:
  description: The paths that changed, in the order in which they were changed.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/nginx.conf]
concerns:
  description: The labels of all that changed, sorted.
  returned: success
  type: list
  elements: str
  sample: [nginx]
output:
  description: What the validator that failed had to say.
  returned: when a validator failed
  type: str
"""

import contextlib
import fcntl
import fnmatch
import grp
import hashlib
import os
import pwd
import shlex
import shutil
import stat
import subprocess
from collections import namedtuple

from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

# Work in progress lies in a directory of this name beside the files: new/NAME is what comes, old/NAME what was there.
STAGE = ".vivarium~"

State = namedtuple("State", "kind uid gid mode content")
ABSENT = State("absent", None, None, None, None)
Change = namedtuple("Change", "path have want secret concerns validate")


class Refused(Exception):
    """The order cannot be carried out; nothing has changed. Arguments: the message, a validator's output."""


def state_of(path):
    """What is at `path` now; a link's content is its target."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    if stat.S_ISLNK(info.st_mode):
        return State("link", None, None, None, os.readlink(path))
    content, kind = None, "directory" if stat.S_ISDIR(info.st_mode) else "special file"
    if stat.S_ISREG(info.st_mode):
        kind = "file"
        with open(path, "rb") as file:
            content = file.read()
    return State(kind, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), content)


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


def plan(order, tolerant):
    """Compare what is there with what is asked for: the changes, in the order in which they are made."""
    changes, removals, owned, folders = [], [], set(), set()
    for key, kind in (("directories", "directory"), ("files", "file"), ("links", "link")):
        for entry in order[key]:
            path = entry["path"]
            owned.add(path)
            have, want = state_of(path), wanted(kind, entry, tolerant)
            if have != want:
                refuse_clash(path, have, want)
                hidden = entry.get("secret", False) or (want.kind != "file" and private(have))
                change = Change(path, have, want, hidden, entry["concerns"], entry.get("validate"))
                (removals if want is ABSENT else changes).append(change)
            parent = os.path.dirname(path)
            if kind == "directory":
                folders.add(path)
            elif not (tolerant or want is ABSENT or parent in folders or os.path.isdir(parent)):
                raise Refused(f"{path}: its directory does not exist")
    for entry in order["directories"]:
        for path in purged(entry, owned):
            have = state_of(path)
            removals.append(Change(path, have, ABSENT, private(have), entry["concerns"], None))
    return changes + removals


def purged(entry, owned):
    """The files and links in a directory that match its pattern and that nobody listed."""
    path, pattern = entry["path"], entry["purge"]
    if not pattern or state_of(path).kind != "directory":
        return
    for name in sorted(os.listdir(path)):
        full = os.path.join(path, name)
        meant = fnmatch.fnmatchcase(name, pattern) and name.startswith(".") <= pattern.startswith(".")
        if meant and full not in owned and state_of(full).kind in ("file", "link"):
            yield full


def private(state):
    """Whether a file that goes away was not for everyone to read: then the diff does not show it either."""
    return state.kind == "file" and not state.mode & stat.S_IROTH


def refuse_clash(path, have, want):
    """A directory never makes way for something else, nor something else for a directory; a device stays."""
    clash = have is not ABSENT and (have.kind == "directory") != (want.kind == "directory")
    if clash or have.kind == "special file":
        verb = "remove" if want is ABSENT else f"make it a {want.kind}"
        raise Refused(f"{path} is a {have.kind}: will not {verb}")


def apply(order, changes):
    """Carry out the changes; whatever goes wrong on the way, everything is put back."""
    entries = [change for change in changes if change.want.kind != "directory"]
    stages = [os.path.join(folder, STAGE) for folder in sorted({os.path.dirname(change.path) for change in entries})]
    with contextlib.ExitStack() as undo:
        for change in changes:
            if change.want.kind == "directory":
                make_directory(change, undo)
        for stage in stages:
            undo.callback(shutil.rmtree, stage, ignore_errors=True)
            for folder in (stage, os.path.join(stage, "new"), os.path.join(stage, "old")):
                os.mkdir(folder, 0o711)
        for change in entries:
            write(staged(change.path, "new"), change.want)
        for change in entries:
            if change.validate:
                run(change.validate.replace("%s", shlex.quote(staged(change.path, "new"))), change.path)
        for change in entries:
            place(change, undo)
        if order["validate"] and changes:
            run(order["validate"], "the new files")
        undo.pop_all()
    for stage in stages:
        shutil.rmtree(stage)


def staged(path, name):
    """Where the new or the old version of a file lies while the work goes on."""
    return os.path.join(os.path.dirname(path), STAGE, name, os.path.basename(path))


def make_directory(change, undo):
    """Make a directory and its missing parents, or set its owner and mode."""
    path, have, want = change.path, change.have, change.want
    if have is ABSENT:
        missing = [path]
        while not os.path.lexists(os.path.dirname(missing[0])):
            missing.insert(0, os.path.dirname(missing[0]))
        for folder in missing:
            os.mkdir(folder, 0o700)
            undo.callback(os.rmdir, folder)
            os.chmod(folder, 0o755 if folder != path else 0o700)
    else:
        undo.callback(own, path, have)
    own(path, want)


def own(path, state):
    """Set a directory's owner, group and mode."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(handle, state.uid, state.gid)
        os.fchmod(handle, state.mode)
    finally:
        os.close(handle)


def write(path, state):
    """Write a new file or link; nobody can read it who may not read it in the end."""
    if state.kind == "link":
        os.symlink(state.content, path)
    elif state.kind == "file":
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            os.fchown(file.fileno(), state.uid, state.gid)
            os.fchmod(file.fileno(), state.mode)
            file.write(state.content)
            file.flush()
            os.fsync(file.fileno())


def place(change, undo):
    """Put the new version in the old one's place, keeping the old one at hand."""
    path, new, old = change.path, staged(change.path, "new"), staged(change.path, "old")
    if change.want is ABSENT:
        os.rename(path, old)
        undo.callback(os.rename, old, path)
    elif change.have is ABSENT:
        # Linked, not renamed: fails if somebody else was faster, and tells recover() that this file is not finished.
        os.link(new, path, follow_symlinks=False)
        undo.callback(os.unlink, path)
    else:
        os.link(path, old, follow_symlinks=False)
        undo.callback(os.rename, old, path)
        os.rename(new, path)


def recover(folder):
    """Put back what a killed run left half done in a directory."""
    stage = os.path.join(folder, STAGE)
    if not os.path.lexists(stage):
        return
    if state_of(stage).kind != "directory" or os.lstat(stage).st_uid != os.geteuid():
        raise Refused(f"{stage} is not ours: look at it and remove it")
    for name, restore in (("new", unlink_same), ("old", os.rename)):
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(os.path.join(stage, name)):
                restore(os.path.join(stage, name, entry), os.path.join(folder, entry))
    shutil.rmtree(stage)


def unlink_same(new, path):
    """Remove a file that came to its place but was not finished."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(new), os.lstat(path)):
            os.unlink(path)


def run(command, what):
    """Run a validator."""
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
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
        "before_header": f"{change.path} ({attributes(have)})",
        "after_header": f"{change.path} ({attributes(want)})",
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
        return f"link to {state.content}\n"
    if hidden:
        return f"({hidden} content, secret)\n"
    with contextlib.suppress(UnicodeDecodeError):
        if len(state.content) < 100_000 and b"\0" not in state.content:
            return state.content.decode()
    return f"({len(state.content)} bytes, sha256 {hashlib.sha256(state.content).hexdigest()})\n"


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
    """Wait until no other run works in the same directories; whatever lies half done in them is then from a dead one."""
    folders = {entry["path"] for entry in order["directories"]}
    folders |= {os.path.dirname(entry["path"]) for entry in order["files"] + order["links"]}
    with contextlib.ExitStack() as handles:
        for folder in sorted(filter(os.path.isdir, folders)):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            handles.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            recover(folder)
        yield


def main(order, check_mode, diff):
    """The module; ``order`` is what the action made of its options."""
    changes = []
    try:
        if check_mode:
            changes = plan(order, tolerant=True)
        else:
            with locked(order):
                changes = plan(order, tolerant=False)
                apply(order, changes)
    except Refused as refusal:
        secrets = set(secrets_in(changes))
        raise Failed(without(secrets, refusal.args[0]), output=without(secrets, "".join(refusal.args[1:]))) from refusal
    except OSError as error:
        raise Failed(f"writing failed, and what had changed was put back: {error}") from error
    result = {
        "changed": bool(changes),
        "changed_paths": [change.path for change in changes],
        "concerns": sorted({label for change in changes for label in change.concerns}),
    }
    if diff:
        result["diff"] = [difference(change) for change in changes]
    return result
