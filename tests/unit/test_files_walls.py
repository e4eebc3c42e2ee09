"""Where the module vivarium.server.files works in directories that others can change, they gain nothing by it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import struct
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._files import files as module
from ansible_collections.vivarium.server.plugins.module_utils._files import folders
from ansible_collections.vivarium.server.plugins.module_utils._files import write as write_module
from ansible_collections.vivarium.server.plugins.module_utils._files.changes import LARGEST
from ansible_collections.vivarium.server.plugins.module_utils._files.stage import STAGE
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed
from ansible_collections.vivarium.server.plugins.plugin_utils.files import checked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what root does and others do")

NOBODY = pwd.getpwnam("nobody")
THEIRS = {"owner": NOBODY.pw_name, "group": NOBODY.pw_gid}


@pytest.fixture
def base():
    """A directory of root's that everybody may enter."""
    path = Path(tempfile.mkdtemp(prefix="walls-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def theirs(base):
    """A directory of nobody's."""
    path = base / "theirs"
    path.mkdir()
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    return path


@pytest.fixture
def outside(base):
    """What is root's, and is to stay as it is."""
    path = base / "outside"
    path.mkdir()
    (path / "precious").write_text("precious\n")
    (path / "precious").chmod(0o600)
    return path


def too_long(*_signal):
    raise AssertionError("this took a minute")


@pytest.fixture(autouse=True)
def limits(base, monkeypatch):
    """No test waits for long, whatever it meets."""
    monkeypatch.setattr(module, "LOCK", str(base / "lock"))
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield
    signal.alarm(0)
    assert (os.geteuid(), os.getegid(), os.getuid()) == (0, 0, 0)


def write(check=False, **args):
    """What the module returns."""
    order = checked(args)
    for entry in order["files"]:
        entry["content"] = entry["content"] or ""
    try:
        return module.main(json.loads(json.dumps(order)), check_mode=check, diff=True)
    except Failed as failure:
        return {"failed": True, "msg": str(failure), **failure.details}


def file(path, content="new\n", **more):
    return {"path": str(path), "content": content, **more}


def become_nobody():
    """Give all rights up for good."""
    os.setresuid(0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, NOBODY.pw_gid)
    os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)


def as_nobody(function):
    """Do something as nobody, in a process of its own; whether it worked."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            become_nobody()
            function()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def meanwhile(function):
    """A process of nobody's that begins with the block and is there until it ends; it says itself when it is ready."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            become_nobody()
            function(lambda: os.write(writing, b"."))
        os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"."
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended too early"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


def tree(folder):
    """All that lies in a directory and whose it is; of its own state, too."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) and info.st_size < 1000 else None
        found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_ctime_ns, content)
    return found


def test_what_lies_in_anothers_directory_is_written_with_his_rights(theirs):
    (theirs / "gone").write_text("root put it there\n")
    (theirs / "old.conf").write_text("old\n")
    order = {
        "directories": [
            {"path": str(theirs / "a/b"), "mode": "0750", **THEIRS},
            {"path": str(theirs), "unlisted": "*.conf", **THEIRS},
        ],
        "files": [
            file(theirs / "x", mode="0640", **THEIRS),
            file(theirs / "a/b/y", **THEIRS),
            {"path": str(theirs / "gone"), "state": "absent"},
        ],
        "links": [{"path": str(theirs / "l"), "target": "x"}],
    }
    checked_only = write(check=True, **order)
    done = write(**order)
    assert done == checked_only and done["changed"]
    assert done["unlisted"] == [str(theirs / "old.conf")]
    (theirs / "old.conf").unlink()
    assert sorted(os.listdir(theirs)) == ["a", "l", "x"]
    assert {path.lstat().st_uid for path in theirs.rglob("*")} == {NOBODY.pw_uid}
    assert not write(**order)["changed"]


def test_a_file_of_roots_in_his_directory_makes_way(theirs):
    """He cannot link it, as the kernel's protected_hardlinks has it, but may move it; and it comes back."""
    (theirs / "x").write_text("root's\n")
    (theirs / "x").chmod(0o600)
    before = (theirs / "x").stat().st_ino
    assert write(files=[file(theirs / "x", **THEIRS)], validate="false")["failed"]
    assert ((theirs / "x").stat().st_ino, (theirs / "x").stat().st_uid) == (before, 0)
    assert write(files=[file(theirs / "x", **THEIRS)])["changed"]
    assert ((theirs / "x").read_text(), (theirs / "x").stat().st_uid) == ("new\n", NOBODY.pw_uid)
    assert os.listdir(theirs) == ["x"]


@pytest.mark.parametrize(
    "order",
    [
        {"files": [{"name": "x"}]},
        {"files": [{"name": "x", "owner": "nobody", "group": "shadow"}]},
        {"directories": [{"name": "d"}]},
        {"directories": [{"name": "new/d"}]},
    ],
)
def test_nothing_there_can_be_somebody_elses(theirs, order):
    (theirs / "d").mkdir()
    os.chown(theirs / "d", NOBODY.pw_uid, NOBODY.pw_gid)
    before = sorted(theirs.rglob("*"))
    order = {key: [{"path": str(theirs / each.pop("name")), **each} for each in map(dict, order[key])] for key in order}
    for entry in order.get("files", []):
        entry["content"] = "hunter2"
    message = write(**order)["msg"]
    assert f"{theirs}/" in message and "nobody" in message and "hunter2" not in message
    assert sorted(theirs.rglob("*")) == before


def test_a_directory_of_roots_below_his_is_not_changed(theirs):
    """He can put another one in its place."""
    (theirs / "roots").mkdir()
    message = write(files=[file(theirs / "roots/x")])["msg"]
    assert f"{theirs}/roots" in message and "nobody" in message
    assert os.listdir(theirs / "roots") == []


@pytest.mark.parametrize("name", ["parent", STAGE])
@pytest.mark.parametrize("check", [True, False])
def test_his_links_are_not_followed(theirs, outside, name, check):
    (theirs / name).symlink_to(outside)
    os.lchown(theirs / name, NOBODY.pw_uid, NOBODY.pw_gid)
    before = tree(outside)
    result = write(check=check, files=[file(theirs / ("parent/x" if name == "parent" else "x"), **THEIRS)])
    assert tree(outside) == before
    # Nothing is staged in check mode.
    assert str(theirs / name) in result["msg"] if name == "parent" or not check else result["changed"]


def test_nor_are_links_of_roots_where_he_can_move_them(theirs, outside):
    (theirs / "one").symlink_to(outside)
    before = tree(outside)
    assert f"{theirs}/one is a link" in write(files=[file(theirs / "one/x", **THEIRS)])["msg"]
    assert tree(outside) == before


def test_a_directory_of_everybodys_keeps_what_is_roots(base, outside):
    shared = base / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert as_nobody(lambda: (shared / "link").symlink_to(outside))
    assert as_nobody(lambda: (shared / "x").symlink_to(outside / "precious"))
    assert as_nobody(lambda: (shared / "his").mkdir())
    before = tree(outside)
    assert "will not follow" in write(files=[file(shared / "link/x")])["msg"]
    # His directory is written to with his rights, root's with root's.
    assert "nobody" in write(files=[file(shared / "his/x")])["msg"]
    assert write(directories=[{"path": str(shared / "ours")}], files=[file(shared / "x"), file(shared / "ours/x")])[
        "changed"
    ]
    assert (shared / "x").read_text() == "new\n" and not (shared / "x").is_symlink()
    assert tree(outside) == before
    assert as_nobody(lambda: (shared / STAGE).mkdir())
    assert "is not ours" in write(files=[file(shared / "x", "newer\n")])["msg"]


def test_links_that_only_root_can_have_made_are_followed(base):
    (base / "run/deep").mkdir(parents=True)
    (base / "var").mkdir()
    (base / "var/run").symlink_to("../run")
    (base / "var/deep").symlink_to(base / "var/run/deep")
    assert write(files=[file(base / "var/run/x"), file(base / "var/deep/y"), file(base / "run/deep/z")])["changed"]
    assert (base / "run/x").exists() and sorted(os.listdir(base / "run/deep")) == ["y", "z"]
    (base / "loop").symlink_to("loop")
    assert "too many links" in write(files=[file(base / "loop/x")])["msg"]


def test_a_link_of_roots_into_his_directory_gives_him_nothing(base, theirs):
    (base / "link").symlink_to(theirs)
    assert "nobody" in write(files=[file(base / "link/x")])["msg"]
    assert write(files=[file(base / "link/x", **THEIRS)])["changed"]
    assert (theirs / "x").stat().st_uid == NOBODY.pw_uid


def test_a_directory_that_a_group_can_change(base):
    ours = base / "ours"
    ours.mkdir()
    for mode, group, problem in (
        (0o775, NOBODY.pw_gid, "can be changed by the group"),
        (0o777, 0, "can be changed by everybody"),
        (0o775, 0, None),
        (0o775, 54321, None),  # a group that nobody is in, as staff is
    ):
        os.chown(ours, 0, group)
        ours.chmod(mode)
        result = write(files=[file(ours / "x", f"{mode} {group}")])
        assert (problem in result["msg"] and str(ours) in result["msg"]) if problem else result["changed"], (
            mode,
            group,
        )


def test_a_directory_with_an_access_list(base):
    ours = base / "ours"
    ours.mkdir()
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, NOBODY.pw_uid), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    try:
        os.setxattr(
            ours, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
        )
    except OSError:
        pytest.skip("no access lists on this file system")
    assert as_nobody(lambda: (ours / "y").touch())
    assert "access list" in write(files=[file(ours / "x")])["msg"]


