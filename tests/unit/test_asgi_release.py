"""What the steps of a deploy decide and do with files, without systemd and without a host."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import grp
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import pty
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from socketserver import UnixStreamServer

import pytest
from ansible_collections.vivarium.server.plugins.action import asgi_plan as plan_action
from ansible_collections.vivarium.server.plugins.action import asgi_release as release_action
from ansible_collections.vivarium.server.plugins.filter.env_file import env_file
from ansible_collections.vivarium.server.plugins.module_utils._asgi import database as asgi_database
from ansible_collections.vivarium.server.plugins.module_utils._asgi import plan as asgi_plan
from ansible_collections.vivarium.server.plugins.module_utils._asgi import probe as asgi_probe
from ansible_collections.vivarium.server.plugins.module_utils._asgi import releases as asgi
from ansible_collections.vivarium.server.plugins.module_utils._asgi import running as asgi_running
from ansible_collections.vivarium.server.plugins.module_utils._deploy import (
    build,
    check,
    instance,
    lock,
    packages,
    prune,
    stage,
    static,
    switch,
)
from ansible_collections.vivarium.server.plugins.module_utils._deploy import deploy as asgi_release
from ansible_collections.vivarium.server.plugins.module_utils._deploy import steps as common
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi import run as run_utils
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.source import Source

ROOT = pathlib.Path(__file__).resolve().parents[2]
ME = {"run": "here/boot/1/2", "user": "me", "controller": "here"}
OTHER = {"run": "there/boot/3/4", "user": "other", "controller": "there"}


CONCERNS = (asgi_release, build, check, instance, lock, packages, prune, stage, static, common, switch)


def everywhere(patch, name, value):
    """Put something in the place of what the files of a deploy have under a name."""
    having = [module for module in CONCERNS if hasattr(module, name)]
    assert having
    for module in having:
        patch.setattr(module, name, value)


# What takes a command of a step to systemd on a host: here it runs at once, in the code, with the environment that it is given.
PROGRAM = f"""#!{sys.executable}
import os, shlex, sys
options, command = sys.argv[2 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
os.chdir(f"{{os.path.dirname(sys.argv[0])}}/shop/releases/{{sys.argv[1]}}/code")
for path in (option.removeprefix("--property=EnvironmentFile=") for option in options if "EnvironmentFile" in option):
    os.environ.update(word.split("=", 1) for word in shlex.split(open(path).read()))
os.execvp(command[0], command)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(asgi, "ROOT", tmp_path)
    everywhere(monkeypatch, "PROGRAMS", tmp_path)
    # The user of the tests is the build user here.
    everywhere(monkeypatch, "end_processes", lambda uid: None)
    for program in ("shop-run", "shop-build"):
        (tmp_path / program).write_text(PROGRAM)
        (tmp_path / program).chmod(0o755)
    (tmp_path / "shop/releases").mkdir(parents=True)
    return tmp_path / "shop"


@pytest.fixture
def deploy(root):
    def make(release="r1", holder=ME, **data):
        me = pwd.getpwuid(os.getuid())
        app = {
            "name": "shop", "user": grp.getgrgid(os.getgid()).gr_name, "build_user": me.pw_name, "build_home": me.pw_dir,
            "step_timeout": 60, "python": "python3", "keep_releases": 2, "processes": {}, "source": {}, "workers": 2,
            "framework": "django", "migrate": True, "domains": ["shop.example.com"], "health_path": "/", "health_strict": False,
            "install": {"extras": [], "groups": [], "requirements": []},
            "build": [], "static": [], "database": True,
            "hooks": {moment: [] for moment in ("before_migrate", "after_migrate", "before_switch", "after_switch")},
        }  # fmt: skip
        defaults = {
            "kind": "path", "ended": "", "break_lock": False, "server": {"packages": ["uvicorn"]}, "action": "deploy",
            "wait": False, "empty_database": False, "stopped": "", "parts": {}, "files": [],
            "build_environment": {},
        }  # fmt: skip
        app |= data.pop("app", {})
        return asgi_release.Deploy(
            {**defaults, "application": app, "release": {"id": release}, "holder": holder, **data}
        )

    return make


def add(root, identifier, **record):
    release = asgi.Application("shop").release(identifier)
    release.path.mkdir(parents=True)
    if record:
        release.note(**record)
    return release


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# runs on the host


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Take the steps of a task; what the host returns for each run there is given, and the runs are told."""
    monkeypatch.setattr(run_utils.constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.setattr(release_action.FilesAction, "run", lambda *_: {}, raising=False)

    def take(wanted, *results):
        action, runs, answers = release_action.ActionModule.__new__(release_action.ActionModule), [], iter(results)
        arguments = {name: option.get("default") for name, option in release_action.ActionModule.argument_spec.items()}
        app = {"name": "shop", "serve_with": "uvicorn", "source": {"package": "shop"}, "database": True}
        arguments |= {"steps": wanted, "application": app, "release": {"id": "r1"}}
        action.validate_argument_spec = lambda _spec: (None, arguments)

        def on_host(modules, _variables):
            runs.append(modules["asgi_release"]["steps"])
            return dict(next(answers))

        action.on_host = on_host
        return action.run(task_vars={"inventory_hostname": "web"}), runs

    return take


GOOD = {"changed": True, "live": "r0", "output": ""}


def test_the_host_does_not_go_on_by_itself_to_what_cannot_be_taken_back(steps):
    result, runs = steps(
        ["built", "checked", "collected", "migrated", "started", "live"],
        GOOD | {"output": "checked"}, {**GOOD, "changed": False, "output": "migrated"}, {**GOOD, "changed": False, "live": "r1"},
    )  # fmt: skip
    assert runs == [["built", "checked", "collected"], ["migrated", "started"], ["live"]]
    assert result == {"changed": True, "live": "r1", "output": "checked\nmigrated"}


def test_no_run_follows_one_that_failed(steps):
    result, runs = steps(
        ["checked", "migrated", "live"], GOOD, {"failed": True, "changed": False, "msg": "no", "step": "migrate"}
    )
    assert runs == [["checked"], ["migrated"]]
    assert (result["failed"], result["changed"], result["step"]) == (True, True, "migrate")


@pytest.mark.parametrize("wanted", [["migrated"], ["live"], ["started"], ["abandoned"]])
def test_what_begins_with_such_a_step_is_one_run(steps, wanted):
    assert steps(wanted, GOOD)[1] == [wanted]


# the lock


def test_one_run_holds_the_lock_from_step_to_step(deploy):
    for take in (True, False, False, True):
        step = deploy()
        step.lock(take)
        assert step.owns_lock
        step.application.lock.leave()


def test_another_run_is_refused_and_told_by_whom(deploy):
    deploy().lock(take=True)
    with pytest.raises(asgi.LockedError) as refused:
        deploy(holder=OTHER).lock(take=True)
    assert refused.value.holder["user"] == "me" and refused.value.holder["controller"] == "here"


def test_an_unlocked_application_may_be_taken(deploy):
    first = deploy()
    first.lock(take=True)
    first.unlock()
    first.application.lock.leave()
    second = deploy(holder=OTHER)
    second.lock(take=True)
    assert second.owns_lock


@pytest.mark.parametrize("how", [{"ended": ME["run"]}, {"break_lock": True}])
def test_a_lock_that_was_left_behind_is_taken_over(deploy, how):
    first = deploy()
    first.lock(take=True)
    first.application.lock.leave()
    second = deploy(holder=OTHER, **how)
    second.lock(take=True)
    assert second.owns_lock
    second.application.lock.leave()
    late = deploy()
    late.lock(take=False)
    assert not late.owns_lock


def test_a_lock_runs_out_and_each_step_renews_it(deploy, root, monkeypatch):
    first = deploy()
    first.lock(take=True)
    first.application.lock.leave()
    now = time.time()
    monkeypatch.setattr(asgi_release.time, "time", lambda: now + lock.LOCK_LIMIT - 1)
    second = deploy()
    second.lock(take=False)
    second.application.lock.leave()
    monkeypatch.setattr(asgi_release.time, "time", lambda: now + lock.LOCK_LIMIT + 1)
    with pytest.raises(asgi.LockedError):
        deploy(holder=OTHER).lock(take=True)
    monkeypatch.setattr(asgi_release.time, "time", lambda: now + 2 * lock.LOCK_LIMIT)
    deploy(holder=OTHER).lock(take=True)


def test_a_note_that_was_cut_off_is_no_holder(deploy, root):
    write(root / "deploy.lock", '{"run": "here/bo')
    step = deploy()
    step.lock(take=True)
    assert step.owns_lock and json.loads((root / "deploy.lock").read_text())["run"] == ME["run"]


@contextlib.contextmanager
def running_step(root, holder, seconds, mode=0o600):
    """A process that works on a step, as one does whose playbook was killed."""
    with open(root / "deploy.lock", "a+") as stream:
        os.chmod(stream.fileno(), mode)
        fcntl.flock(stream, fcntl.LOCK_EX)
        json.dump({**holder, "since": time.time()}, stream)
        stream.flush()
        timer = threading.Timer(seconds, lambda: fcntl.flock(stream, fcntl.LOCK_UN))
        timer.start()
        yield
        timer.join()


def test_a_step_of_a_dead_run_is_waited_for(deploy, root):
    with running_step(root, OTHER, 0.5):
        step, begun = deploy(ended=OTHER["run"]), time.monotonic()
        step.lock(take=True)
        assert step.owns_lock and time.monotonic() - begun > 0.4


def test_a_step_of_a_dead_run_is_not_waited_for_for_ever(deploy, root, monkeypatch):
    everywhere(monkeypatch, "LOCK_PATIENCE", 0.3)
    with running_step(root, OTHER, 1), pytest.raises(asgi.ReleaseError, match="still runs on this host"):
        deploy(ended=OTHER["run"]).lock(take=True)


def test_a_lock_that_others_could_once_open_is_not_theirs_to_hold(deploy, root, monkeypatch):
    """Before an upgrade anybody could open it: an application that did so has it open still."""
    everywhere(monkeypatch, "LOCK_PATIENCE", 0.5)
    with running_step(root, OTHER, 2, mode=0o644), open(root / "deploy.lock") as held:
        step, begun = deploy(ended=OTHER["run"]), time.monotonic()
        step.lock(take=True)
        assert step.owns_lock and time.monotonic() - begun > 0.4  # an earlier version's own step may have had it
        assert (root / "deploy.lock").stat().st_mode & 0o777 == 0o600
        assert not os.path.samestat(os.fstat(held.fileno()), os.stat(root / "deploy.lock"))
        with pytest.raises(asgi.LockedError):
            asgi.Application("shop").lock.enter(0)
    step.application.lock.leave()
    # Taken when nobody had it, it is a new one too.
    (root / "deploy.lock").chmod(0o644)
    with open(root / "deploy.lock") as held:
        deploy().lock(take=True)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not os.path.samestat(os.fstat(held.fileno()), os.stat(root / "deploy.lock"))


def test_a_step_of_a_live_run_is_not_waited_for(deploy, root):
    begun = time.monotonic()
    with running_step(root, OTHER, 1), pytest.raises(asgi.LockedError):
        deploy().lock(take=True)
    assert time.monotonic() - begun < 3


def test_a_lock_is_root_s_alone(deploy, root):
    """An application's user that could open it could lock it, and read the last words of a step that failed."""
    write(root / "deploy.lock", "").chmod(0o644)  # of an earlier version
    deploy().lock(take=True)
    assert (root / "deploy.lock").stat().st_mode & 0o777 == 0o600


def test_breaking_a_lock_ends_what_its_holder_still_does(deploy, root, monkeypatch):
    told = []
    everywhere(monkeypatch, "systemctl", lambda *words, check=True: told.append(words))
    with subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, time; fcntl.flock(open({str(root / 'deploy.lock')!r}, 'a'), fcntl.LOCK_EX);"
         " print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdout.readline()
        holder = {**OTHER, "since": time.time(), "pid": process.pid, "pid_start": asgi.process_start(process.pid)}
        write(root / "deploy.lock", json.dumps(holder))
        with pytest.raises(asgi.LockedError):
            deploy().lock(take=True)
        step = deploy(break_lock=True)
        step.lock(take=True)
        assert step.owns_lock and process.wait(10) < 0
    assert told == [("stop", "shop.step.service")]


def test_a_number_that_was_given_to_another_process_is_left_alone(deploy, root, monkeypatch):
    everywhere(monkeypatch, "systemctl", lambda *words, check=True: "")
    with subprocess.Popen(["sleep", "60"]) as process:
        write(root / "deploy.lock", json.dumps({**OTHER, "since": time.time(), "pid": process.pid, "pid_start": "1"}))
        deploy(break_lock=True).lock(take=True)
        assert process.poll() is None
        process.kill()


def test_a_command_that_a_dead_run_left_is_waited_for(deploy, root, monkeypatch):
    everywhere(monkeypatch, "LOCK_PATIENCE", 0.5)
    left = [{"shop.step.service": "active"}, {}]
    everywhere(monkeypatch, "active_units", lambda *_: left.pop(0) if len(left) > 1 else left[0])
    write(root / "deploy.lock", json.dumps({**OTHER, "since": time.time(), "begun": 1, "action": "deploy", "release": "r0",
          "version": "1", "from": None, "seconds": {}}))  # fmt: skip
    step = deploy(ended=OTHER["run"])
    step.lock(take=True)
    step.application.lock.leave()
    write(root / "deploy.lock", json.dumps({**OTHER, "since": time.time()}))
    left[:] = [{"shop.step.service": "active"}]
    with pytest.raises(asgi.ReleaseError, match="asgi_break_lock=true"):
        deploy(ended=OTHER["run"]).lock(take=True)


def test_a_run_that_was_refused_may_still_put_its_attempt_away(deploy, root):
    with running_step(root, OTHER, 0.2):
        refused = deploy()
        refused.lock(take=False)
        assert not refused.owns_lock and refused.abandoned() is False


def test_runs_are_told_apart_and_dead_ones_recognised():
    mine = run_utils.this_run()
    assert mine == run_utils.this_run() and not run_utils.is_dead(mine)
    controller, boot, pid, start = mine.rsplit("/", 3)
    assert run_utils.is_dead(f"{controller}/{boot}/{pid}/{int(start) + 1}")  # its number was given to another process
    assert run_utils.is_dead(f"{controller}/another boot/{pid}/{start}")
    assert not run_utils.is_dead(f"elsewhere/{boot}/999999/1")
    with subprocess.Popen(["sleep", "60"]) as process:
        theirs = f"{controller}/{boot}/{process.pid}/{run_utils._started_at(process.pid)}"
        assert not run_utils.is_dead(theirs)
        process.kill()
        while run_utils._started_at(process.pid):
            time.sleep(0.01)
        assert run_utils.is_dead(theirs)  # dead, though nobody has asked for its end yet
    assert run_utils.is_dead(theirs)


def test_a_worker_whose_playbook_was_killed_is_no_run_of_its_own():
    """It would hold the lock in the name of the process that adopted it, for ever."""
    script = """if True:
        import multiprocessing, os, signal, sys, time
        from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.run import this_run

        def work(main, own):
            assert own == this_run(), "a worker's run is its parent's"
            print(own, flush=True)
            os.kill(main, signal.SIGKILL)
            while os.getppid() == main:
                time.sleep(0.01)
            try:
                print(this_run(), flush=True)
            except Exception as error:
                print(error, flush=True)

        context = multiprocessing.get_context("fork")
        context.Process(target=work, args=(os.getpid(), this_run())).start()
        time.sleep(60)
    """
    path = os.pathsep.join([str(ROOT / ".collections"), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    own, after = run.stdout.splitlines()
    assert run_utils.is_dead(own) and after == "this run was killed: its tasks end here"


def test_a_run_agrees_on_the_first_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(run_utils.constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    assert run_utils.known("q") is None
    assert run_utils.agreed("q", lambda: "first") == run_utils.agreed("q", lambda: "second") == "first"
    assert run_utils.agreed("other", lambda: "second") == "second" and run_utils.known("q") == "first"
    # Another worker was faster while this one looked for its answer.
    assert run_utils.agreed("third", lambda: run_utils.agreed("third", lambda: "theirs") and "ours") == "theirs"
    # What was written on the way is gone.
    assert len(list(tmp_path.glob("vivarium/*"))) == 3


AGREE = """
from ansible.plugins.action import ActionBase
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi import run


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open("said", "a") as file:
            print(run.agreed("q", lambda: task_vars["inventory_hostname"]), run._note("q"), file=file)
        return {}
"""


def test_all_workers_of_a_run_see_what_it_has_agreed_on(tmp_path):
    """In Ansible's directory for the run: it is made before the workers are, and gone when the run has ended."""
    write(tmp_path / "action_plugins/agree.py", AGREE)
    write(tmp_path / "play.yml", "- {hosts: all, gather_facts: false, tasks: [{agree: {}}, {agree: {}}]}")
    places = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp")}
    command = ["ansible-playbook", "--inventory=a,b,c,", "--forks=3", "play.yml"]
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, env={**os.environ, **places}, capture_output=True, check=True)
    said = [line.split() for line in (tmp_path / "said").read_text().splitlines()]
    assert len(said) == 12
    first, second = {tuple(each) for each in said[:6]}, {tuple(each) for each in said[6:]}
    assert len(first) == len(second) == 1 and not first & second
    ((host, note),) = first
    assert host in ("a", "b", "c") and note.startswith(str(tmp_path / "tmp")) and not list((tmp_path / "tmp").iterdir())


# the log of deploys


def lines(root):
    path = root / "deploys.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def take_step(step, name, take=False):
    """One step as the module's main takes it."""
    step.lock(take, asgi.STEPS.get(name))
    try:
        getattr(step, name)()
    except asgi.ReleaseError as error:
        step.end(reason=str(error))
        raise
    finally:
        step.application.lock.leave()
    step.end()


@pytest.fixture
def quiet(monkeypatch):
    """A host whose systemd does whatever it is told and whose units run; the list of what it was told."""
    told = []
    everywhere(monkeypatch, "systemctl", lambda *words, check=True: told.append(words) or "")
    monkeypatch.setattr(asgi, "active_units", lambda pattern, *states: {})
    monkeypatch.setattr(asgi_release.Deploy, "verify", lambda self: None)
    return told


def test_a_good_deploy_leaves_one_line(deploy, root, quiet):
    asgi.Application("shop").point_live_at(good(root, "r1", 1, 10))
    add(root, "r2", state="built", parts={"source": "git:abc", "env": "digest"})
    first = deploy("r2")
    first.data["release"]["version"] = "v2 (abc)"
    first.lock(True, "stage")
    first.application.lock.leave()
    take_step(deploy("r2"), "live")
    (line,) = lines(root)
    assert line.pop("at").endswith("Z") and set(line.pop("seconds")) == {"switch", "total"}
    assert line == {
        "by": "me", "controller": "here", "action": "deploy", "release": "r2", "version": "v2 (abc)", "from": "r1",
        "source": "git:abc", "outcome": "good", "step": None, "reason": None,
    }  # fmt: skip
    assert (root / "deploys.log").stat().st_mode & 0o777 == 0o600 and (root / "deploy.lock").read_text() == ""


def test_a_deploy_that_failed_says_where_and_why(deploy, root, quiet, monkeypatch):
    def fall(step):
        raise asgi.ReleaseError("no such package\nhunter2")

    add(root, "r2", state="staged")
    monkeypatch.setattr(asgi_release.Deploy, "built", fall)
    deploy("r2").lock(True, "stage")
    with pytest.raises(asgi.ReleaseError):
        take_step(deploy("r2"), "built")
    take_step(deploy("r2"), "abandoned")
    (line,) = lines(root)
    assert (line["outcome"], line["step"], line["reason"], line["from"]) == ("failed", "build", "no such package", None)
    assert not (root / "releases/r2").exists() and "hunter2" not in (root / "deploys.log").read_text()


def test_a_host_that_has_nothing_to_say_repeats_the_controller(deploy, root, quiet):
    add(root, "r2", state="staged")
    deploy("r2").lock(True, "stage")
    take_step(deploy("r2", stopped="it failed on another host (app2: start)"), "abandoned")
    assert lines(root)[0]["reason"] == "it failed on another host (app2: start)"


def test_a_run_that_died_gets_its_line_from_the_next(deploy, root, quiet):
    deploy("r1", holder=OTHER).lock(True, "stage")
    deploy("r2", ended=OTHER["run"]).lock(True, "stage")
    (line,) = lines(root)
    assert (line["by"], line["release"], line["outcome"], line["step"]) == ("other", "r1", "interrupted", "stage")


# the switch


def test_a_release_that_nginx_cannot_reach_gives_the_requests_back_and_is_called_bad(deploy, root, quiet, monkeypatch):
    monkeypatch.setattr(asgi_release.Deploy, "verify", lambda self: "status 502")
    application = asgi.Application("shop")
    application.point_live_at(good(root, "r1", 1, 10))
    bad = add(root, "r2", state="built", created=2)
    deploy("r2").lock(True)
    with pytest.raises(asgi.ReleaseError, match="status 502; requests go to release r1 again"):
        take_step(deploy("r2"), "live")
    take_step(deploy("r2"), "abandoned")
    assert application.live().id == "r1" and bad.record["state"] == "bad" and bad.record["reason"] == "status 502"
    about = plan(root)[0]
    assert about["good"] == ["r1"] and about["bad"] == {"r2": "status 502"} and about["previous"] is None
    assert lines(root)[0]["step"] == "switch"


def test_a_first_release_that_nginx_cannot_reach_is_not_live(deploy, root, quiet, monkeypatch):
    monkeypatch.setattr(asgi_release.Deploy, "verify", lambda self: "status 502")
    add(root, "r1", state="built")
    deploy("r1").lock(True)
    with pytest.raises(asgi.ReleaseError, match="status 502; it is not live"):
        take_step(deploy("r1"), "live")
    assert asgi.Application("shop").live() is None and not os.path.lexists(root / "live")


def test_a_disk_that_is_full_at_the_switch_gives_the_requests_back(deploy, root, quiet, monkeypatch):
    def full(step, before):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(asgi_release.Deploy, "call_good", full)
    asgi.Application("shop").point_live_at(good(root, "r1", 1, 10))
    add(root, "r2", state="built")
    deploy("r2").lock(True)
    with pytest.raises(asgi.ReleaseError, match="No space left"):
        take_step(deploy("r2"), "live")
    assert asgi.Application("shop").live().id == "r1"


# hooks


def hooked(deploy, monkeypatch, root, failing=()):
    """A step whose commands are written down; those in `failing` fail."""
    ran = []
    hooks = {
        moment: [f"{moment} 'two words'"]
        for moment in ("before_migrate", "after_migrate", "before_switch", "after_switch")
    }

    def run(self, options, *command):
        ran.append(command)
        self.output = self.printed = "said why"
        return int(command[0] in failing)

    monkeypatch.setattr(asgi_release.Deploy, "run", run)
    step = deploy("r2", app={"hooks": hooks})
    step.lock(True)
    return step, ran


def test_hooks_run_around_the_migration_and_the_switch(deploy, root, quiet, monkeypatch):
    add(root, "r2", state="built")
    step, ran = hooked(deploy, monkeypatch, root)
    assert step.migrated()
    assert ran == [
        ("before_migrate", "two words"), ("python", "-m", "django", "migrate", "--noinput"), ("after_migrate", "two words"),
    ]  # fmt: skip
    del ran[:]
    step.live()
    assert ran == [("before_switch", "two words"), ("after_switch", "two words")] and step.warnings == []


@pytest.mark.parametrize("moment", ["before_migrate", "after_migrate", "before_switch"])
def test_a_hook_that_fails_before_the_switch_fails_the_deploy(deploy, root, quiet, monkeypatch, moment):
    add(root, "r2", state="built")
    step, _ran = hooked(deploy, monkeypatch, root, [moment])
    with pytest.raises(asgi.ReleaseError, match=f"the hook {moment}, '{moment} 'two words'', failed:\nsaid why"):
        (step.live if "switch" in moment else step.migrated)()
    assert asgi.Application("shop").live() is None


def test_a_hook_that_fails_after_the_switch_is_told(deploy, root, quiet, monkeypatch):
    add(root, "r2", state="built")
    step, _ran = hooked(deploy, monkeypatch, root, ["after_switch"])
    assert step.live() and asgi.Application("shop").live().id == "r2"
    assert "release r2 is live, but a hook failed: the hook after_switch" in step.warnings[0]
    assert lines(root)[0]["outcome"] == "good" and "a hook failed" in lines(root)[0]["reason"]


# what watches a release after the switch

DRAIN = importlib.machinery.SourceFileLoader("drain", str(ROOT / "roles/asgi/files/drain"))


@pytest.fixture
def drain(monkeypatch):
    # On the host they lie beside it.
    monkeypatch.syspath_prepend(str(ROOT / "roles/asgi/files/server"))
    monkeypatch.setitem(sys.modules, "releases", asgi)
    spec = importlib.util.spec_from_loader("drain", DRAIN)
    program = importlib.util.module_from_spec(spec)
    DRAIN.exec_module(program)
    return program


def test_requests_are_taken_back_once_from_a_release_that_falls_over(root, drain, monkeypatch):
    told = []
    monkeypatch.setattr(drain, "systemctl", lambda *words: told.append(words) or 0)
    old, new = good(root, "r1", 1, 10), good(root, "r2", 2, 20)
    old.note(processes=["worker"])
    new.note(processes=["worker", "beat"])
    application = asgi.Application("shop")
    application.point_live_at(new)
    assert drain.take_back(application, old, new, "it fell\nTraceback")
    assert application.live() == old and old.record["live_since"] > 20
    assert (new.record["state"], new.record["step"], new.record["reason"]) == ("bad", "settle", "it fell\nTraceback")
    assert ("start", "--no-block", "shop-worker@r1.service") in told
    assert ("stop", "--no-block", "shop-worker@r2.service", "shop-beat@r2.service") in told
    (line,) = lines(root)
    assert (line["action"], line["release"], line["from"], line["reason"]) == ("return", "r1", "r2", "it fell")
    assert not drain.take_back(application, old, new, "again")
    told = asgi.tell_of_fallen(application)
    assert "release r2 (None) did not stay up, and requests went back to r1" in told[0] and told[1] == "it fell"


def test_visitors_do_not_wait_for_a_process_that_takes_its_time_to_end(root, drain, monkeypatch):
    """Requests and the verdict come first, then the one that must be alone ends, then the earlier one starts."""
    told = []
    application = asgi.Application("shop")
    monkeypatch.setattr(
        drain, "systemctl", lambda *words: told.append((application.live().id, new.record["state"], *words)) or 0
    )
    old, new = good(root, "r1", 1, 10), good(root, "r2", 2, 20)
    old.note(processes=["worker", "poller"])
    new.note(processes=["worker", "poller"], alone=["poller"])
    application.point_live_at(new)
    assert drain.take_back(application, old, new, "it fell")
    at = {words[2:]: index for index, words in enumerate(told)}
    assert told[at["start", "--no-block", "shop-worker@r1.service"]][:2] == ("r2", "good")
    stopped, started = at["stop", "shop-poller@r2.service"], at["start", "--no-block", "shop-poller@r1.service"]
    assert stopped < started and told[stopped][:2] == told[started][:2] == ("r1", "bad")


def test_requests_are_not_taken_back_from_another_release(root, drain, monkeypatch):
    monkeypatch.setattr(drain, "systemctl", lambda *words: 0)
    old, new, other = good(root, "r1", 1, 10), good(root, "r2", 2, 20), good(root, "r3", 3, 30)
    application = asgi.Application("shop")
    application.point_live_at(other)
    assert not drain.take_back(application, old, new, "it fell")
    assert application.live() == other and new.record["state"] == "good" and lines(root) == []


def test_a_release_that_requests_went_back_to_is_not_called_bad(root, drain, monkeypatch):
    """A database that is down fells both."""
    monkeypatch.setattr(drain, "systemctl", lambda *words: 0)
    old, new = good(root, "r1", 1, 10), good(root, "r2", 2, 20)
    application = asgi.Application("shop")
    application.point_live_at(new)
    assert drain.take_back(application, old, new, "it fell")
    assert not drain.take_back(application, new, old, "it fell, too")
    assert application.live() == old and old.record["state"] == "good" and new.record["state"] == "bad"


@pytest.mark.parametrize("found", [None, "it fell"])
def test_a_first_release_is_watched_until_its_time_is_over_and_drained_if_another_follows(
    root, drain, monkeypatch, found
):
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: None)
    told, looks = [], []
    monkeypatch.setattr(drain, "systemctl", lambda *words: told.append(words) or 0)
    monkeypatch.setattr(drain, "connections", lambda path: 0)
    first, second = good(root, "r1", 1, time.time()), good(root, "r2", 2, time.time())
    application = asgi.Application("shop")
    application.point_live_at(first)

    class Watch:
        def __init__(self, release, settle_time):
            self.release, self.looks = release, 0

        def over(self):
            self.looks += 1
            return self.looks > 5

        def complaint(self):
            looks.append(self.release.id)
            return found if len(looks) > 1 else None

    monkeypatch.setattr(drain, "Watch", Watch)
    assert drain.main("shop", "r1", "0", "5") == 0
    assert told == [] and set(looks) == {"r1"} and (first.record["state"] == "bad") == bool(found)
    if not found:
        # One that went live meanwhile has nobody else to watch it, and who started this would not be heard.
        monkeypatch.setattr(
            Watch, "complaint", lambda self: looks.append(self.release.id) or application.point_live_at(second)
        )
        looks.clear()
        assert drain.main("shop", "r1", "0", "5") == 0
        assert looks[:2] == ["r1", "r2"] and ("stop", "shop@r1.service") in told


@pytest.mark.parametrize("reason", ["the old one is bad", "the old one does not run", "it is the first"])
def test_requests_stay_where_nothing_is_better_but_the_release_is_bad(root, drain, monkeypatch, reason):
    told = []
    monkeypatch.setattr(
        drain, "systemctl", lambda *words: told.append(words) or int(words[0] == "is-active" and "not run" in reason)
    )
    old, new = good(root, "r1", 1, 10), good(root, "r2", 2, 20)
    if "bad" in reason:
        old.note(state="bad")
    application = asgi.Application("shop")
    application.point_live_at(new)
    assert drain.take_back(application, new if "first" in reason else old, new, "it fell\nIts last lines:\nTraceback")
    assert application.live() == new and new.record["state"] == "bad" and new.record["step"] == "settle"
    (line,) = lines(root)
    assert (line["action"], line["release"], line["outcome"], line["reason"]) == ("watch", "r2", "failed", "it fell")
    assert [words for words in told if words[0] != "is-active"] == []
    said = asgi.tell_of_fallen(application)
    assert "there was none to go back to, so it is still live" in said[0] and said[1:-1] == ["it fell", "  Traceback"]
    assert "journalctl --unit 'shop*@r2.service'" in said[-1]


def test_nobody_is_told_of_what_a_newer_release_has_mended(root):
    old, bad, new = good(root, "r1", 1, 10), good(root, "r2", 2, 20), add(root, "r3", state="built")
    bad.note(state="bad", step="settle", reason="it fell")
    application = asgi.Application("shop")
    application.point_live_at(old)
    assert asgi.fallen(application) == bad, "a deploy that is under way has mended nothing yet"
    new.note(state="good")
    application.point_live_at(new)
    assert asgi.fallen(application) is None and asgi.tell_of_fallen(application) == []
    new.note(state="staged")
    bad.note(step="switch")  # its deploy has said so
    application.point_live_at(old)
    assert asgi.fallen(application) is None


@pytest.fixture
def watched(root, monkeypatch):
    """A release that runs, as a process of this test; what systemd says of it, and how often it was asked."""
    release = good(root, "r1", 1, 10)
    monkeypatch.setattr(asgi, "journal", lambda unit: f"the journal of {unit}")
    failures = set()
    monkeypatch.setattr(asgi, "has_failed", lambda unit, since: unit in failures)
    with subprocess.Popen(["sleep", "60"]) as process:
        said, asked = {"ActiveState": "active", "NRestarts": "0", "MainPID": str(process.pid), "Result": "success"}, []
        monkeypatch.setattr(asgi, "systemctl_show", lambda unit, *_names: asked.append(unit) or dict(said))
        watch = asgi.Watch(release, 5)
        watch.workers, watch.failures = 1, failures
        yield watch, process, said, asked
        process.kill()


def test_systemd_is_asked_no_more_while_the_same_process_lives(watched):
    watch, _process, _said, asked = watched
    assert [watch.complaint() for _ in range(3)] == [None] * 3 and asked == [watch.release.unit]


@pytest.mark.parametrize(
    "change",
    [
        {"ActiveState": "failed"},
        {"ActiveState": "activating", "Result": "exit-code"},
        {"NRestarts": "1", "MainPID": "1"},
    ],
)
def test_a_process_that_fails_is_noticed_even_if_systemd_is_late(watched, change):
    watch, process, said, _asked = watched
    watch.failures.add(watch.release.unit)
    assert watch.complaint() is None
    process.kill()
    # Not waited for yet: what is left of it is no process that lives.
    while asgi.process_start(process.pid):
        time.sleep(0.01)
    assert [watch.complaint() for _ in range(2)] == [None] * 2
    said.update(change)
    assert f"the journal of {watch.release.unit}" in watch.complaint()


def test_a_program_that_has_done_its_work_may_be_started_again(watched):
    watch, process, said, _asked = watched
    assert watch.complaint() is None
    process.kill()
    process.wait()
    for change in (
        {"ActiveState": "activating", "MainPID": "0"},
        {"ActiveState": "active", "NRestarts": "1", "MainPID": "1"},
    ):
        said.update(change)
        assert [watch.complaint() for _ in range(3)] == [None] * 3


@pytest.mark.parametrize(("seconds", "complains"), [(1, True), (20, False)])
def test_a_background_process_that_only_ends_does_no_work(watched, monkeypatch, seconds, complains):
    watch, _process, said, _asked = watched
    watch.units.append("shop-worker@r1.service")
    told, now = [], [0]
    monkeypatch.setattr(asgi.time, "monotonic", lambda: now[0])
    for number in range(5):
        now[0] += seconds
        said.update(NRestarts=str(number), MainPID="0")
        # Its last words are not asked for while the time stands still.
        with monkeypatch.context() as patch:
            patch.setattr(asgi, "last_words", lambda unit, what, *_: f"{unit} {what}")
            told.append(watch.complaint())
    assert [text for text in told if text] == (
        ["shop-worker@r1.service ends by itself, over and over"] * 2 if complains else []
    )


# A server with two workers that ends one or starts another when it is told to.
WORKERS = """
import os, signal, sys
def start():
    if not (pid := os.fork()):
        while True: signal.pause()
    return pid
print(start(), start(), flush=True)
for line in sys.stdin:
    what, pid = line.split()
    if what == "end":
        os.kill(int(pid), signal.SIGKILL)
        os.waitpid(int(pid), 0)
    print(start() if what == "start" else 0, flush=True)
os.killpg(0, signal.SIGKILL)
"""


@pytest.mark.parametrize("as_told", [True, False])
def test_workers_that_are_told_to_end_are_not_lost(watched, monkeypatch, as_told):
    watch, _process, said, _asked = watched
    ended = set()
    monkeypatch.setattr(asgi, "ended_as_told", lambda release, pid: as_told and pid in ended)
    server = subprocess.Popen(
        [sys.executable, "-c", WORKERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def tell(words):
        print(words, file=server.stdin, flush=True)
        return server.stdout.readline().strip()

    with server:
        pids = server.stdout.readline().split()
        watch.workers, said["MainPID"] = 2, str(server.pid)
        assert [watch.complaint() for _ in range(2)] == [None] * 2
        for _ in range(3):
            ended.add(pid := pids.pop(0))
            tell(f"end {pid}")
            # For a while there is one worker alone.
            complaint = watch.complaint()
            assert (complaint is None) == as_told
            assert as_told or "shop@r1.service lost a worker that was not told to end" in complaint
            pids.append(tell("start 0"))
            assert watch.complaint() is None
        server.stdin.close()


def test_the_word_of_a_worker_is_looked_for_where_the_instance_has_its_own_place(root, monkeypatch):
    asked = []
    monkeypatch.setattr(asgi.os.path, "lexists", lambda path: asked.append(path) or True)
    assert asgi.ended_as_told(asgi.Application("shop").release("r1"), "42")
    assert asked == ["/run/asgi-shop-r1/ended-42"]


def test_the_reason_is_one_line_with_the_last_words(monkeypatch):
    own = "[41] worker 42 was killed\n[41] booting 43\n\n"
    monkeypatch.setattr(asgi, "run", lambda command: (0, own if "_SYSTEMD_UNIT=shop@r1.service" in command else ""))
    monkeypatch.setattr(asgi, "journal", lambda unit: "a\nb")
    for pids, words in (((), "[41] booting 43"), ({"42"}, "[41] worker 42 was killed"), ({"4"}, "[41] booting 43")):
        told = asgi.last_words("shop@r1.service", "fell", pids)
        assert asgi.first_line(told) == f"shop@r1.service fell: {words}" and told.endswith("\nIts last lines:\na\nb")
    assert asgi.first_line(asgi.last_words("shop@r2.service", "fell")) == "shop@r2.service fell"


def test_workers_are_found_below_what_runs_the_server():
    script = "sh -c 'sleep 60 & sleep 60 & wait; exit' & wait; exit"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as process:
        while len((found := asgi.worker_processes(process.pid))[1]) < 2:
            time.sleep(0.01)
        parent, workers = found
        assert asgi.child_processes(process.pid) == {parent} and asgi.child_processes(parent) == workers
        for pid in workers:
            os.kill(int(pid), 9)
        while asgi.worker_processes(process.pid)[1] & workers:
            time.sleep(0.01)
    assert asgi.worker_processes(process.pid) == (None, set())


# releases


def test_the_record_is_private_and_survives_a_cut(root):
    release = add(root, "r1", state="staged", parts={"env": "x"})
    release.note(state="built")
    assert release.record == {"state": "built", "parts": {"env": "x"}}
    assert (release.path / "release.json").stat().st_mode & 0o777 == 0o600
    write(release.path / "release.json", '{"state": "go')
    assert release.record == {}


def test_live_is_one_link(root):
    application = asgi.Application("shop")
    assert application.live() is None and application.releases() == []
    one, two = add(root, "r1"), add(root, "r2")
    for release in (one, two, one):
        application.point_live_at(release)
        assert application.live() == release and (root / "live").resolve() == release.path
    write(root / ".live.new")  # left by a kill
    application.point_live_at(two)
    assert application.live() == two and not (root / ".live.new").exists()


def test_staging_over_a_good_release_is_refused(deploy, root):
    add(root, "r1", state="good")
    with pytest.raises(asgi.ReleaseError, match="a release r1 already"):
        deploy("r1").staged()


def test_what_a_release_runs_with_is_written_for_whom_it_is(deploy, root):
    path = add(root, "r1").path
    write(path / "env", "left by a kill, and longer than what comes")
    files = [
        {"path": f"{path}/env", "mode": "0600", "content": 'KEY="\udcff"\n'},
        {"path": f"{path}/serve", "mode": "0755", "content": "#!/bin/sh\n"},
        {"path": f"{path}/lib/vivarium_gate.py", "mode": "0644", "content": ""},
    ]
    deploy("r1", files=files).configured()
    modes = {
        entry.relative_to(path).as_posix(): entry.stat().st_mode & 0o777 for entry in path.rglob("*") if entry.is_file()
    }
    assert modes == {"env": 0o600, "serve": 0o750, "lib/vivarium_gate.py": 0o640, "lib/vivarium_token": 0o640}
    assert (path / "env").read_bytes() == b'KEY="\xff"\n' and (path / "lib").stat().st_mode & 0o777 == 0o750


def test_an_account_of_somebody_else_is_refused(deploy):
    with pytest.raises(asgi.ReleaseError, match=r"account 'root' already \(home /root\)"):
        deploy(app={"user": "root"}).staged()
    with pytest.raises(asgi.ReleaseError, match=r"account 'daemon' already"):
        deploy(app={"build_user": "daemon"}).builder()


def test_pruning_keeps_what_is_needed(deploy, root):
    for number in range(1, 8):
        add(root, f"r{number}", state="good")
    add(root, "r0", state="built")  # left by a failure
    add(root, "r55")  # left by a kill
    running = ["shop@r2.service", "shop-drain@r2.service", "shop-worker@r3.service"]
    step = deploy("r7")
    step.application.point_live_at(asgi.Application("shop").release("r4"))  # after a rollback
    step.prune(dict.fromkeys(running, "active"))
    assert sorted(path.name for path in (root / "releases").iterdir()) == ["r2", "r3", "r4", "r6", "r7"]


def test_a_release_in_which_somebody_works_is_not_removed(deploy, root):
    old = add(root, "r1", state="built")
    (old.path / "code").mkdir()
    add(root, "r2", state="good")
    with subprocess.Popen(["sleep", "60"], cwd=old.path / "code") as process:
        deploy("r2").prune({})
        assert old.path.is_dir()
        process.kill()
    deploy("r2").prune({})
    assert not old.path.exists()


def test_a_release_is_not_kept_for_a_stranger_who_sits_in_it(deploy, root, monkeypatch):
    old = add(root, "r1", state="built")
    add(root, "r2", state="good")
    with subprocess.Popen(["sleep", "60"], cwd=old.path) as process:
        everywhere(monkeypatch, "processes_of", lambda uid: [])  # it is nobody's who counts
        deploy("r2").prune({})
        assert not old.path.exists()
        process.kill()


def test_releases_from_before_are_closed_to_others(deploy, root):
    release = add(root, "r1", state="good")
    for name in ("code", "venv", "lib"):
        write(release.path / name / "file")
        (release.path / name).chmod(0o755)
    (release.path / "static").symlink_to(root)
    deploy("r1").prune({})
    assert {name: (release.path / name).stat().st_mode & 0o777 for name in ("code", "venv", "lib")} == dict.fromkeys(
        ("code", "venv", "lib"), 0o750
    )
    assert root.stat().st_mode & 0o005


def test_a_host_without_uv_is_told(deploy, root, monkeypatch):
    everywhere(monkeypatch, "BUILD_PATH", str(root))
    with pytest.raises(asgi.ReleaseError, match=r"uv is not installed on this host; the role vivarium\.server\.python"):
        deploy().built()


def test_code_without_a_lock_is_told(deploy, root):
    (root / "code").mkdir()
    with pytest.raises(
        asgi.ReleaseError, match=r"none of uv\.lock, pylock\.toml, requirements\.txt and pyproject\.toml"
    ):
        deploy().wanted(root / "code")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"uv.lock": "", "requirements.txt": "", "pyproject.toml": ""}, "sync --locked --no-dev --python python3"),
        ({"pylock.toml": "", "requirements.txt": ""}, "pip sync pylock.toml"),
        ({"requirements.txt": "x", "pyproject.toml": ""}, "pip install --requirements requirements.txt"),
        ({"requirements.txt": "x --hash=sha256:0"}, "pip install --requirements requirements.txt --require-hashes"),
        ({"pyproject.toml": "[build-system]"}, "pip install ."),
        ({"pyproject.toml": "[project]"}, "pip install --requirements pyproject.toml"),
    ],
)
def test_the_first_lock_that_there_is_counts(deploy, root, files, expected):
    for name, text in files.items():
        write(root / "code" / name, text)
    assert " ".join(deploy().wanted(root / "code")) == expected


