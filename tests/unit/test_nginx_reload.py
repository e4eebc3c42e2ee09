"""What a reload of nginx comes to, with processes that stand for nginx's main one."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "roles/nginx/files/nginx_reload.py"

# nginx's main process: signals come through while it waits, and at no other time. `work` is what it does at a hangup.
MAIN = """
import pathlib, re, signal, socket, sys, time

directory = pathlib.Path(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


def serve(name=None):
    name = name or re.search(r"unix:(\\S+);", (directory / "reload.conf").read_text())[1]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    connection, _ = listener.accept()
    connection.recv(100)
    answer = pathlib.Path(name).stem
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n" + answer.encode())
    connection.close()


def work():
    %s


print("ready", flush=True)
while True:
    signal.sigwait([signal.SIGHUP])  # unblocked while it waits, and a signal from before is not lost: as sigsuspend in nginx
    work()
"""


@pytest.fixture
def reload(tmp_path, monkeypatch):
    """The program, at home in a directory of the test's, with less patience."""
    spec = importlib.util.spec_from_file_location("nginx_reload", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    directory = tmp_path / "run"
    for name, value in {
        "DIRECTORY": str(directory), "SERVER": str(directory / "reload.conf"), "NGINX": str(tmp_path / "nginx"), "BEFORE": 20,
        "AFTER": 20, "GRACE": 1,
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "complaints", lambda pid, started: "")
    module.says = lambda text: (
        (tmp_path / "nginx").write_text(f"#!/bin/sh\n{text}\n"),
        (tmp_path / "nginx").chmod(0o755),
    )
    module.says("exit 0")
    module.home = directory
    umask = os.umask(0o022)
    yield module
    os.umask(umask)


@pytest.fixture
def main_process(reload, monkeypatch):
    started = []

    def start(work):
        process = subprocess.Popen([sys.executable, "-c", MAIN % work, reload.home], stdout=subprocess.PIPE)
        process.stdout.readline()
        started.append(process)
        monkeypatch.setenv("MAINPID", str(process.pid))

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def failure(reload):
    with pytest.raises(reload.Failed) as caught:
        reload.main()
    return str(caught.value)


def test_an_answer_is_the_proof(reload, main_process):
    main_process("serve()")
    reload.main()
    assert list(reload.home.glob("*.sock"))
    assert oct(reload.home.stat().st_mode) == "0o40700"


def test_a_main_process_that_takes_its_time_is_waited_for(reload, main_process):
    main_process("time.sleep(3); serve()")
    reload.main()


@pytest.mark.parametrize(
    ("work", "after"),
    [("pass", 20), ("time.sleep(60)", 2), ("serve(str(directory / 'other.sock'))", 2)],
    ids=["nothing-happens", "it-never-ends", "something-else-answers"],
)
def test_without_an_answer_the_reload_fails_and_what_was_stays(reload, main_process, monkeypatch, work, after):
    monkeypatch.setattr(reload, "AFTER", after)
    main_process(work)
    reload.home.mkdir(0o700)
    (reload.home / "reload.conf").write_text("as before")
    assert "goes on with the old one" in failure(reload)
    assert (reload.home / "reload.conf").read_text() == "as before"
    assert not [path for path in reload.home.glob("*.sock") if path.stem != "other"]


def test_a_main_process_that_ends_is_told(reload, main_process):
    main_process("sys.exit()")
    # Until it is waited for it is there, without any signal of its own.
    assert "nginx" in failure(reload)


def test_a_test_that_does_not_end_is_stopped(reload, main_process, monkeypatch):
    monkeypatch.setattr(reload, "BEFORE", 1)
    main_process("serve()")
    reload.says("exec sleep 60")
    assert "nginx -t has not ended" in failure(reload)
    assert not (reload.home / "reload.conf").exists()


def test_two_sites_for_one_name_are_refused(reload, main_process):
    main_process("serve()")
    reload.says("""echo 'nginx: [warn] conflicting server name "shop.test" on 0.0.0.0:443, ignored' >&2""")
    assert 'conflicting server name "shop.test"' in failure(reload)
    assert not (reload.home / "reload.conf").exists()


def test_a_refused_configuration_is_told_in_printable_text(reload, main_process):
    main_process("serve()")
    reload.says(r"printf 'bad\033]0;taken over\007\nline\377'; exit 1")
    told = failure(reload)
    assert "refuses" in told and "bad?]0;taken over?\nline" in told
    assert not (reload.home / "reload.conf").exists()


def test_another_reload_is_waited_for_but_not_for_ever(reload, monkeypatch):
    monkeypatch.setattr(reload, "BEFORE", 1)
    reload.home.mkdir(0o700)
    handle = os.open(reload.home, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "another reload" in failure(reload)
    finally:
        os.close(handle)


def test_a_directory_that_others_may_enter_proves_nothing(reload, tmp_path):
    reload.home.mkdir()
    reload.home.chmod(0o755)
    assert "must belong to root alone" in failure(reload)
    reload.home.rmdir()
    (tmp_path / "elsewhere").mkdir(0o700)
    reload.home.symlink_to(tmp_path / "elsewhere")
    assert "cannot be used" in failure(reload)


def test_without_nginx_running_the_configuration_is_tested_alone(reload, monkeypatch):
    monkeypatch.setenv("MAINPID", "0")
    reload.main()
    reload.says("echo no; exit 1")
    assert "refuses" in failure(reload)


def test_a_unit_that_has_changed_is_tried_before_nginx_is_restarted(reload, main_process, monkeypatch, tmp_path):
    """nginx itself is in the former sandbox still, and so is its own test."""
    main_process("serve()")
    pid = int(os.environ["MAINPID"])
    (tmp_path / "dropin").write_text("[Service]\nRestart=always\nProtectHome=true\nReadWritePaths=/run -/var/x\n")
    (tmp_path / "systemd-run").write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 1\n')
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(reload, "DROPIN", str(tmp_path / "dropin"))
    monkeypatch.setattr(reload, "main_process", lambda: (pid, True))
    said = failure(reload)
    assert "in the sandbox of its unit" in said and "goes on with the old one" in said
    assert "--property=ProtectHome=true|--property=ReadWritePaths=/run -/var/x|" in said and "Restart" not in said
    assert not (reload.home / "reload.conf").exists()