def swap(path, place, make):
    """Put something of his own in the place of something."""

    def now():
        with contextlib.suppress(OSError):
            os.rename(path, f"{place}/.moved-{time.monotonic_ns()}")
        make()

    return now


def attacks(theirs, outside):
    """What he could do at any moment."""
    trap = theirs / "trap"
    return {
        "stage": swap(theirs / STAGE, theirs, lambda: (theirs / STAGE).symlink_to(trap)),
        "stage of his own": swap(theirs / STAGE, theirs, lambda: shutil.copytree(trap, theirs / STAGE, symlinks=True)),
        "new": swap(theirs / STAGE / "new", theirs, lambda: (theirs / STAGE / "new").symlink_to(outside)),
        "old": swap(theirs / STAGE / "old", theirs, lambda: (theirs / STAGE / "old").symlink_to(outside)),
        "file": swap(theirs / "x", theirs, lambda: (theirs / "x").symlink_to(outside / "precious")),
        "pipe": swap(theirs / "x", theirs, lambda: os.mkfifo(theirs / "x")),
        "directory for a file": swap(theirs / "x", theirs, (theirs / "x").mkdir),
        "parent": swap(theirs / "d", theirs, lambda: (theirs / "d").symlink_to(outside)),
        "made": swap(theirs / "made", theirs, lambda: (theirs / "made").symlink_to(outside)),
    }