ASKED = {"extras": ["prod"], "groups": ["web"], "requirements": []}
NAMED = {"extras": [], "groups": [], "requirements": ["deps/base.txt", "deps/web.txt"]}


@pytest.mark.parametrize(
    ("install", "files", "expected"),
    [
        (ASKED, {"uv.lock": ""}, "sync --locked --no-dev --python python3 --extra prod --group web"),
        (ASKED, {"pyproject.toml": ""}, "pip install --requirements pyproject.toml --extra prod --group web"),
        (ASKED, {"pyproject.toml": "[build-system]", "requirements.txt": ""},
         "pip install . --requirements pyproject.toml --extra prod --group web"),
        (NAMED, {"uv.lock": "", "deps/base.txt": "a", "deps/web.txt": "b"},
         "pip install --requirements deps/base.txt --requirements deps/web.txt"),
        (NAMED, {"deps/base.txt": "a", "deps/web.txt": "b --hash=sha256:0"},
         "pip install --requirements deps/base.txt --requirements deps/web.txt --require-hashes"),
    ],
)  # fmt: skip
def test_what_is_asked_for_beside_is_installed(deploy, root, install, files, expected):
    for name, text in files.items():
        write(root / "code" / name, text)
    step = deploy(app={"install": install})
    assert " ".join(step.wanted(root / "code")) == expected
    # A venv of other wishes is no twin.
    assert step.venv_key(root / "code") is None or step.venv_key(root / "code") != deploy().venv_key(root / "code")


