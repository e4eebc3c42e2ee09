"""What servers run with: the parent that ends them without a loss, the wrapper around the application, and their packages."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._asgi import packages as asgi_packages

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
# The parent as it is, but for how long a server must have run; started as systemd starts it, with the socket that it holds.
PARENT = """
import os, sys; sys.path.insert(0, sys.argv.pop(1))
import vivarium_supervise as parent
held = int(sys.argv.pop(1))
if held:
    os.dup2(held, 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
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
    """Start a parent; returns it and the path of the socket that it is given."""
    started = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s.sock"))
    listener.listen(100)

    def start(*options, server=SERVER, settled=0, with_socket=True):
        path, held = tmp_path / "s.sock", listener.fileno() if with_socket else 0
        command = [sys.executable, "-c", PARENT, str(FILES), str(held), str(settled), "--socket", str(path), *options]
        command += ["--application", "a:b", "--lifespan", "off", "--", sys.executable, "-c", server]
        environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}
        started.append(
            subprocess.Popen(
                command, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=[held] if held else []
            )
        )
        return started[-1], path

    yield start
    listener.close()
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


def test_without_a_socket_of_systemds_it_does_not_start(supervise):
    parent, _path = supervise("--workers", "1", "--finish", "5", with_socket=False)
    assert parent.wait(20) == 1 and "no socket was handed over" in parent.stderr.read()


def test_a_worker_that_dies_is_started_again_and_the_others_stay(supervise):
    parent, path = supervise("--workers", "2", "--finish", "5")
    wait_for(lambda: answers(path))
    children = wait_for(lambda: len(pids := processes(path)) == 2 and pids)
    victim, other = children
    held = next(c for c, pid in iter(lambda: connect(path), None) if pid == other)
    os.kill(victim, signal.SIGKILL)
    after = wait_for(lambda: {pid for _ in range(30) if (pid := answers(path))} - {other})
    assert victim not in after
    assert wait_for(lambda: other in processes(path)) and parent.poll() is None
    held.close()


@pytest.mark.parametrize("told", [True, False])
def test_a_worker_that_was_told_to_end_is_started_again_at_once(supervise, tmp_path, told):
    """Though it is soon after the start, when another end takes the parent along."""
    parent, path = supervise("--workers", "2", "--finish", "5", settled=60)
    wait_for(lambda: answers(path))
    victim, _other = wait_for(lambda: len(pids := processes(path)) == 2 and pids)
    if told:
        (tmp_path / f"ended-{victim}").touch()
    os.kill(victim, signal.SIGTERM)
    if told:
        assert wait_for(lambda: len({pid for _ in range(30) if (pid := answers(path))} - {victim}) == 2)
        assert parent.poll() is None
    else:
        assert parent.wait(20) == 1


def test_what_ends_soon_after_the_start_is_not_started_for_ever(supervise):
    parent, _path = supervise("--workers", "2", "--finish", "5", server="raise SystemExit(3)", settled=10)
    assert parent.wait(20) == 3 and "ended with 3" in parent.stderr.read()


def test_a_server_with_workers_of_its_own_takes_the_parent_along(supervise):
    parent, path = supervise("--finish", "5")
    os.kill(wait_for(lambda: answers(path)), signal.SIGKILL)
    assert parent.wait(20) == 128 + 9


def ends_once_let_go(parent, path):
    """It is told to end while somebody holds a connection, and does so when that is over."""
    wait_for(lambda: answers(path))
    held, pid = connect(path)
    parent.terminate()
    wait_for(lambda: not (path.parent / "serving").exists())
    time.sleep(1)
    os.kill(pid, 0)
    assert parent.poll() is None
    held.close()
    assert parent.wait(5) == 0


def test_an_end_waits_for_what_is_held(supervise):
    ends_once_let_go(*supervise("--workers", "2", "--finish", "20"))


def test_somebody_elses_socket_of_any_name_changes_nothing(supervise):
    """Whoever has an account can give one a name that is no text, and the table of all sockets has it."""
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(b"\0\xff\xfe" + os.urandom(4).hex().encode())
        ends_once_let_go(*supervise("--workers", "1", "--finish", "20"))


def test_an_end_waits_no_longer_than_it_was_told(supervise):
    parent, path = supervise("--workers", "1", "--finish", "1")
    wait_for(lambda: answers(path))
    _held, _pid = connect(path)
    begun = time.monotonic()
    parent.terminate()
    assert parent.wait(10) == 0 and time.monotonic() - begun >= 1