class Interrupted:
    """Lets him act before one of the module's calls of the system, by its number."""

    CALLS = ("open", "mkdir", "link", "rename", "lstat", "unlink", "rmdir", "symlink", "fchown", "fsync")

    def __init__(self, patch, step, attack):
        self.left, self.attack = step, attack
        for name in self.CALLS:
            patch.setattr(module.os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, real):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                as_nobody(self.attack)
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("name", list(attacks(Path(), Path())))
def test_he_gains_nothing_at_any_step(theirs, outside, monkeypatch, name):
    """He acts between any two calls of the system that the module makes: each in a run of its own."""
    before, attack = tree(outside), attacks(theirs, outside)[name]
    for step in range(1, 300):
        shutil.rmtree(theirs)
        for folder in (theirs, theirs / "d", theirs / "trap"):
            folder.mkdir()
        for half in ("new", "old"):
            (theirs / "trap" / half).symlink_to(outside)
        (theirs / "x").write_text("old\n")
        for path in [theirs, *theirs.rglob("*")]:
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
        with monkeypatch.context() as patch:
            meeting = Interrupted(patch, step, attack)
            result = write(
                directories=[
                    {"path": str(theirs / "made"), **THEIRS},
                    {"path": str(theirs / "d"), "mode": "0700", **THEIRS},
                ],
                files=[file(theirs / "x", **THEIRS), file(theirs / "d/y", **THEIRS), file(theirs / "made/z", **THEIRS)],
                links=[{"path": str(theirs / "l"), "target": "x"}],
                validate="true",
            )
        assert tree(outside) == before, (step, result)
        assert result.get("changed") or str(theirs) in result["msg"], (step, result)
        # What he left is no trap for the next run, either.
        again = write(files=[file(theirs / "x", "newer\n", **THEIRS)])
        assert tree(outside) == before, (step, again)
        assert again.get("changed") or str(theirs) in again["msg"], (step, again)
        if meeting.left > 0:
            break
    # The last run ended before it was his turn.
    assert 50 < step < 299 and result["changed"]