def test_what_is_asked_for_and_not_there_is_told(deploy, root):
    write(root / "code/requirements.txt", "a")
    with pytest.raises(asgi.ReleaseError, match=r"has no deps/base\.txt, which install\.requirements names"):
        deploy(app={"install": NAMED}).wanted(root / "code")
    with pytest.raises(asgi.ReleaseError, match=r"neither uv\.lock nor pyproject\.toml"):
        deploy(app={"install": ASKED}).wanted(root / "code")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # Beside the project, or in the nearest directory around it.
        ({"back/api/requirements.txt": "a", "requirements.txt": "b"}, "pip install --requirements requirements.txt"),
        ({"back/requirements.txt": "b"}, "pip install --requirements ../requirements.txt"),
        ({"requirements.txt": "b --hash=sha256:0"}, "pip install --requirements ../../requirements.txt --require-hashes"),
        ({"pylock.toml": "b"}, "pip sync ../../pylock.toml"),
        ({"pyproject.toml": "[project]"}, "pip install --requirements ../../pyproject.toml"),
        ({"pyproject.toml": "[build-system]"}, "pip install ../.."),
        ({"uv.lock": "", "pyproject.toml": ""}, "sync --locked --no-dev --python python3"),
        # A member of a workspace is locked at its top.
        ({"back/api/pyproject.toml": "[project]", "uv.lock": "", "pyproject.toml": "[tool.uv.workspace]"},
         "sync --locked --no-dev --python python3"),
        ({"back/api/pyproject.toml": "[project]", "uv.lock": "", "pyproject.toml": "[tool.uv]\nworkspace = {}"},
         "sync --locked --no-dev --python python3"),
        ({"back/api/pyproject.toml": "[project]", "uv.lock": "", "pyproject.toml": "[project]"},
         "pip install --requirements pyproject.toml"),
    ],
)  # fmt: skip
def test_a_project_in_a_directory_may_be_locked_around_it(deploy, files, expected):
    step = deploy(app={"source": {"subdirectory": "back/api"}})
    write(step.tree / "back/api/app.py")
    code = step.release.path / "code"
    code.symlink_to("repository/back/api")
    for name, text in files.items():
        write(step.tree / name, text)
    assert " ".join(step.wanted(code)) == expected
    if key := step.venv_key(code):
        # What the lock file at the top of a workspace brings is another thing for each of its members.
        other = deploy(app={"source": {"subdirectory": "back"}})
        assert other.venv_key(other.tree / "back") != key
        for name, text in files.items():
            write(step.tree / name, f"{text}\n# changed")
            assert step.venv_key(code) != key