def test_a_server_that_does_not_want_to_end_is_killed(supervise):
    deaf = SERVER.replace("lambda *_: os._exit(0)", "signal.SIG_IGN")
    parent, path = supervise("--workers", "1", "--finish", "1", server=deaf)
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
            "APPLICATION": "some_application:deep.app", "SERVING": str(path), "LIFESPAN": lifespan, "RUN_LIFESPAN": "",
            "CLOSE_CODE": code, "HANG_TIMEOUT": "0",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"VIVARIUM_{key}", value)
        monkeypatch.setattr(sys, "path", [str(FILES), *sys.path])
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


async def falls_in_the_middle(scope, receive, send):
    raise ValueError((await receive())["type"])


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
        # The server is to hear of its end, whether the application speaks the protocol or not.
        (silent, "auto", ["startup.complete", "shutdown.complete"]),
        (like_django, "auto", ["startup.complete", "shutdown.complete"]),
        (falls_in_the_middle, "auto", ["startup.complete", "shutdown.complete"]),
    ],
)
def test_the_lifespan_is_as_described(wrapper, inner, mode, expected):
    assert lifespan(wrapper(inner, mode)[0]) == expected


@pytest.mark.parametrize(
    ("inner", "mode"),
    [(obedient, "on"), (obedient, "auto"), (like_django, "off"), (like_django, "auto"), (silent, "auto")],
)
def test_a_worker_that_is_told_to_end_leaves_word(wrapper, tmp_path, monkeypatch, inner, mode):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    old, other = tmp_path / "ended-1", tmp_path / "serving"
    for path in (old, other):
        path.touch()
        os.utime(path, (0, 0))
    wrapped = wrapper(inner, mode)[0]
    word = tmp_path / f"ended-{os.getpid()}"
    assert not word.exists()
    lifespan(wrapped)
    assert word.exists() and not old.exists() and other.exists()