def test_he_gains_nothing_by_being_fast(theirs, outside):
    (theirs / "d").mkdir()
    os.chown(theirs / "d", NOBODY.pw_uid, NOBODY.pw_gid)
    before = tree(outside)

    def race(ready):
        trap, stage, number = theirs / "trap", theirs / STAGE, 0
        trap.mkdir()
        for half in ("new", "old"):
            (trap / half).symlink_to(outside)
        ready()
        while True:
            number += 1
            with contextlib.suppress(OSError):
                os.unlink(stage)
            if (stage / "old").exists():
                with contextlib.suppress(OSError):
                    os.rename(stage, theirs / f".moved-{number}")
                    os.symlink(trap, stage)
            if number % 5 == 0:
                with contextlib.suppress(OSError):
                    os.rename(theirs / "d", theirs / ".d")
                    os.symlink(outside, theirs / "d")
                    os.unlink(theirs / "d")
                    os.rename(theirs / ".d", theirs / "d")

    with meanwhile(race):
        for number in range(200):
            result = write(
                files=[file(theirs / "x", f"{number}", **THEIRS), file(theirs / "d/y", f"{number}", **THEIRS)]
            )
            assert result.get("changed") or str(theirs) in result["msg"], result
    assert tree(outside) == before


def test_pipes_devices_and_huge_files_hold_nobody_up(base, theirs):
    for folder, owner in ((base, {}), (theirs, THEIRS)):
        os.mkfifo(folder / "pipe")
        assert "special file" in write(files=[file(folder / "pipe", **owner)])["msg"]
        with open(folder / "huge", "wb") as huge:
            huge.truncate(3 << 30)
        os.chown(folder / "huge", NOBODY.pw_uid, NOBODY.pw_gid)
        assert write(check=True, files=[file(folder / "huge", **owner)])["diff"][0]["before"] == f"({3 << 30} bytes)\n"
        assert write(files=[file(folder / "huge", **owner)])["changed"]
        assert (folder / "huge").read_text() == "new\n"


def test_what_is_large_on_purpose_is_compared(base):
    content = "x" * (LARGEST + 1)
    assert write(files=[file(base / "x", content)])["changed"]
    assert not write(files=[file(base / "x", content)])["changed"]
    assert write(files=[file(base / "x", content[:-1] + "y")])["changed"]