def test_a_link_in_a_project_may_lead_to_its_repository_and_no_further(deploy, root):
    step = deploy(
        app={"source": {"subdirectory": "api"}, "install": {"extras": [], "groups": [], "requirements": ["r.txt"]}}
    )
    write(step.tree / "all.txt", "a")
    write(root / "outside.txt", "a")
    code = step.release.path / "code"
    code.symlink_to("repository/api")
    (step.tree / "api").mkdir()
    (step.tree / "api/r.txt").symlink_to("../all.txt")
    assert step.wanted(code) == ["pip", "install", "--requirements", "r.txt"]
    (step.tree / "api/r.txt").unlink()
    (step.tree / "api/r.txt").symlink_to(root / "outside.txt")
    with pytest.raises(asgi.ReleaseError, match="must be a file inside the code"):
        step.wanted(code)


@pytest.fixture
def stage(deploy, monkeypatch, tmp_path):
    """Unpack an archive of files, or of links, as a release of which a directory is the project."""

    def take(subdirectory, **files):
        with tarfile.open(tmp_path / "code.tar.gz", "w:gz") as archive:
            for name, target in files.items():
                member = tarfile.TarInfo(name)
                member.type, member.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
                archive.addfile(member)
        source = {"path": ".", "subdirectory": subdirectory}
        step = deploy(app={"source": source}, archive=str(tmp_path / "code.tar.gz"), code="")
        step.data["release"]["version"] = "v1"
        monkeypatch.setattr(step, "account", lambda *_: pwd.getpwuid(os.getuid()))
        step.staged()
        return step

    return take


def test_the_code_of_a_release_is_the_project_and_the_repository_lies_around_it(stage):
    step = stage("services/api", **{"services/api/app.py": "", "lib/x.py": ""})
    code = step.release.path / "code"
    assert (code / "app.py").is_file() and (code / "../../lib/x.py").resolve().is_file()
    assert code.resolve() == step.release.path / "repository/services/api"


@pytest.mark.parametrize(
    "files",
    [{"app.py": ""}, {"services": ""}, {"services/api": "/etc"}, {"services": "/etc"}, {"services/api": "."}],
    ids=str,
)
def test_a_project_is_a_directory_that_no_link_leads_to(stage, files):
    with pytest.raises(
        asgi.ReleaseError, match=r"source\.subdirectory: there is no directory 'services/api' in the code"
    ):
        stage("services/api", **files)


def test_a_build_cannot_put_a_link_in_the_place_of_its_project(deploy, root, monkeypatch):
    step = deploy(app={"source": {"subdirectory": "api"}, "build": ["x"]})
    write(step.tree / "api/pyproject.toml")
    (step.release.path / "code").symlink_to("repository/api")

    def build():
        shutil.rmtree(step.tree / "api")
        (step.tree / "api").symlink_to("/etc")

    everywhere(monkeypatch, "BUILD_PATH", str(root))
    (root / "uv").touch(mode=0o755)
    for name in ("make_venv", "seal"):
        monkeypatch.setattr(step, name, lambda *_: None)
    monkeypatch.setattr(step, "build", build)
    with pytest.raises(asgi.ReleaseError, match="there is no directory 'api' in the code"):
        step.built()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"poetry.lock": "", "pyproject.toml": "[tool.poetry]\n[build-system]"},
            "locked in poetry.lock.*'poetry export",
        ),
        ({"Pipfile.lock": "", "Pipfile": ""}, "locked in Pipfile.lock.*'pipenv requirements > requirements.txt'"),
        ({"Pipfile": ""}, "locked in Pipfile, .*'pipenv lock'"),
        ({"pdm.lock": "", "pyproject.toml": "[project]"}, "locked in pdm.lock.*'pdm export"),
        (
            {"pyproject.toml": "[tool.poetry]\npackage-mode = false\n[build-system]"},
            "package-mode = false.*'poetry export",
        ),
    ],
)
def test_lock_files_of_other_tools_are_not_passed_over(deploy, root, files, said):
    for name, text in files.items():
        write(root / "code" / name, text)
    with pytest.raises(asgi.ReleaseError, match=said):
        deploy().wanted(root / "code")
    # One that is read is enough.
    write(root / "code/requirements.txt")
    assert deploy().wanted(root / "code") == ["pip", "install", "--requirements", "requirements.txt"]


def test_a_project_that_is_no_package_is_not_built(deploy, root):
    write(root / "code/pyproject.toml", "[project]\n[tool.poetry]\npackage-mode = false\n[build-system]\n")
    assert deploy().wanted(root / "code") == ["pip", "install", "--requirements", "pyproject.toml"]


def test_what_a_failed_build_lacks_is_said(deploy, root):
    step = deploy(build_environment={}, app={"build": ["sh -c 'echo one; echo sh: 1: msgfmt: not found; exit 1'"]})
    write(step.release.path / "code/app.py")
    step.lock(True, "build")
    with pytest.raises(asgi.ReleaseError) as raised:
        step.build()
    assert step.tell(raised.value).startswith("the build command 'sh -c")
    assert step.holder["details"] == ["one", "sh: 1: msgfmt: not found"]
    assert "python_packages: [" in step.holder["advice"] and "gettext" in step.holder["advice"]


def test_what_a_server_needs_is_added_and_nothing_locked_changes(deploy, root, monkeypatch):
    step = deploy(
        app={"server": "gunicorn"}, server={"packages": ["gunicorn>=23,<28", "uvicorn-worker>=0.3", "h11>=0.16"]}
    )
    place, called = step.work / "venv/lib/python3.13/site-packages", []
    for name in ("h11-0.16.0", "uvicorn_worker-0.3.0"):
        (place / f"{name}.dist-info").mkdir(parents=True)
    (step.release.path / "code").mkdir()

    def uv(*words):
        called.append([*words[:3], *words[4:]])
        assert pathlib.Path(words[3]).read_text() == "h11==0.16.0\nuvicorn-worker==0.3.0\n"

    monkeypatch.setattr(step, "uv", uv)
    step.add_server()
    assert called == [["pip", "install", "--constraints", "gunicorn>=23,<28"]]
    (place / "gunicorn-23.0.0.dist-info").mkdir()
    step.add_server()
    assert len(called) == 1


def test_a_server_that_is_locked_in_an_unsafe_version_is_refused(deploy, root):
    step = deploy(app={"server": "daphne"}, server={"packages": ["daphne>=4.2.2,<5"]})
    (step.work / "venv/lib/python3.13/site-packages/daphne-4.1.2.dist-info").mkdir(parents=True)
    (step.release.path / "code").mkdir()
    with pytest.raises(asgi.ReleaseError, match=r"locks daphne 4\.1\.2; server daphne needs daphne 4\.2\.2"):
        step.add_server()


def test_a_release_runs_the_processes_that_it_has_a_command_for(deploy, root):
    """A rollback goes to one that was made before the description had the others."""
    step = deploy("r2", app={"processes": {"worker": {}, "mailer": {}}})
    assert step.process_units(step.release) == []
    (root / "releases/r2/commands").mkdir(parents=True)
    (root / "releases/r2/commands/worker").touch()
    assert step.process_units(step.release) == ["shop-worker@r2.service"]


def test_handing_over_stops_the_processes_and_drains_the_instances_of_others(deploy, root, monkeypatch):
    called = []
    units = [
        "shop@r1.service", "shop-worker@r1.service", "shop-gone@r1.service", "shop@r2.service", "shop-worker@r2.service",
        "shop-drain@r0.service", "shop@r0.service", "shop_two@r1.service", "shopping@r1.service",
    ]  # fmt: skip
    stopping = {"shop@r3.service": "deactivating", "shop-worker@r3.service": "deactivating"}
    listed = dict.fromkeys(units, "active") | stopping
    monkeypatch.setattr(asgi, "active_units", lambda pattern, *states: listed)
    everywhere(monkeypatch, "systemctl", lambda *words, check=True: called.append(words))
    step = deploy("r2", app={"processes": {"worker": {}}})
    commands = root / "releases/r2/commands"
    commands.mkdir(parents=True)
    (commands / "worker").touch()
    step.hand_over(step.application.running_units("deactivating"))
    assert called == [
        ("start", "--no-block", "shop.service", "shop-worker@r2.service", "shop-drain@r1.service", "shop-drain@r0.service"),
        ("stop", "--no-block", "shop-worker@r1.service", "shop-gone@r1.service"),
    ]  # fmt: skip


