"""What servers run with: the parent that ends them without a loss, the wrapper around the application, and their packages."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
from ansible_collections.vivarium.server.plugins.module_utils import asgi_packages

FILES = pathlib.Path(__file__).resolve().parents[2] / "roles/asgi/files/server"

# A server of a few lines: each connection gets its process's number, and lives until the client closes it.
SERVER = """
import os, signal, socket, sys, threading
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
listener = socket.socket(fileno=3)
def talk(connection):
    connection.sendall(f"{os.getpid()} {os.environ['VIVARIUM_APPLICATION']}\\n".encode())
    connection.recv(1)
    connection.close()
while True:
    threading.Thread(target=talk, args=listener.accept()[:1], daemon=True).start()
"""
# The parent as it is, but for how long a server must have run.
PARENT = """
import sys; sys.path.insert(0, sys.argv.pop(1))
import vivarium_supervise as parent
parent.SETTLED, parent.PAUSE = float(sys.argv.pop(1)), 0
sys.exit(parent.Supervisor(parent.arguments(sys.argv[1:])).run())
"""


def wait_for(question, seconds=20):
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


@pytest.fixture
def supervise(tmp_path):
    """Start a parent; returns it and the path of its socket."""
    started = []

    def start(*options, server=SERVER, settled=0):
        path = tmp_path / "s.sock"
        command = [sys.executable, "-c", PARENT, str(FILES), str(settled), "--socket", str(path), *options]
        command += ["--application", "a:b", "--lifespan", "off", "--", sys.executable, "-c", server]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1], path

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def connect(path):
    """A connection, and the process that took it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    line = connection.makefile().readline()
    if not line:
        raise ConnectionError("the process that took the connection has died")
    pid, application = line.split()
    assert application == "a:b"
    return connection, int(pid)


def processes(path, number=30):
    found = set()
    for _ in range(number):
        connection, pid = connect(path)
        found.add(pid)
        connection.close()
    return found


def answers(path):
    try:
        return connect(path)[1]
    except OSError:
        return None