def test_a_file_that_its_owner_holds_is_replaced_unread(base):
    """Opening a file on which its owner has a lease waits for him."""
    path = base / "x"
    path.write_text("his\n")
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)

    def hold(ready):
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(os.open(path, os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
        ready()
        time.sleep(60)

    with meanwhile(hold):
        began = time.monotonic()
        assert write(files=[file(path)])["changed"]
        assert time.monotonic() - began < 20
    assert path.read_text() == "new\n"


def test_a_hard_link_is_replaced_not_written_through(base, theirs, outside):
    for folder, owner in ((base, {}), (theirs, THEIRS)):
        os.link(outside / "precious", folder / "x")
        assert write(files=[file(folder / "x", **owner)])["changed"]
        assert (folder / "x").read_text() == "new\n"
    info = (outside / "precious").stat()
    assert ((outside / "precious").read_text(), info.st_uid, info.st_mode & 0o777, info.st_nlink) == (
        "precious\n",
        0,
        0o600,
        1,
    )


def test_what_he_leaves_in_a_stage_of_his_own(theirs, outside, monkeypatch):
    stage, before = theirs / STAGE, tree(outside)

    def leave():
        (stage / "old").mkdir(parents=True)
        (stage / "old/x").symlink_to(outside / "precious")
        (stage / "new").symlink_to(outside)

    assert as_nobody(leave)
    assert str(stage) in write(files=[file(theirs / "x", **THEIRS)])["msg"]
    shutil.rmtree(stage)
    assert as_nobody(lambda: (stage / "new/deep").mkdir(parents=True))
    assert str(stage) in write(files=[file(theirs / "x", **THEIRS)])["msg"]
    shutil.rmtree(stage)
    assert as_nobody(lambda: (stage / "old").mkdir(parents=True))
    for number in range(4):
        assert as_nobody((stage / f"old/{number}").touch)
    monkeypatch.setattr(folders, "MOST_FILES", 3)
    assert "more than 3 files" in write(files=[file(theirs / "x", **THEIRS)])["msg"]
    monkeypatch.undo()
    assert tree(outside) == before


def test_a_killed_run_in_his_directory_is_put_back(base, theirs, monkeypatch):
    monkeypatch.setattr(module, "LOCK", str(base / "lock"))
    (theirs / "x").write_text("old\n")
    os.chown(theirs / "x", NOBODY.pw_uid, NOBODY.pw_gid)
    order = {"files": [file(theirs / "x", **THEIRS), file(theirs / "y", **THEIRS)]}
    child = os.fork()
    if child == 0:
        write(validate=f"sh -c 'kill -9 {os.getpid()}'", **order)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (theirs / "x").read_text() == "new\n"
    assert write(validate="false", **order)["failed"]
    assert (os.listdir(theirs), (theirs / "x").read_text()) == (["x"], "old\n")
    assert write(**order)["changed_paths"] == [str(theirs / "x"), str(theirs / "y")]


def test_the_validator_of_his_file_has_his_rights(theirs, base):
    seen = "sh -c 'id -u; id -G; cat $1; false' sh %s"
    result = write(files=[file(theirs / "x", validate=seen, **THEIRS)])
    assert result["output"] == f"{NOBODY.pw_uid}\n{NOBODY.pw_gid}\nnew"
    assert write(files=[file(base / "x", validate=seen)])["output"].startswith("0\n0")


def test_a_validator_that_does_not_end(base, monkeypatch):
    monkeypatch.setattr(write_module, "VALIDATION", 0.2)
    assert "did not end" in write(files=[file(base / "x", validate="sh -c 'sleep 30' %s")])["msg"]
    assert "did not end" in write(files=[file(base / "x")], validate="sleep 30")["msg"]
    assert not (base / "x").exists()


def test_what_he_wrote_does_not_speak_to_the_terminal(theirs):
    for number, name in enumerate(("x", "evil\x1b[2J.conf", b"bytes\xff.conf")):
        with open(os.path.join(os.fsencode(theirs), os.fsencode(name)), "w") as stream:
            stream.write("\x1b]0;owned\x07" + "ordinary\n" * number)
    (theirs / "link.conf").symlink_to("\x1b[2J")
    os.chown(theirs / "x", NOBODY.pw_uid, NOBODY.pw_gid)
    there = [os.path.join(theirs, name) for name in os.listdir(theirs) if name.endswith(".conf") and name.isascii()]
    done = write(
        directories=[{"path": str(theirs), "unlisted": "*.conf", **THEIRS}],
        files=[file(theirs / "x", **THEIRS), *({"path": path, "state": "absent"} for path in there)],
    )
    assert len(done["unlisted"]) == 1
    shown = [*done["changed_paths"], *done["unlisted"], *(part for entry in done["diff"] for part in entry.values())]
    assert all(part.replace("\n", "").isprintable() for part in shown)
    spoken = write(files=[file(theirs / "x", "newer\n", **THEIRS)], validate="printf '\\033[2Jbad'")
    assert spoken["changed"]
    spoken = write(files=[file(theirs / "x", **THEIRS)], validate="sh -c 'printf \"\\033[2Jbad\"; exit 1'")
    assert "bad" in spoken["msg"] and (spoken["msg"] + spoken["output"]).isprintable()


def test_nobody_else_can_make_a_run_wait(base):
    def hold(ready):
        fcntl.flock(os.open(base, os.O_RDONLY), fcntl.LOCK_EX)
        ready()
        time.sleep(60)

    with meanwhile(hold):
        assert write(files=[file(base / "x")])["changed"]
    assert not as_nobody(lambda: os.open(base / "lock", os.O_RDONLY))


def test_a_run_waits_for_another_and_says_for_whom(base):
    """The other one's validator lasts."""
    child = os.fork()
    if child == 0:
        write(files=[file(base / "first"), file(base / "second")], validate="sleep 30")
        os._exit(0)
    try:
        while not (base / "second").exists():
            time.sleep(0.01)
        message = write(files=[file(base / "x")])["msg"]
        assert f"process {child}, since 20" in message and f"{base}/first and 1 more" in message
        assert not (base / "x").exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    # Whoever was killed holds nothing.
    assert write(files=[file(base / "x")])["changed"]


@pytest.mark.parametrize("make", [lambda lock: lock.touch(0o644), lambda lock: lock.symlink_to("elsewhere"), os.mkfifo])
def test_a_lock_that_others_could_hold_is_none(base, make):
    make(base / "lock")
    (base / "lock").is_symlink() or (base / "lock").chmod(0o644)
    assert str(base / "lock") in write(files=[file(base / "x")])["msg"]
    assert not (base / "x").exists() and not (base / "elsewhere").exists()