def test_a_first_release_is_watched_by_a_unit_of_its_own(deploy, monkeypatch):
    called = []
    everywhere(monkeypatch, "systemctl", lambda *words, check=True: called.append(words))
    step = deploy("r1")
    step.hand_over({"shop@r1.service": "active"}, alone=True)
    step.hand_over({"shop@r1.service": "active", "shop@r0.service": "active"}, alone=True)
    step.hand_over({"shop@r1.service": "active"})
    assert [words[3:] for words in called] == [("shop-drain@r1.service",), ("shop-drain@r0.service",), ()]


# static files


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_publishing_adds_and_takes_nothing_away(deploy, root):
    step, old, new = deploy(), root / "old", root / "new"
    for path in ("css/site.aaa.css", "css/site.css", "admin/x.js"):
        write(old / path, f"old {path}")
    for path in ("css/site.bbb.css", "css/site.css"):
        write(new / path, f"new {path}")
    (root / "static").mkdir()
    step.publish(old, root / "static")
    before = (root / "static/admin/x.js").stat().st_mtime_ns
    step.publish(new, root / "static")
    step.publish(new, root / "static")
    assert names(root / "static") == ["admin/x.js", "css/site.aaa.css", "css/site.bbb.css", "css/site.css"]
    assert (root / "static/css/site.css").read_text() == "new css/site.css"
    assert (root / "static/admin/x.js").stat().st_mtime_ns == before
    assert (root / "static/css/site.css").stat().st_mode & 0o777 == 0o644


def test_a_compressed_copy_goes_with_the_file_that_it_is_of(deploy, root):
    step, old, new = deploy(), root / "old", root / "new"
    for path in ("a.css", "a.css.br", "a.css.gz", "gone.css", "gone.css.gz"):
        write(old / path, "old")
    for path in ("a.css", "a.css.gz"):
        write(new / path, "new")
    (root / "static").mkdir()
    step.publish(old, root / "static")
    step.publish(new, root / "static")
    assert names(root / "static") == ["a.css", "a.css.gz", "gone.css", "gone.css.gz"]
    assert (root / "static/a.css.gz").read_text() == "new"


def test_static_files_are_compressed_in_passing_beside_those_of_the_live_release(deploy, root, monkeypatch):
    step, asked = deploy("r2"), []
    monkeypatch.setattr(step, "as_builder", lambda options, command: asked.append((options, command)) or len(asked) - 1)
    target = step.release.path / "static"
    step.compress(target)
    step.application.point_live_at(add(root, "r1", state="good"))
    step.compress(target)
    (options, first), (_options, second) = asked
    assert "--property=Nice=19" in options and f"--property=ReadWritePaths={step.work}/static" in options
    assert first == [f"{static.PROGRAMS}/compress", f"{step.work}/static"]
    assert second == [*first, f"{root}/releases/r1/static"]
    # No reason to keep a release from going live.
    assert len(step.warnings) == 1 and "were not compressed" in step.warnings[0]


def test_publishing_follows_no_links(deploy, root):
    write(root / "secret", "hunter2")
    source = root / "source"
    write(source / "real")
    (source / "link").symlink_to(root / "secret")
    (source / "folder").symlink_to(root)
    (root / "static").mkdir()
    (root / "static/real").symlink_to(root / "secret")
    deploy().publish(source, root / "static")
    assert names(root / "static") == ["real"] and not (root / "static/real").is_symlink()
    assert (root / "secret").read_text() == "hunter2"


def test_nginx_gets_a_tree_of_its_own_of_the_same_files(deploy, root):
    release = add(root, "r1", state="staged")
    for path in ("css/site.css", "staticfiles.json"):
        write(release.path / "static" / path, path).chmod(0o640)
    write(root / "secret", "hunter2")
    (release.path / "static/link").symlink_to(root / "secret")
    (release.path / "static/folder").symlink_to(root)
    (root / "static").mkdir()
    step = deploy()
    write(release.path / ".public/left/by/a/run/that/was/killed")
    step.show(release)
    assert names(release.path / "public") == ["css/site.css", "staticfiles.json"]
    assert (release.path / "public/css").stat().st_mode & 0o777 == 0o750
    first, second = (release.path / tree / "css/site.css" for tree in ("static", "public"))
    assert first.samefile(second) and second.stat().st_mode & 0o777 == 0o644
    before = (release.path / "public").stat()
    step.show(release)
    assert (release.path / "public").stat() == before
    step.show(add(root, "r2", state="staged"))  # it has none
    assert not (root / "releases/r2/public").exists()


def test_a_file_that_has_not_changed_is_the_same_to_browsers(deploy, root):
    step = deploy("r2")
    (root / "static").mkdir()
    for identifier, texts in (("r1", {"same": "x", "other": "x"}), ("r2", {"same": "x", "other": "y"})):
        release = add(root, identifier, state="good")
        for name, text in texts.items():
            os.utime(write(release.path / "static/css" / name, text), (0, 0) if identifier == "r1" else (1, 1))
        step.show(release)
        step.application.point_live_at(release)
    shown = {path.name: path.stat().st_mtime for path in (root / "live/public/css").iterdir()}
    assert shown == {"same": 0, "other": 1}
    assert (root / "live/static/css/same").samefile(root / "live/public/css/same")


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EMLINK])
def test_files_that_cannot_be_linked_are_copied(deploy, root, monkeypatch, error):
    os.utime(write(root / "source/css/a.css", "text"), (7, 7))
    (root / "static").mkdir()

    def refuse(*_):
        raise OSError(error, "no links")

    monkeypatch.setattr(asgi_release.os, "link", refuse)
    for _ in range(2):
        deploy().publish(root / "source", root / "static")
        assert names(root / "static") == ["css/a.css"]
        assert (root / "static/css/a.css").read_text() == "text" and (root / "static/css/a.css").stat().st_mtime == 7


def test_a_full_disk_keeps_no_release_from_going_live(deploy, root, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(asgi_release.os, "link", refuse)
    (root / "static").mkdir()
    release = add(root, "r1", state="good")
    write(release.path / "static/a.css")
    write(release.path / "public/b.css")
    step = deploy()
    step.offer(release)
    step.keep(release)
    assert len(step.warnings) == 1 and "No space left" in step.warnings[0]
    shutil.rmtree(release.path / "public")
    step.offer(release)
    assert len(step.warnings) == 2 and not (release.path / "public").exists()


def test_publishing_lets_a_file_become_a_directory_and_back(deploy, root):
    (root / "static").mkdir()
    for content in ("a", "a/b", "a"):
        source = root / f"source-{content.count('/')}"
        write(source / content)
        deploy().publish(source, root / "static")
        assert names(root / "static") == [content]


def test_static_files_without_a_release_are_served_for_a_while(deploy, root, monkeypatch):
    step = deploy()
    add(root, "r1", state="good")
    write(root / "releases/r1/static/css/kept.css")
    for path in ("css/kept.css", "css/gone.css", "x.js"):
        write(root / "static" / path)
    releases = step.application.releases()
    step.prune_static(releases)
    assert names(root / "static") == ["css/gone.css", "css/kept.css", "x.js"]
    now = time.time()
    monkeypatch.setattr(asgi_release.time, "time", lambda: now + static.STATIC_GRACE + 60)
    step.prune_static(releases)
    assert names(root / "static") == ["css/kept.css"]


def test_the_while_begins_with_the_last_release_that_had_the_file(deploy, root, monkeypatch):
    source = write(root / "source/old.css").parent
    os.utime(source / "old.css", (0, 0))
    (root / "static").mkdir()
    step = deploy()
    step.publish(source, root / "static")
    os.utime(root / "static/old.css", (0, 0))
    step.publish(source, root / "static")
    step.prune_static([])
    assert names(root / "static") == ["old.css"] and (root / "static/old.css").stat().st_mtime == 0


# code and venv


def test_one_wrapping_directory_is_taken_off(deploy, root):
    code = root / "code"
    write(code / "shop-1.0/app.py")
    deploy().strip_wrapper(code)
    assert names(code) == ["app.py"] and sorted(path.name for path in root.iterdir()) == ["code", "releases"]
    deploy().strip_wrapper(code)
    assert names(code) == ["app.py"]


def test_more_than_one_directory_is_not_taken_off(deploy, root):
    code = root / "code"
    write(code / "shop/app.py")
    write(code / "README")
    deploy().strip_wrapper(code)
    assert names(code) == ["README", "shop/app.py"]


LOCK = """
[[package]]
name = "django"
source = { registry = "https://index.example.test/simple" }
sdist = { url = "https://files.example/django-5.2.tar.gz", hash = "sha256:0" }
wheels = [
    { url = "https://files.example/django-5.2-py3-none-any.whl", hash = "sha256:0", size = 1 },
]
[[package]]
name = "shop"
source = { virtual = "." }
"""
PYLOCK = """
[[packages]]
name = "django"
wheels = [{name = "django-5.2-py3-none-any.whl", url = "https://x.example/d-5.2-py3-none-any.whl", hashes = {sha256 = "0"}}]
"""
HASHED = (
    "django==5.2 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n    # via shop\nx @ https://files.example/x-1.whl\n"
)


@pytest.mark.parametrize(
    "files",
    [
        {"uv.lock": LOCK, "pyproject.toml": "[project]\nname = 'shop'\n[tool.ruff]\nsrc = ['a']\n"},
        {"requirements.txt": "django==5.2\nuvicorn[standard]>=0.54,<1 ; python_version >= '3.11'\n# a/comment\n"},
        {"requirements.txt": HASHED},
        {"pylock.toml": PYLOCK},
    ],
)
def test_a_venv_is_shared_by_releases_with_the_same_lock(deploy, root, files):
    for name, text in files.items():
        write(root / "code" / name, text)
    key = deploy().venv_key(root / "code")
    assert key and key == deploy().venv_key(root / "code")
    assert key != deploy(server={"packages": ["other"]}).venv_key(root / "code")
    assert key != deploy(app={"python": "/usr/bin/python3.99"}).venv_key(root / "code")
    name = next(iter(files))
    write(root / "code" / name, files[name] + "\n# changed\n")
    assert key != deploy().venv_key(root / "code")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"uv.lock": LOCK, "pyproject.toml": "[project]\nname = 'shop'\n[build-system]\nrequires = []\n"},
        {"uv.lock": LOCK.replace("virtual", "editable")},
        {"uv.lock": LOCK.replace('virtual = "."', 'directory = "lib"')},
        {"uv.lock": LOCK.replace('virtual = "."', 'path = "lib.whl"')},
        {"pyproject.toml": "[tool.uv.sources]\nlib = { workspace = true }\n"},
        {"pyproject.toml": "[tool.uv.sources]\nlib = { editable = true, path = 'lib' }\n"},
        {"pylock.toml": '[[packages]]\nname = "x"\n[packages.directory]\npath = "lib"\n'},
        *({"requirements.txt": f"django\n{line}\n"} for line in (
            "-r base.txt", "--requirement base.txt", "-c limits.txt", "-e .", "--editable lib", ".", "./lib", "lib/x",
            "vendor/x-1.whl", "x-1.whl", "x @ file:lib", "x @ ./lib", "  -r base.txt", "--find-links wheels", "/opt/x",
        )),
    ],
    ids=str,
)  # fmt: skip
def test_a_venv_that_holds_the_code_is_not_shared(deploy, root, files):
    write(root / "code/README")
    for name, text in files.items():
        write(root / "code" / name, text)
    assert deploy().venv_key(root / "code") is None


@pytest.mark.parametrize(
    "text", ["\n" * 2**20, "{" * 2**20, "{ path" * 2**18, " \n" * 2**19, "@ " * 2**19, "a.whl." * 2**18]
)
def test_no_lock_keeps_root_busy(deploy, root, text):
    write(root / "code/requirements.txt", text)
    begun = time.process_time()
    deploy().venv_key(root / "code")
    assert time.process_time() - begun < 5


def test_the_address_of_a_package_is_no_word_of_a_command(deploy, root, monkeypatch):
    """It may hold a token, and everybody on the host sees what is run."""
    step, told = deploy(kind="package", app={"source": {"package": "shop @ https://me:token@example.com/shop.whl"}}), []

    def uv(*words):
        told.append(words)
        if "install" in words:
            assert (step.release.path / "package.txt").stat().st_mode & 0o777 == 0o640
            assert (step.release.path / words[-1]).read_text() == "shop @ https://me:token@example.com/shop.whl\n"

    (step.release.path / "code").mkdir(parents=True)
    monkeypatch.setattr(step, "uv", uv)
    monkeypatch.setattr(step, "add_server", lambda: None)
    monkeypatch.setattr(step, "take_over", lambda *_: None)
    step.make_venv(step.release.path / "code", step.release.path / "venv")
    assert told[1][:3] == ("pip", "install", "--requirements") and "token" not in str(told)
    assert not (step.release.path / "package.txt").exists()


def test_output_is_shortened_to_its_end():
    text = "\n".join(f"line {number}" for number in range(100))
    assert common.shorten(f"\x1b[1m{text}\x1b[0m\n\n", 40).splitlines() == [
        f"line {number}" for number in range(60, 100)
    ]
    assert common.shorten("") == ""


# what a project locks, with the real uv and a package of the test's own

PYPROJECT = """
[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
dependencies = ["dep==1.0"]
[tool.uv]
package = false
"""


