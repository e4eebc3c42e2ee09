"""An ASGI application without a framework that tells the tests what they want to know about the place it runs in."""

import asyncio
import ctypes
import json
import mmap
import os
import pathlib
import resource
import socket
import subprocess
from urllib.parse import parse_qs

HERE = pathlib.Path(__file__).resolve().parent
NAME = os.environ.get("HOME", "/").rsplit("-", 1)[-1]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await keep_open(receive, send)
        return
    query = {key: values[0] for key, values in parse_qs(scope.get("query_string", b"").decode()).items()}
    await PAGES.get(scope["path"], missing)(scope, receive, send, query)


async def answer(send, body, status=200):
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def missing(scope, receive, send, query):
    await answer(send, {"error": "no such page"}, 404)


async def about(scope, receive, send, query):
    """Which release answers, after a while if asked to; with what was sent."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await asyncio.sleep(float(query.get("seconds", 0)))
    await answer(send, {
        "release": os.environ["RELEASE"], "pid": os.getpid(), "scheme": scope["scheme"], "client": scope["client"],
        "body": body.decode(),
    })  # fmt: skip


async def stream(scope, receive, send, query):
    """A connection that does not end by itself."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": f"{os.environ['RELEASE']}\n".encode(), "more_body": True})
        await asyncio.sleep(0.2)


async def keep_open(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": os.environ["RELEASE"]})


async def environment(scope, receive, send, query):
    await answer(send, dict(os.environ))


async def attempts(scope, receive, send, query):
    """What the sandbox lets through: None, or the error, for each attempt."""
    await answer(send, {name: error_of(attempt) for name, attempt in ATTEMPTS.items()})


def error_of(attempt):
    try:
        attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def write(path):
    return lambda: pathlib.Path(path, ".attempt").write_text("x")


def see(path):
    """Fails where there is nothing, where it may not be read, and where another file system hides it."""
    return lambda: next(os.scandir(path)) if os.path.isdir(path) else pathlib.Path(path).read_bytes()


def write_and_execute():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def call(name, *arguments):
    def attempt():
        library = ctypes.CDLL(None, use_errno=True)
        if getattr(library, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    return attempt


def in_a_child(attempt):
    """As a program of its own: a process with threads, as a server's are, gets no user namespace of the kernel."""

    def run():
        child = os.fork()
        if child == 0:
            try:
                attempt()
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise OSError(code, os.strerror(code))

    return run


ATTEMPTS = {
    # its own
    "write its state": write(f"/var/lib/asgi-{NAME}"),
    "write its uploads": write(f"/srv/{NAME}/media"),
    "write its runtime directory": write(f"/run/asgi-{NAME}"),
    "write its /tmp": write("/tmp"),
    "run a program": lambda: subprocess.run(["true"], check=True),
    "open a socket": lambda: socket.socket(socket.AF_INET).close(),
    # not its own
    "write its code": write(HERE),
    "write its venv": write(HERE.parent / "venv/bin"),
    "write its static files": write(f"/srv/{NAME}/static"),
    "make a release": write(f"/srv/{NAME}/releases"),
    "replace its live release": lambda: os.symlink("x", f"/srv/{NAME}/.live"),
    "write its build cache": write(f"/var/cache/asgi-{NAME}-build"),
    "write /etc": write("/etc"),
    "see /tmp of others": see("/tmp/of-another"),
    "read its environment file": see(HERE.parent / "env"),
    "read another home": see("/home/admin/.ssh"),
    "read root's home": see("/root"),
    "see other processes": see("/proc/1/cmdline"),
    "map memory that is writable and executable": write_and_execute,
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "become root": lambda: os.setuid(0),
    "make a namespace": in_a_child(call("unshare", 0x10000000)),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1048576 * 2)),
    "trace a process": call("ptrace", 0, 0, 0, 0),
    "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "make a set-uid file": lambda: (pathlib.Path("/tmp/suid").write_text("x"), os.chmod("/tmp/suid", 0o4755)),
}

PAGES = {"/": about, "/health/": about, "/stream": stream, "/environment": environment, "/attempts": attempts}