def test_one_that_falls_leaves_none(wrapper, tmp_path, monkeypatch):
    async def falls(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("later")

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with pytest.raises(RuntimeError):
        lifespan(wrapper(falls, "auto")[0])
    assert not (tmp_path / f"ended-{os.getpid()}").exists()


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


# The heartbeat.

# A worker with a limit of a second, and what it does in its event loop.
WORKER = """
import asyncio, os, re, sys, threading, time; sys.path.insert(0, sys.argv[1])
from vivarium_heartbeat import Heartbeat
async def main():
    Heartbeat(1).start()
    begun = time.monotonic()
    {}
    print("lives")
asyncio.run(main())
"""


def worker(*lines):
    return subprocess.run(
        [sys.executable, "-c", WORKER.format("\n    ".join(lines)), str(FILES)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(30)",
        'await asyncio.to_thread(time.sleep, 0.1); re.match("(a+)+$", "a" * 40 + "b")',  # holds the interpreter lock
    ],
)
def test_a_worker_that_hangs_ends_and_says_where(hang):
    run = worker(hang)
    assert run.returncode == 1 and run.stdout == ""
    assert "most recent call first" in run.stderr and "in main" in run.stderr


@pytest.mark.parametrize(
    "work",
    [
        # One short computation after the other, for longer than the limit.
        ["while time.monotonic() < begun + 3:", "    await asyncio.sleep(0)", "    sum(range(200_000))"],
        # Threads that want the interpreter lock all the time.
        [
            "def busy():", "    while time.monotonic() < begun + 3: sum(range(1000))",
            "await asyncio.gather(*(asyncio.to_thread(busy) for _ in range(4)))",
        ],
        ["await asyncio.sleep(3)"],
    ],
)  # fmt: skip
def test_a_worker_that_is_busy_or_idle_is_not_taken_for_one_that_hangs(work):
    run = worker(*work)
    assert (run.returncode, run.stdout) == (0, "lives\n"), run.stderr


def test_a_child_of_a_worker_ends_as_it_would_without(tmp_path):
    """The timer's thread is not there in a child, which must not wait for it; and a child has no event loop to put it off."""
    run = worker(
        "if (child := os.fork()) == 0:", "    time.sleep(2)", "    sys.exit(7)",
        "while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < begun + 20:",
        "    await asyncio.sleep(0.1)",
        "assert os.waitstatus_to_exitcode(ended[1]) == 7, ended",
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "lives\n"), run.stderr


def test_a_parent_is_watched_after_a_fork_as_before():
    run = worker("if os.fork() == 0:", "    os._exit(0)", "time.sleep(30)")
    assert run.returncode == 1 and "in main" in run.stderr


def test_without_a_limit_nothing_is_ended():
    lines = ["Heartbeat(0).start()", "time.sleep(2)"]
    code = WORKER.replace("    Heartbeat(1).start()\n", "").format("\n    ".join(lines))
    assert subprocess.run([sys.executable, "-c", code, str(FILES)], timeout=60).returncode == 0


@pytest.mark.parametrize(("inner", "mode"), [(obedient, "on"), (obedient, "auto"), (like_django, "off")])
def test_the_heartbeat_begins_when_the_application_has_started(wrapper, monkeypatch, inner, mode):
    wrapped, _path = wrapper(inner, mode)
    starts = []
    monkeypatch.setattr(wrapped.heartbeat, "start", lambda: starts.append(1))
    lifespan(wrapped)
    assert starts


def test_it_begins_with_the_first_request_where_a_server_knows_no_lifespan(wrapper, monkeypatch):
    async def inner(scope, receive, send):
        assert starts

    wrapped, _path = wrapper(inner)
    starts = []
    wrapped.heartbeat.started = False
    monkeypatch.setattr(wrapped.heartbeat, "start", lambda: starts.append(1))
    asyncio.run(wrapped({"type": "http", "headers": []}, None, None))


# Packages.


def venv(place, **packages):
    for name, version in packages.items():
        (place / f"lib/python3.13/site-packages/{name}-{version}.dist-info").mkdir(parents=True)
    return asgi_packages.installed(map(str, place.glob("lib/python*/site-packages/*")))


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


# What a request is


@pytest.mark.parametrize(
    ("kind", "proto", "asked", "server"),
    [
        ("http", b"https", b"shop.example.com", ("shop.example.com", 443)),
        ("http", b"http", b"shop.example.com", ("shop.example.com", 80)),
        ("websocket", b"https", b"shop.example.com:8443", ("shop.example.com", 8443)),
        ("http", b"https", b"[2001:db8::1]", ("[2001:db8::1]", 443)),
        ("http", b"https", b"[2001:db8::1]:8443", ("[2001:db8::1]", 8443)),
        ("http", b"https", b"shop:x", ("shop:x", 443)),
        # A look from the host itself, in the oldest form of HTTP.
        ("http", b"https", None, None),
    ],
)
def test_what_was_asked_for_is_told_to_the_application(monkeypatch, kind, proto, asked, server):
    monkeypatch.syspath_prepend(str(FILES))
    scope = {
        "type": kind, "scheme": "ws" if kind == "websocket" else "http", "server": None, "client": None, "headers": [
            *[(b"host", asked)] * bool(asked), (b"x-forwarded-for", b"6.6.6.6, 192.0.2.7"), (b"x-forwarded-proto", proto),
        ],
    }  # fmt: skip
    importlib.import_module("vivarium_scope").correct(scope)
    assert scope["server"] == server and scope["client"] == ("192.0.2.7", 0)
    assert scope["scheme"] == ("wss" if kind == "websocket" else proto.decode())


def test_below_a_path_a_request_says_so_and_keeps_its_whole_path(monkeypatch):
    """ASGI: the path includes root_path. Whatever a server says of it itself does not count."""
    monkeypatch.syspath_prepend(str(FILES))
    scopes = importlib.import_module("vivarium_scope")
    scope = {"type": "http", "scheme": "http", "path": "/api/x", "root_path": "", "headers": []}
    scopes.correct(scope)
    assert scope["root_path"] == ""
    monkeypatch.setattr(scopes, "ROOT_PATH", "/api")
    scopes.correct(scope)
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/x")


def test_events_are_not_collected_and_other_answers_are_left_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(FILES))
    sent = []

    async def send(message):
        sent.append(message)

    async def answer(*headers):
        on = importlib.import_module("vivarium_scope").unbuffered(send)
        await on({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await on({"type": "http.response.body", "body": b"x"})
        start, body = sent[-2:]
        assert body["body"] == b"x"
        return [name for name, _value in start["headers"]]

    events, html = (b"Content-Type", b"text/event-stream; charset=utf-8"), (b"content-type", b"text/html")
    assert asyncio.run(answer(events)) == [b"Content-Type", b"x-accel-buffering"]
    assert asyncio.run(answer(events, (b"X-Accel-Buffering", b"yes"))) == [b"Content-Type", b"X-Accel-Buffering"]
    assert asyncio.run(answer(html)) == [b"content-type"]

    async def once():
        on = importlib.import_module("vivarium_scope").unbuffered(send)
        await on({"type": "http.response.start", "status": 200, "headers": (each for each in [html])})

    asyncio.run(once())
    assert list(sent[-1]["headers"]) == [html]