def make_wheel(place, content):
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place / "dep-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("dep.py", content)
        wheel.writestr("dep-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: dep\nVersion: 1.0\n")
        wheel.writestr("dep-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("dep-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256((place / "dep-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (place / "index.html").write_text(
        f'<a href="dep-1.0-py3-none-any.whl#sha256={digest}">dep-1.0-py3-none-any.whl</a>'
    )
    return digest


@pytest.fixture
def package_index(tmp_path):
    """The address of a package index, which holds what lies in a directory of the test's."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def lock_of(form, code, environment, digest):
    """The files of a project that asks for the package in one of the ways there are."""
    if form.startswith("requirements"):
        write(code / "requirements.txt", "dep==1.0" + (f" --hash=sha256:{digest}" if "hash" in form else "") + "\n")
        return
    write(code / "pyproject.toml", PYPROJECT)
    if form == "uv.lock":
        subprocess.run(["uv", "lock", "--quiet"], cwd=code, env=environment, check=True)
    if form == "pylock.toml":
        command = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--format",
            "pylock.toml",
            "--output-file",
            form,
            "pyproject.toml",
        ]
        subprocess.run(command, cwd=code, env=environment, check=True)
        (code / "pyproject.toml").unlink()


@pytest.fixture
def installing(deploy, root, tmp_path, monkeypatch, package_index):
    """Install a project that locks its packages in a form, from an index of the test's own."""
    everywhere(monkeypatch, "BUILD_PATH", os.environ["PATH"])
    own = {
        "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_DEFAULT_INDEX": package_index,
        "NO_PROXY": "127.0.0.1", "UV_COMPILE_BYTECODE": "0",
    }  # fmt: skip
    step = deploy(build_environment=own, app={"python": sys.executable})
    code = step.release.path / "code"
    code.mkdir(parents=True)

    def install(form, other=False):
        digest = make_wheel(tmp_path / "index/simple/dep", "value = 1\n")
        lock_of(form, code, {**os.environ, **own}, digest)
        if other:  # the same name and version, other content, and no memory of the first
            make_wheel(tmp_path / "index/simple/dep", "value = 2\n")
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        step.uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(step.release.path / "venv"))
        step.uv(*step.wanted(code))
        return next((step.release.path / "venv").glob("lib/python*/site-packages/dep.py")).read_text()

    return install


@pytest.mark.parametrize(
    "form", ["uv.lock", "pylock.toml", "requirements.txt", "requirements with a hash", "pyproject.toml"]
)
def test_a_project_gets_the_packages_it_asks_for(installing, form):
    assert installing(form) == "value = 1\n"


@pytest.mark.parametrize("form", ["uv.lock", "pylock.toml", "requirements with a hash"])
def test_a_package_that_is_not_the_locked_one_is_refused(installing, form):
    with pytest.raises(asgi.ReleaseError, match=r"(?i)hash"):
        installing(form, other=True)


# the plan


def plan(root, units=(), processes=()):
    application = asgi.Application("shop")
    live = application.live()
    return asgi_plan.about(live, application.releases(), units), list(asgi_plan.what_is_left(live, processes, units))


def good(root, identifier, created, live_since):
    return add(root, identifier, state="good", created=created, live_since=live_since)


def test_the_previous_release_is_the_one_that_was_live_before(root):
    application = asgi.Application("shop")
    one, two, three = good(root, "r1", 1, 10), good(root, "r2", 2, 20), good(root, "r3", 3, 30)
    add(root, "r25", state="built", created=2.5)
    for live, previous in ((three, "r2"), (two, "r1"), (one, None)):
        application.point_live_at(live)
        assert plan(root)[0]["previous"] == previous
    # r3 was bad, r2 went live again, and then came r4: back means r2, not r3.
    two.note(live_since=40)
    application.point_live_at(good(root, "r4", 4, 50))
    assert plan(root)[0]["previous"] == "r2"
    assert plan(root)[0]["good"] == ["r1", "r2", "r3", "r4"]


def test_nothing_is_left_to_do_for_a_release_that_runs(root):
    asgi.Application("shop").point_live_at(good(root, "r2", 2, 20))
    units = ["shop@r2.service", "shop-worker@r2.service", "shop@r1.service", "shop-drain@r1.service"]
    assert plan(root, units, ["worker"]) == (
        {
            "id": "r2", "version": None, "since": 20, "all": ["r2"], "good": ["r2"], "previous": None, "active": True, "bad": {},
            "instead_of": None, "migrated_since": {"r2": []},
        },
        [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["shop-worker@r2.service"], "its live release does not run"),
        (["shop@r2.service"], "its process worker does not run"),
        (["shop@r2.service", "shop-worker@r2.service", "shop@r1.service"], r"parts of other releases run (r1)"),
        (["shop@r2.service", "shop-worker@r2.service", "shop-worker@r1.service"], r"parts of other releases run (r1)"),
    ],
)
def test_what_is_left_is_told(root, units, expected):
    asgi.Application("shop").point_live_at(good(root, "r2", 2, 20))
    assert plan(root, units, ["worker"])[1] == [expected]


def test_a_release_that_was_never_finished_is_told(root):
    asgi.Application("shop").point_live_at(add(root, "r2", state="built"))
    assert plan(root, ["shop@r2.service"])[1] == ["an earlier run was stopped before it had finished"]


def test_a_run_that_was_killed_at_its_very_end_is_told(root, deploy):
    asgi.Application("shop").point_live_at(good(root, "r2", 2, 20))
    # Another release's lock is the next deploy's to take.
    for release, told in (("r2", ["an earlier run was stopped before it had finished"]), ("r3", [])):
        deploy(release).lock(take=True)
        assert plan(root, ["shop@r2.service"])[1] == told


def test_units_that_nobody_describes_any_more_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(asgi_plan, "UNITS", tmp_path)
    for name in (
        "shop-worker@.service",
        "shop-tick.timer",
        "shop-tick.service",
        "shop-old.timer",
        "shopping-x.service",
    ):
        write(tmp_path / name, f"# {asgi_plan.OURS} when ...\n")
    write(tmp_path / "shop-of-the-admin.service", "[Service]\n")
    assert asgi_plan.stale_units("shop", ["shop-tick.timer", "shop-tick.service"]) == [
        "shop-old.timer",
        "shop-worker@.service",
    ]


APP = {
    "name": "shop", "python": "python3", "install": {}, "build": [], "static": [], "server": "uvicorn", "serve_with": "uvicorn",
    "application": "a:b", "workers": 2,
    "worker_class": None, "server_options": [], "access_log": False, "lifespan": "off", "sandbox_allow": [],
    "hang_timeout": 60,
    "processes": {}, "sandbox": {}, "public_env": {"A": "1"}, "secret_env": {"B": "2"}, "timers": {}, "drain_timeout": 5,
    "framework": "django", "asgi_middleware": [], "check_fail_level": "WARNING", "waivers": {}, "migrate": True,
}  # fmt: skip
PROCESS = {"servers": {"uvicorn": {"packages": ["u"], "command": "c"}, "other": {"packages": ["o"]}}, "revision": 1}


@pytest.mark.parametrize(
    ("app", "process", "changed"),
    [
        ({}, {}, set()),
        ({"timers": {"x": {}}, "drain_timeout": 9}, {}, set()),
        ({}, {"servers": PROCESS["servers"] | {"other": {"packages": ["p"]}}}, set()),
        ({"secret_env": {"B": "3"}}, {}, {"env"}),
        ({"public_env": {"A": "2"}}, {}, {"env"}),
        ({"python": "python3.14"}, {}, {"install"}),
        ({"build": ["npm run build"]}, {}, {"install"}),
        ({"static": ["python manage.py compress"]}, {}, {"install"}),
        ({"workers": 3}, {}, {"process"}),
        ({"hang_timeout": 0}, {}, {"process"}),
        ({"sandbox": {"PrivateTmp": None}}, {}, {"process"}),
        ({"processes": {"worker": {"command": "x"}}}, {}, {"process"}),
        ({}, {"revision": 2}, {"process"}),
        ({}, {"library": "other"}, {"checks"}),
        ({"waivers": {"security.W021": "no need"}}, {}, {"checks"}),
        ({"check_fail_level": "ERROR"}, {}, {"checks"}),
        ({}, {"servers": {"uvicorn": {"packages": ["v"], "command": "c"}}}, {"install", "process"}),
    ],
)
def test_what_calls_for_a_new_release(app, process, changed):
    source = Source("git", "u", "f", "v")
    before = plan_action.parts_of(APP, source, PROCESS)
    after = plan_action.parts_of(APP | app, source, PROCESS | process)
    assert {part for part in before if before[part] != after[part]} == changed
    assert plan_action.parts_of(APP, Source("git", "u", "g", "v"), PROCESS)["source"] != before["source"]
    # What lies beside a Django project only does not concern others.
    plain = APP | {"framework": "none"}
    assert plan_action.parts_of(plain, source, PROCESS) == plan_action.parts_of(
        plain, source, PROCESS | {"library": "other"}
    )
    assert set(before) == set(asgi_plan.REASONS)


def test_a_release_has_one_name_on_every_host(tmp_path, monkeypatch):
    monkeypatch.setattr(run_utils.constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    clock = iter(["20260101-000000", "20260101-000001", "20260101-000002"])
    monkeypatch.setattr(plan_action.time, "strftime", lambda *_: next(clock))
    source = Source("git", "u", "f", "v")
    first = plan_action.new_identifier("shop", source, [])
    assert first == plan_action.new_identifier("shop", source, ["20251231-000000-abcdef"])
    assert plan_action.new_identifier("shop", source, [first]) > first


# the gate


def test_the_report_of_the_gate_is_found_in_whatever_the_project_prints():
    report = json.dumps({"passed": False, "text": "…"})
    assert check.report_in(f'hello\n{{"a": 1}}\n{report}\nbye') == json.loads(report)
    assert check.report_in("Traceback …\nImproperlyConfigured: {oh}") is None


def test_a_report_that_nests_without_end_is_none():
    endless = '{"passed": true, "text": ' + "[" * 10**5 + "]" * 10**5 + "}"
    assert check.report_in(endless) is None
    assert check.report_in('{"passed": true, "text": [1]}\n' + endless) == {"passed": True, "text": ""}


def gate_of(deploy, monkeypatch, code, report):
    step = deploy(app={"framework": "django"})
    step.release.path.mkdir()
    seen = []

    def run(options, *command):
        seen.append(command)
        step.output = step.printed = report
        return code

    monkeypatch.setattr(step, "in_build", run)
    return step, seen


def test_the_gate_keeps_its_report_beside_the_release(deploy, monkeypatch):
    report = json.dumps({"passed": True, "messages": [], "facts": {}, "text": "passed"})
    step, seen = gate_of(deploy, monkeypatch, 0, report)
    assert step.checked() is False and step.output == "passed"
    assert seen == [("python", f"{step.release.path}/lib/vivarium_gate.py", "--json")]
    kept = json.loads((step.release.path / "gate.json").read_text())
    assert kept["passed"] and "text" not in kept and kept["made"] <= time.time()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (json.dumps({"passed": False, "messages": [], "text": "failed:\n  security.W018  DEBUG"}), "security.W018"),
        ("ImproperlyConfigured: SECRET_KEY must be set", "could not be made:\nImproperlyConfigured"),
    ],
)
def test_the_gate_stops_a_deploy_with_all_that_it_says(deploy, monkeypatch, output, expected):
    step, _seen = gate_of(deploy, monkeypatch, 1, output)
    with pytest.raises(asgi.ReleaseError, match=re.escape(expected)):
        step.checked()


# readiness


def test_health():
    assert [status for status in (200, 204, 302, 400, 404, 500, 503) if asgi_probe.healthy(status, True)] == [
        200,
        204,
        302,
    ]
    assert [status for status in (200, 302, 404, 500, 503) if asgi_probe.healthy(status, False)] == [200, 302, 404]


def test_waiting():
    answers = iter(["no", "not yet", None])
    assert asgi.wait_until(lambda: next(answers), 5, 0) is None
    assert asgi.wait_until(lambda: "never", 0.05, 0.01) == "never"


class UnixHTTPServer(UnixStreamServer):
    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("local", 0)