def test_the_socket_is_for_the_owner_and_the_group_alone(supervise):
    _parent, path = supervise("--bind", "--workers", "1", "--finish", "5")
    wait_for(lambda: answers(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_file_that_a_killed_one_left_is_no_obstacle(supervise, tmp_path):
    socket.socket(socket.AF_UNIX).bind(str(tmp_path / "s.sock"))
    _parent, path = supervise("--bind", "--workers", "1", "--finish", "5")
    assert wait_for(lambda: answers(path))


def test_a_worker_that_dies_is_started_again_and_the_others_stay(supervise):
    parent, path = supervise("--bind", "--workers", "2", "--finish", "5")
    wait_for(lambda: answers(path))
    children = wait_for(lambda: len(pids := processes(path)) == 2 and pids)
    victim, other = children
    held = next(c for c, pid in iter(lambda: connect(path), None) if pid == other)
    os.kill(victim, signal.SIGKILL)
    after = wait_for(lambda: {pid for _ in range(30) if (pid := answers(path))} - {other})
    assert victim not in after
    assert wait_for(lambda: other in processes(path)) and parent.poll() is None
    held.close()


def test_what_ends_soon_after_the_start_is_not_started_for_ever(supervise):
    parent, _path = supervise("--bind", "--workers", "2", "--finish", "5", server="raise SystemExit(3)", settled=10)
    assert parent.wait(20) == 3 and "ended with 3" in parent.stderr.read()


def test_a_server_with_workers_of_its_own_takes_the_parent_along(supervise):
    parent, path = supervise("--bind", "--finish", "5")
    os.kill(wait_for(lambda: answers(path)), signal.SIGKILL)
    assert parent.wait(20) == 128 + 9


def test_an_end_waits_for_what_is_held(supervise):
    parent, path = supervise("--bind", "--workers", "2", "--finish", "20")
    wait_for(lambda: answers(path))
    held, pid = connect(path)
    parent.terminate()
    wait_for(lambda: not path.exists())
    time.sleep(1)
    os.kill(pid, 0)
    assert parent.poll() is None
    held.close()
    assert parent.wait(5) == 0


def test_an_end_waits_no_longer_than_it_was_told(supervise):
    parent, path = supervise("--bind", "--workers", "1", "--finish", "1")
    wait_for(lambda: answers(path))
    _held, _pid = connect(path)
    begun = time.monotonic()
    parent.terminate()
    assert parent.wait(10) == 0 and time.monotonic() - begun >= 1


def test_a_server_that_does_not_want_to_end_is_killed(supervise):
    deaf = SERVER.replace("lambda *_: os._exit(0)", "signal.SIG_IGN")
    parent, path = supervise("--bind", "--workers", "1", "--finish", "1", server=deaf)
    pid = wait_for(lambda: answers(path))
    parent.terminate()
    assert parent.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# The wrapper.


@pytest.fixture
def wrapper(monkeypatch, tmp_path):
    """Make a wrapper of an application, as a server that imports it does."""

    def make(inner, lifespan="off", code="1012"):
        module = type(sys)("some_application")
        module.deep = type(sys)("deep")
        module.deep.app = inner
        monkeypatch.setitem(sys.modules, "some_application", module)
        path = tmp_path / "there.sock"
        path.touch()
        for key, value in {
            "APPLICATION": "some_application:deep.app", "SOCKET": str(path), "LIFESPAN": lifespan, "RUN_LIFESPAN": "",
            "CLOSE_CODE": code,
        }.items():  # fmt: skip
            monkeypatch.setenv(f"VIVARIUM_{key}", value)
        monkeypatch.setattr(sys, "path", list(sys.path))
        spec = importlib.util.spec_from_file_location("vivarium_server", FILES / "vivarium_server.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        loaded.LOOK = 0.01
        return loaded.application, path

    return make


def lifespan(wrapped):
    """What a server hears that tells the application of its start, and then of its end."""
    sent = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message["type"].removeprefix("lifespan."))

    asyncio.run(wrapped({"type": "lifespan"}, receive, send))
    return sent


async def obedient(scope, receive, send):
    for _ in range(2):
        await send({"type": f"{(await receive())['type']}.complete"})


async def like_django(scope, receive, send):
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def silent(scope, receive, send):
    return None


@pytest.mark.parametrize(
    ("inner", "mode", "expected"),
    [
        (obedient, "on", ["startup.complete", "shutdown.complete"]),
        (obedient, "auto", ["startup.complete", "shutdown.complete"]),
        (like_django, "off", ["startup.complete", "shutdown.complete"]),
        (like_django, "on", ["startup.failed"]),
        (silent, "on", ["startup.failed"]),
        (silent, "auto", []),
    ],
)
def test_the_lifespan_is_as_described(wrapper, inner, mode, expected):
    assert lifespan(wrapper(inner, mode)[0]) == expected


def test_without_a_lifespan_the_server_is_told_so(wrapper):
    with pytest.raises(ValueError, match="Django"):
        lifespan(wrapper(like_django, "auto")[0])


@pytest.mark.parametrize(
    ("kind", "headers", "scheme", "client"),
    [
        ("http", {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https"}, "https", ("192.0.2.7", 0)),
        ("websocket", {"x-forwarded-for": "2001:db8::7", "x-forwarded-proto": "https"}, "wss", ("2001:db8::7", 0)),
        # nginx adds nothing to what a visitor sends; where another proxy does, the last is what it saw.
        ("http", {"x-forwarded-for": "6.6.6.6, 192.0.2.7"}, "http", ("192.0.2.7", 0)),
        ("http", {"x-forwarded-proto": "javascript", "forwarded": "for=6.6.6.6"}, "http", None),
    ],
)
def test_scheme_and_visitor(wrapper, kind, headers, scheme, client):
    seen = []

    async def inner(scope, receive, send):
        seen.append(scope)

    scope = {
        "type": kind, "scheme": "http", "client": None,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(wrapper(inner)[0](scope, None, None))
    assert (seen[0]["scheme"], seen[0]["client"]) == (scheme, client)


async def chat(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})
    scope["end"].append(message["code"])
    await send({"type": "websocket.send", "text": "too late"})


@pytest.mark.parametrize("receives_in", ["a coroutine", "a future"])
def test_a_websocket_is_closed_when_the_instance_ends(wrapper, receives_in):
    """A server tells of the end in its own words; Granian, which receives in a future, has to be called off."""
    wrapped, path = wrapper(chat, code="4012")
    sent, end = [], []

    async def run():
        queue = asyncio.Queue()
        for message in ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}):
            queue.put_nowait(message)

        async def send(message):
            sent.append(message)
            if message["type"] == "websocket.send":
                path.unlink()
            if message["type"] == "websocket.close" and receives_in == "a coroutine":
                queue.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

        def receive():
            return queue.get() if receives_in == "a coroutine" else asyncio.ensure_future(queue.get())

        await asyncio.wait_for(wrapped({"type": "websocket", "headers": [], "end": end}, receive, send), 5)

    asyncio.run(run())
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[-1]["code"] == 4012 and end == [4012]


# Packages.


def venv(place, **packages):
    for name, version in packages.items():
        (place / f"lib/python3.13/site-packages/{name}-{version}.dist-info").mkdir(parents=True)
    return asgi_packages.installed(place)


def test_what_a_venv_has(tmp_path):
    assert venv(tmp_path, uvicorn_worker="0.3.0", Django="5.2") == {"uvicorn-worker": "0.3.0", "django": "5.2"}


@pytest.mark.parametrize(
    ("version", "too_old"),
    [("4.1.2", True), ("4.2.1.post1", True), ("4.2.2", False), ("4.10", False), ("5", False), ("4.2.2rc1", False)],
)
def test_a_locked_version_is_used_unless_it_is_too_old(tmp_path, version, too_old):
    packages = venv(tmp_path, daphne=version)
    expected = [("daphne", version, "4.2.2")] if too_old else []
    assert asgi_packages.too_old(["daphne>=4.2.2,<5", "uvloop>=0.19"], packages) == expected
    assert asgi_packages.missing(["daphne>=4.2.2,<5", "uvloop>=0.19"], packages) == ["uvloop>=0.19"]