@pytest.fixture
def held(tmp_path):
    """A socket that systemd holds, for an instance that does not come for what waits in it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "held"))
        listener.listen()
        yield listener


def test_a_request_that_nobody_takes_in_ends_when_the_instance_has_failed(held):
    def look():
        raise asgi.ReleaseError("it does not stay up")

    begun = time.monotonic()
    with pytest.raises(asgi.ReleaseError, match="does not stay up"):
        asgi_probe.ask_socket(held.getsockname(), "/", "shop.example.com", timeout=60, meanwhile=look)
    assert time.monotonic() - begun < 30


def test_a_request_waits_for_an_instance_that_takes_its_time(held):
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 3:
            connection = held.accept()[0]
            connection.recv(10000)
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            looks.append(connection)

    assert asgi_probe.ask_socket(held.getsockname(), "/", "shop.example.com", timeout=60, meanwhile=look) == 204
    assert looks[:3] == [1, 1, 1]  # one request, and it was enough


def test_a_request_waits_no_longer_than_it_may(held):
    with pytest.raises(TimeoutError):
        asgi_probe.ask_socket(held.getsockname(), "/", "shop.example.com", timeout=0.6, meanwhile=lambda: None)


def test_a_socket_is_asked_and_an_endless_body_is_not_read(tmp_path):
    seen = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.update(self.headers.items(), path=self.path)
            self.send_response(503 if self.path == "/bad" else 200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while self.path == "/stream":
                    self.wfile.write(b"x")
                    time.sleep(0.05)

        def log_message(self, *_):
            pass

    path = str(tmp_path / "socket")
    with UnixHTTPServer(path, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert asgi_probe.ask_socket(path, "/health/", "shop.example.com") == 200
        assert (seen["Host"], seen["X-Forwarded-Proto"], seen["path"]) == ("shop.example.com", "https", "/health/")
        assert asgi_probe.ask_socket(path, "/bad", "shop.example.com") == 503
        assert asgi_probe.ask_socket(path, "/stream", "shop.example.com") == 200
        server.shutdown()
    with pytest.raises(OSError, match=r"refused|No such file"):
        asgi_probe.ask_socket(path, "/", "shop.example.com")


def test_a_socket_that_answers_a_byte_at_a_time_is_given_up(tmp_path):
    """Each byte comes in time for itself; the whole would take for ever."""
    path, over = str(tmp_path / "drip.sock"), threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def drip():
            carrier, _ = listener.accept()
            with carrier, contextlib.suppress(OSError):
                carrier.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not over.wait(0.05):
                    carrier.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            asgi_probe.ask_socket(path, "/", "shop.example.com", timeout=1)
        assert time.monotonic() - begun < 30
        over.set()
        thread.join()


# what somebody else wrote


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path):
    good = write(tmp_path / "good", "text")
    assert asgi.read_regular(good) == b"text"
    (tmp_path / "link").symlink_to(good)
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as stream:
        stream.truncate(asgi.FILE_LIMIT + 1)
    for name in ("link", "pipe", "sparse", "missing"):
        with pytest.raises(OSError, match=name):
            asgi.read_regular(tmp_path / name)


def test_a_file_of_a_project_lies_in_its_code(tmp_path):
    code = tmp_path / "code"
    write(code / "requirements/production.txt", "django")
    (code / "requirements.txt").symlink_to("requirements/production.txt")
    assert packages.project_file(code, "requirements.txt") == b"django"
    assert packages.project_file(code, "uv.lock") is None
    write(tmp_path / "outside")
    for target in (tmp_path / "outside", "../outside", "/proc/kcore", "missing", "pylock.toml"):
        (code / "pylock.toml").unlink(missing_ok=True)
        (code / "pylock.toml").symlink_to(target)
        with pytest.raises(asgi.ReleaseError, match=r"pylock\.toml cannot be used"):
            packages.project_file(code, "pylock.toml")


def test_a_directory_of_requirements_that_leads_out_of_the_code_is_not_read(root, tmp_path):
    code = root / "code"
    write(tmp_path / "elsewhere/x.txt", "secret")
    write(code / "deps/x.txt", "idna")
    assert packages.project_file(code, "deps/x.txt") == b"idna"
    (code / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(asgi.ReleaseError, match=r"away/x\.txt cannot be used"):
        packages.project_file(code, "away/x.txt")


def test_the_end_of_what_a_program_prints_is_kept_whatever_it_is():
    code, said = asgi.run(
        [sys.executable, "-c", "import os\nfor _ in range(100): os.write(1, b'x' * 65536 + b'\\xff')"]
    )
    assert code == 0 and len(said) == asgi.OUTPUT_LIMIT and said.endswith("x\ufffd")
    begun = time.monotonic()
    code, said = asgi.run(["sh", "-c", "echo begun; sleep 60"], timeout=0.5)
    assert code != 0 and said == "begun\n" and time.monotonic() - begun < 30


def test_an_output_that_somebody_keeps_open_is_not_waited_for():
    """A program can hand its output to the running application (SCM_RIGHTS), which ends with no deploy."""
    begun = time.monotonic()
    code, said = asgi.run(["sh", "-c", "(sleep 30; echo later) 2>/dev/null & echo $!; exit 3"], timeout=None)
    assert code == 3 and time.monotonic() - begun < 10
    os.kill(int(said), 9)
    # Nor is it read for as long as somebody writes to it.
    code, said = asgi.run(
        ["sh", "-c", "yes 2>/dev/null & echo $! >&2; exit 4"], timeout=None, stderr=subprocess.DEVNULL
    )
    assert code == 4 and len(said) <= asgi.OUTPUT_LIMIT and time.monotonic() - begun < 20


def test_words_of_others_are_no_commands_to_a_terminal():
    assert asgi.printable("caf\u00e9\t1\n\x1b[2J\x9b2J\x07\r\u202eevil") == "caf\u00e9\t1\n[2J2Jevil"
    assert asgi.first_line("\x1b[2Jone\ntwo") == "[2Jone" and asgi.first_line("") == ""
    assert common.shorten("a\x1b[31mb\x1b]0;t\x07\n\xff") == "ab]0;t\n\xff"


def test_processes_of_a_user_are_found_even_where_they_hide():
    if os.getuid() != 0:
        pytest.skip("another user's process needs root")
    hiding = (
        "import ctypes, os, time; os.setuid(65533); ctypes.CDLL(None).prctl(4, 0); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hiding], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert asgi.processes_of(65533) == [process.pid]
        asgi.end_processes(65533)
        assert process.wait(10) < 0 and asgi.processes_of(65533) == []


# sealing


def test_a_sealed_tree_is_root_s_and_closed_to_others(tmp_path):
    place = tmp_path / "code"
    write(place / "run.sh").chmod(0o6777)
    write(place / "deep/data.txt").chmod(0o666)
    (place / "deep").chmod(0o2777)
    (place / "out").symlink_to("/etc/shadow")
    before = os.stat("/etc/shadow")
    build.seal(place, os.getuid(), os.getgid())
    modes = {
        path.relative_to(tmp_path).as_posix(): path.lstat().st_mode & 0o7777 for path in [place, *place.rglob("*")]
    }
    assert modes == {
        "code": 0o750,
        "code/run.sh": 0o750,
        "code/deep": 0o750,
        "code/deep/data.txt": 0o640,
        "code/out": 0o777,
    }
    assert (before.st_mode, before.st_uid) == (os.stat("/etc/shadow").st_mode, os.stat("/etc/shadow").st_uid)


def test_what_a_build_has_written_is_copied(deploy, root):
    """An open file that a build has handed to a running instance leads nowhere afterwards."""
    step = deploy("r1")
    (step.release.path / "code").mkdir(parents=True)
    step.work_on(step.release.path / "venv")
    tool = write(step.work / "venv/bin/tool", "#!/bin/sh\n")
    tool.chmod(0o755)
    (step.work / "venv/bin/python").symlink_to("/usr/bin/python3")
    with tool.open("a") as held:
        step.take_over(step.release.path / "venv")
        held.write("evil")
    place = step.release.path / "venv/bin"
    assert (place / "tool").read_text() == "#!/bin/sh\n" and (place / "tool").stat().st_mode & 0o777 == 0o755
    assert os.readlink(place / "python") == "/usr/bin/python3"
    assert not (step.work / "venv").exists()


def test_no_program_of_a_venv_takes_a_build_over(deploy, root):
    step = deploy("r1")
    (step.release.path / "code").mkdir(parents=True)
    step.work_on(step.release.path / "venv")
    for name in ("cp", "find", "sh"):
        write(step.work / f"venv/bin/{name}", "#!/bin/sh\ntouch ../evil\n").chmod(0o755)
    step.take_over(step.release.path / "venv")
    assert not (step.release.path / "evil").exists() and (step.release.path / "venv/bin/cp").exists()


def test_what_is_no_file_or_not_the_builder_s_is_not_sealed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(asgi.ReleaseError, match="pipe is neither a file nor a directory"):
        build.seal(tmp_path, os.getuid(), os.getgid())
    with pytest.raises(asgi.ReleaseError, match="does not belong to the build"):
        build.seal(tmp_path, os.getuid() + 1, os.getgid())
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(asgi.ReleaseError, match="link is no directory"):
        build.seal(tmp_path / "link", os.getuid(), os.getgid())


def test_a_file_may_have_several_names(tmp_path):
    """Archives have hard links, and so have projects."""
    for name in ("code/one.txt", "code/deep/two.txt", "code/three.txt"):
        write(tmp_path / name)
    for name in ("code/zz.txt", "code/deep/aa.txt"):
        os.link(tmp_path / "code/one.txt", tmp_path / name)
    builder = 65533 if os.getuid() == 0 else os.getuid()
    for path in [tmp_path / "code", *(tmp_path / "code").rglob("*")]:
        os.chown(path, builder, -1)
    build.seal(tmp_path / "code", builder, os.getgid())
    assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in (tmp_path / "code").rglob("*.txt")} == {
        (0, 0o640)
    }


def test_a_release_too_deep_to_walk_through_is_refused_and_removed(deploy, root):
    step = deploy("r1")
    code = step.release.path / "code"
    code.mkdir(parents=True)
    handle = os.open(code, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=handle)
        handle, above = os.open("d", os.O_RDONLY, dir_fd=handle), handle
        os.close(above)
    os.close(handle)
    with pytest.raises(asgi.ReleaseError, match="more than 250 directories in one another"):
        build.seal(code, os.getuid(), os.getgid())
    step.clear(step.release)
    assert not step.release.path.exists()


def test_a_hole_is_published_as_a_hole(deploy, root):
    source = root / "new"
    source.mkdir()
    with (source / "huge").open("wb") as stream:
        stream.truncate(1 << 32)
        stream.seek(1 << 31)
        stream.write(b"in the middle")
    begun, step = time.monotonic(), deploy()
    step.publish(source, root / "static")
    published = root / "static/huge"
    inode = published.stat().st_ino
    assert published.stat().st_size == 1 << 32 and published.stat().st_blocks < 10000
    step.publish(source, root / "static")
    assert published.stat().st_ino == inode, "the same is not copied again"
    assert time.monotonic() - begun < 20
    with published.open("rb") as stream:
        stream.seek(1 << 31)
        assert stream.read(14) == b"in the middle\0"


# a command at a terminal


@pytest.mark.parametrize(
    ("command", "typed", "shown", "kept"),
    [
        ("readlink /proc/self/fd/0; read x; echo $x; echo err >&2; exit 7", "hello\n", "hello\r\nerr\r\n7", "hello\n"),
        ("cat; exit 3", "hello\n\4", "hello\r\n3", "hello\n"),
        ("sleep 30 & exit 4", "", "4", ""),
        ("kill -9 $$", "", "137", ""),
    ],
)
def test_a_terminal_is_not_given_away(tmp_path, command, typed, shown, kept):
    carry = f"{sys.executable} {ROOT}/roles/asgi/files/carry sh -c {shlex.quote(command)}"
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        ["sh", "-c", f"{carry} >{tmp_path}/kept; echo $?"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        close_fds=True,
    ) as process:
        os.close(terminal)
        os.write(screen, typed.encode())
        assert process.wait(10) == 0
        seen = os.read(screen, 4096).decode()
    os.close(screen)
    assert seen.rstrip() == shown
    said = (tmp_path / "kept").read_text()
    assert said.endswith(kept) and "/dev" not in said


# a database without data


@pytest.mark.parametrize(
    ("gate", "data", "refused"),
    [
        ({"empty": True}, {}, True),
        ({"empty": True}, {"empty_database": True}, False),
        ({"empty": False}, {}, False),
        ({"empty": None}, {}, False),
        ({"empty": True}, {"app": {"migrate": False}}, False),
    ],
)
def test_nothing_goes_live_on_an_empty_database_unasked(root, deploy, gate, data, refused):
    step = deploy("r2", **data)
    add(root, "r2")
    step.look_at_database({"name": "shop", "host": "10.0.0.2", **gate})  # nothing is live: a first deploy
    asgi.Application("shop").point_live_at(add(root, "r1", state="good"))
    if not refused:
        step.look_at_database({"name": "shop", "host": "10.0.0.2", **gate})
        return
    with pytest.raises(asgi.ReleaseError, match=r"shop at 10[.]0[.]0[.]2.*is empty.*asgi_empty_database=shop"):
        step.look_at_database({"name": "shop", "host": "10.0.0.2", **gate})


def test_without_django_a_database_of_another_place_is_refused(root, deploy):
    old, new = add(root, "r1", state="good"), add(root, "r2")
    asgi.Application("shop").point_live_at(old)
    step = deploy("r2", app={"framework": "none"})
    step.look_at_database({})
    write(old.path / "env", 'A=1\nDATABASE_URL="postgresql://shop:hunter2@/shop?host=%2Fvar%2Frun%2Fpostgresql"\n')
    write(new.path / "env", 'DATABASE_URL="postgresql://shop:hunter3@/shop?host=%2Fvar%2Frun%2Fpostgresql"\n')
    step.look_at_database({})
    # Another way to write it, or to get there, is no other place.
    for same in (
        "postgresql://shop:hunter2@/shop?host=/var/run/postgresql",
        "postgresql+asyncpg://shop:hunter2@localhost/shop?host=/var/run/postgresql",
        "postgresql://shop:hunter2@127.0.0.1:5432/shop",
    ):
        write(new.path / "env", f'DATABASE_URL="{same}"\n')
        step.look_at_database({})
    for other in (
        "postgresql://shop@/shop?host=/srv/pg",
        "postgresql://shop@127.0.0.1:5433/shop",
        "postgresql:///blog?host=::1",
    ):
        write(new.path / "env", f'DATABASE_URL="{other}"\n')
        with pytest.raises(asgi.ReleaseError, match="another one"):
            step.look_at_database({})
    write(new.path / "env", 'DATABASE_URL="postgresql://shop:hunter2@10.0.0.2:5432/shop?sslmode=require"\n')
    with pytest.raises(asgi.ReleaseError) as caught:
        step.look_at_database({})
    assert "shop at 10.0.0.2:5432, not shop at this host" in str(caught.value)
    assert "hunter" not in str(caught.value)


# an interpreter that went


def test_a_release_whose_interpreter_is_gone_is_made_anew(root, tmp_path):
    release = add(root, "r1", state="good")
    assert not asgi_plan.interpreter_is_gone(release)  # an application without Python of its own
    (release.path / "venv/bin").mkdir(parents=True)
    (release.path / "venv/lib/python3.11/site-packages").mkdir(parents=True)
    (release.path / "venv/bin/python").symlink_to(tmp_path / "python3")
    assert asgi_plan.interpreter_is_gone(release)
    for version, gone in (("python3.11", False), ("python3.13", True)):
        write(tmp_path / version)
        (tmp_path / "python3").unlink(missing_ok=True)
        (tmp_path / "python3").symlink_to(version)
        assert asgi_plan.interpreter_is_gone(release) is gone


def test_what_was_rolled_back_is_held_until_the_inventory_changes(root, deploy):
    parts = {"source": "git:2", "env": "e", "process": "p"}
    live, rolled_away = add(root, "r1", state="good", parts={"source": "git:1"}), add(root, "r2", parts=parts)
    deploy("r1", action="rollback").call_good(rolled_away)
    assert live.record["instead_of"] == {"source": "git:2", "env": "e"}
    deploy("r1", action="resume").call_good(live)
    assert live.record["instead_of"] == {"source": "git:2", "env": "e"}
    again = add(root, "r3", parts={**parts, "source": "git:3"})
    deploy("r3").call_good(live)
    assert again.record["instead_of"] is None


def test_migrations_that_stay_are_known_of_each_older_release(root):
    for created, (identifier, migrations) in enumerate(
        {"r1": ["a.1"], "r2": [], "r3": ["a.2", "b.1"], "r4": ["c.1"]}.items()
    ):
        add(root, identifier, created=created, migrations=migrations)
    application = asgi.Application("shop")
    found = asgi_plan.migrated_since(application.release("r3"), application.releases())
    assert found == {"r3": [], "r2": ["a.2", "b.1"], "r1": ["a.2", "b.1"]}


def test_the_secrets_that_a_release_has_otherwise_are_known_by_their_names(root):
    now = {"SECRET_KEY": 'a"b\\c$d`e', "TEXT": 'two\nlines = "x"', "NEW": "1", "CHANGED": "after"}
    digests = plan_action.secrets_of({"secret_env": now})
    release = add(root, "r1")
    write(release.path / "env", "# a comment\n" + env_file({"A": "1", **now, "CHANGED": "before"} | {"Z": "2"}))
    assert asgi_plan.other_secrets(release, digests) == ["CHANGED"]
    write(release.path / "env", env_file({name: value for name, value in now.items() if name != "NEW"}))
    assert asgi_plan.other_secrets(release, digests) == ["NEW"]
    assert asgi_plan.other_secrets(release, {}) == []
    (release.path / "env").unlink()
    assert asgi_plan.other_secrets(release, digests) == list(digests)


def test_whom_kept_releases_log_in_as_is_known(root, monkeypatch):
    monkeypatch.setattr(asgi_database, "RELEASES", f"{asgi.ROOT}/{{}}/releases/*/env")
    urls = {
        "r1": "postgresql://shop:a@/shop?host=%2Frun",
        "r2": "postgresql://shop-0a1b:b@db/shop",
        "r3": "sqlite:///x",
        "r4": "http://[x",
    }
    for identifier, url in urls.items():
        write(add(root, identifier).path / "env", env_file({"A": "1", "DATABASE_URL": url}))
    add(root, "r5")
    own = {"DATABASE_URL": "sqlite:///x", "PGUSER": "shop-2c3d", "PGHOST": "db"}
    write(add(root, "r6").path / "env", env_file(own))
    # A value of several lines is one value, and what was written by hand counts.
    write(add(root, "r7").path / "env", "PGUSER='shop-4e5f'\nODD='\n" + env_file({"TEXT": "a\nPGUSER=nobody\n"}))
    assert asgi_database.database_roles("shop") == ["shop", "shop-0a1b", "shop-2c3d", "shop-4e5f"]
    assert asgi_database.database_roles("none") == []
    # One that cannot be read may log in as anybody.
    (root / "releases/r5/env").symlink_to("/nowhere")
    assert asgi_database.database_roles("shop") is None


def test_a_controller_without_proc_knows_its_runs_as_well(monkeypatch, tmp_path):
    """macOS and BSD, whose ps says so; a stand-in, for a Linux machine need not have one."""
    ps = write(
        tmp_path / "ps",
        """#!/bin/sh
[ "$#" = 6 ] || exit 2
case $6 in 7) echo "Ss   Sun Nov 29 18:17:05 2026" ;; 8) echo "Z    Sun Nov 29 18:17:05 2026" ;; *) exit 1 ;; esac
""",
    )
    ps.chmod(0o755)
    monkeypatch.setattr(run_utils, "PROC", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert run_utils._started_at(7) == "Sun Nov 29 18:17:05 2026"
    assert run_utils._started_at(8) is None and run_utils._started_at(9) is None
    run = f"{socket.gethostname()}//7/{run_utils._started_at(7)}"
    assert (
        not run_utils.is_dead(run)
        and run_utils.is_dead(run.replace("/7/", "/9/"))
        and run_utils.is_dead(run[:-1] + "5")
    )


# what people are told of a failure, and migrations that wait


def test_a_failure_is_a_sentence_and_its_output_is_kept_for_root_without_secrets(deploy, root):
    add(root, "r2", state="built")
    step = deploy("r2", build_environment={"UV_INDEX_X_PASSWORD": "hunter2-hunter2", "NODE_ENV": "production"})
    step.lock(True, "build")
    printed = "\n".join(f"line {number}" for number in range(50)) + "\nhunter2-hunter2 in production\nlast words"
    assert (
        step.tell(asgi.ReleaseError(f"the build command 'npm ci' failed:\n{printed}"))
        == "the build command 'npm ci' failed"
    )
    kept = (root / "failed.log").read_text()
    assert "line 0\n" in kept and "*** in production" in kept and "hunter2" not in kept + json.dumps(step.holder)
    assert stat.S_IMODE((root / "failed.log").stat().st_mode) == 0o600
    assert step.holder["details"][-2:] == ["last words", f"All of it: sudo cat {root}/failed.log"]
    assert step.holder["reason"] == "the build command 'npm ci' failed"
    step.abandoned()
    assert step.after["details"] == step.holder["details"] and step.after["serves"] == "It has no live release."


def test_what_the_gate_says_of_settings_is_kept_as_it_is(deploy, root, monkeypatch):
    """The instance says the same without a mask, and the two are compared."""
    running = {"DATABASES": {"default": ["postgresql", "", "", "shop", "0a1b2c3d4e5f"]}}
    report = {
        "passed": True,
        "messages": [{"id": "x", "message": "0a1b2c3d4e5f"}],
        "facts": {"running": running},
        "text": "0a1b2c3d4e5f",
    }
    step, _seen = gate_of(deploy, monkeypatch, 0, json.dumps(report))
    (step.release.path / "lib").mkdir()
    (step.release.path / "lib/vivarium_gate.json").write_text(json.dumps({"secrets": ["TOKEN"]}))
    (step.release.path / "env").write_text('TOKEN="0a1b2c3d4e5f"\n')
    step.checked()
    kept = json.loads((step.release.path / "gate.json").read_text())
    assert kept["facts"]["running"] == running and kept["messages"][0]["message"] == step.output == "***"


def test_a_disk_that_is_full_does_not_take_the_place_of_the_reason(deploy, root, monkeypatch):
    add(root, "r2", state="built")
    step = deploy("r2")
    step.lock(True, "build")
    (root / "failed.log").mkdir()  # what cannot be written, whoever runs this
    printed = "\n".join(f"line {number}" for number in range(50))
    assert (
        step.tell(asgi.ReleaseError(f"the build command 'npm ci' failed:\n{printed}"))
        == "the build command 'npm ci' failed"
    )
    assert step.holder["details"][-1] == "line 49"


@pytest.mark.parametrize(
    ("step_of", "seconds", "migrations", "hooks", "said"),
    [
        ("check", {}, [], [], "serves on as if nothing had happened."),
        ("check", {}, [], ["before_migrate"], "serves on as if nothing had happened."),
        ("migrate", {"migrate": 1}, [], [], "serves on; no migration was applied."),
        (
            "start",
            {"migrate": 1},
            ["shop.0002_x"],
            [],
            "serves on, on a database with these migrations applied: shop.0002_x.",
        ),
        ("start", {}, [], [], "serves on, on the database as another host of the run has migrated it."),
        (
            "migrate",
            {"migrate": 1},
            [],
            ["before_migrate"],
            "no migration was applied; the hooks before_migrate may have run.",
        ),
    ],
)
def test_a_release_serves_on_on_what_there_is(deploy, root, step_of, seconds, migrations, hooks, said):
    live = add(root, "r1", state="good")
    step = deploy("r2", app={"hooks": {moment: ["x"] if moment in hooks else [] for moment in lock.HOOKED}})
    step.holder = {"step": step_of, "seconds": seconds}
    assert said in step.what_serves(live, {"migrations": migrations})


def migrating(deploy, root, monkeypatch, outputs, atomic=True, **app):
    """A step whose migrate prints these outputs, one at each try."""
    add(root, "r2", state="built")
    (root / "releases/r2/gate.json").write_text(json.dumps({"facts": {"atomic_migrations": atomic}}))
    tries = []

    def run(self, options, *command):
        tries.append(options)
        self.output = self.printed = outputs[len(tries) - 1]
        return int("OK" not in self.printed.splitlines()[-1])

    monkeypatch.setattr(asgi_release.Deploy, "run", run)
    monkeypatch.setattr(asgi_release.time, "sleep", lambda _seconds: None)
    step = deploy("r2", app=app)
    step.lock(True, "migrate")
    return step, tries


LOCKED = (
    "  Applying shop.0002_x... OK\n"
    "  Applying shop.0003_y...psycopg.errors.LockNotAvailable: canceling statement due to lock timeout"
)


def test_a_migration_that_finds_a_table_locked_lets_others_through_and_tries_again(deploy, root, monkeypatch):
    step, tries = migrating(deploy, root, monkeypatch, [LOCKED, LOCKED, "  Applying shop.0003_y... OK"])
    assert step.migrated() and len(tries) == 3
    assert tries[0] == ["--setenv=PGOPTIONS=-clock_timeout=2s"]
    assert step.release.record["migrations"] == ["shop.0002_x", "shop.0002_x", "shop.0003_y"]


@pytest.mark.parametrize(("atomic", "app"), [(False, {}), (None, {}), (True, {"database": False})])
def test_a_migration_that_cannot_be_begun_anew_waits_as_long_as_its_role_may(deploy, root, monkeypatch, atomic, app):
    step, tries = migrating(deploy, root, monkeypatch, [LOCKED], atomic, **app)
    with pytest.raises(asgi.ReleaseError, match=r"manage[.]py migrate --noinput failed"):
        step.migrated()
    assert tries == [[]]


def test_another_failure_of_a_migration_is_told_at_once(deploy, root, monkeypatch):
    step, tries = migrating(
        deploy, root, monkeypatch, ["  Applying shop.0002_x... OK\ndjango.db.utils.ProgrammingError: no"]
    )
    with pytest.raises(asgi.ReleaseError, match="ProgrammingError: no"):
        step.migrated()
    assert len(tries) == 1 and step.release.record["migrations"] == ["shop.0002_x"]


def test_the_projects_own_program_is_what_is_run(deploy, root, monkeypatch):
    step, _tries = migrating(deploy, root, monkeypatch, ["OK"])
    assert step.django() == ("python", "-m", "django")
    write(step.release.path / "code/manage.py")
    assert step.django() == ("python", "manage.py")


def test_no_beginning_of_a_secret_is_left_where_a_line_is_cut(deploy, root):
    release, secret = add(root, "r1", state="staged"), "abcdefghijklmnopqrst"
    (release.path / "code").mkdir()
    write(release.path / "lib/vivarium_gate.json", json.dumps({"secrets": ["TOKEN"]}))
    write(release.path / "env", f'TOKEN="{secret}"\n')
    step = deploy("r1")
    for before in range(480, 501, 5):
        step.run([], "python3", "-c", f"print('-' * {before} + '{secret}')")
        assert "-" * 400 in step.output and "abcd" not in step.output


@pytest.mark.parametrize("facts", ["[]", "null", "1", '"x"', '{"database": [1]}', '{"database": null}'])
def test_a_report_of_odd_types_costs_no_deploy(root, deploy, facts):
    """The project's code had a hand in it."""
    asgi.Application("shop").point_live_at(add(root, "r1", state="good"))
    release = add(root, "r2", state="built")
    write(release.path / "code/vivarium_gate.py", f'print(\'{{"passed": true, "facts": {facts}}}\')')
    write(release.path / "env", "")
    (release.path / "lib").symlink_to("code")
    assert deploy("r2").checked() is False


@pytest.mark.parametrize("running", ['[[1, "x"]]', "[[null, 1]]", "[]", '"x"', "1"])
def test_an_instance_that_answers_with_odd_types_has_not_said_what_it_runs_with(deploy, root, monkeypatch, running):
    release = add(root, "r1")
    write(release.path / "lib/vivarium_token", "token")
    write(release.path / "gate.json", json.dumps({"facts": {"running": {"DEBUG": False}}}))
    monkeypatch.setattr(asgi_running, "answer_of", lambda *_arguments: (200, {}, f'{{"running": {running}}}'))
    with pytest.raises(asgi.ReleaseError, match="does not say what it runs with"):
        deploy("r1", app={"start_timeout": 0.1, "waivers": {}}).look_at_instance(release)


def test_a_process_that_does_not_stop_gives_the_requests_back(deploy, root, quiet, monkeypatch):
    """It must be alone, and that of the release before does not end."""
    application, asked = asgi.Application("shop"), []
    application.point_live_at(good(root, "r1", 1, 10))
    add(root, "r2", state="built", created=2)

    def systemctl(*words, check=True):
        asked.append(words)
        if words[:2] == ("stop", "shop-bot@r1.service") and check:
            raise asgi.ReleaseError("systemctl stop failed")
        return ""

    everywhere(monkeypatch, "systemctl", systemctl)
    monkeypatch.setattr(asgi.Application, "running_units", lambda self, *_states: {"shop-bot@r1.service": "active"})
    monkeypatch.setattr(asgi_release.Deploy, "processes", lambda self: ["bot"])
    monkeypatch.setattr(asgi_release.Deploy, "verify", lambda self: None)
    step = deploy("r2", app={"processes": {"bot": {"overlap": False}}})
    step.lock(True)
    with pytest.raises(asgi.ReleaseError, match="systemctl stop failed; requests go to release r1 again"):
        take_step(step, "live")
    assert application.live().id == "r1"
    assert ("start", "--no-block", "shop-bot@r1.service") in asked


def test_what_is_kept_of_a_failure_is_no_command_of_a_terminal(deploy, root):
    """An instance answers with whatever it likes, the first line of its answer as well."""
    add(root, "r1", state="staged")
    step = deploy("r1")
    step.lock(True)
    printed = "\n".join(f"line {number}" for number in range(30))
    assert step.tell(asgi.ReleaseError(f"no answer (\x1b]0;x\x07\x9b2J):\n{printed}")) == "no answer (]0;x2J)"
    assert (root / "failed.log").read_text().replace("\n", "").isprintable()
