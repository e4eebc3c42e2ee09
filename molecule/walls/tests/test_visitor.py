"""What a visitor may say and do: nothing that he sends decides what a deploy believes, whose site answers, or what nginx runs."""

from __future__ import annotations

import base64
import contextlib
import json
import shlex

import pytest

# Speaks as no browser does. Prints the status of the answer (0 where there is none) and its body, as JSON.
CLIENT = r"""
import json, socket, ssl, struct, sys

order = json.load(sys.stdin)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if order["http2"]:
    context.set_alpn_protocols(["h2"])
if order["resume"]:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def connect(name, session=None):
    plain = socket.create_connection((order["address"], 443), timeout=10)
    return context.wrap_socket(plain, server_hostname=name, session=session)


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(connection):
    # Names and values as they are, without a table and without compression.
    block = b"".join(
        b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in order["fields"]
    )
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
    stream, status, body = connection.makefile("rb"), 0, b""
    while head := stream.read(9):
        payload = stream.read(int.from_bytes(head[:3], "big"))
        kind, flags = head[3], head[4]
        if kind == 1:
            text = payload.lstrip(b"\x20")
            known = {0x88: 200, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
            status = known.get(text[0]) or int(text[2:5])
        elif kind == 0:
            body += payload
        elif kind in (3, 7) or (kind == 1 and flags & 1):
            break
        if kind in (0, 1) and flags & 1:
            break
    return status, body


def http1(connection):
    connection.sendall(order["request"].encode("latin-1"))
    answer = b""
    while part := connection.recv(65536):
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        chunks, body = body, b""
        while chunks:
            size, _, chunks = chunks.partition(b"\r\n")
            body, chunks = body + chunks[: int(size, 16)], chunks[int(size, 16) + 2 :]
    return (int(head.split()[1]) if head else 0), body


status, body = 0, b""
try:
    session = None
    if order["resume"]:
        first = connect(order["resume"])
        first.sendall(b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n")
        first.recv(100)
        session = first.session
    status, body = (http2 if order["http2"] else http1)(connect(order["name"], session))
except (OSError, ValueError) as error:
    body = repr(error).encode()
print(json.dumps([status, body.decode("latin-1")]))
"""

RAIDER, PREY = "raider.example.test", "prey.example.test"
LIE = "/static/%5Bemerg%5D%20still%20could%20not%20bind%1B%5D0;taken%20over%07"


class Visitor:
    """Somebody on the other host."""

    def __init__(self, host, address):
        self.host, self.address = host, address

    def _ask(self, name, **order):
        order = {"address": self.address, "name": name, "http2": False, "resume": None, **order}
        text = base64.b64encode(json.dumps(order).encode()).decode()
        program = shlex.quote(CLIENT)
        return tuple(json.loads(self.host.check_output(f"echo {text} | base64 -d | python3 -c {program}")))

    def say(self, name, *lines, **order):
        """Shake hands for a name, then send these lines."""
        return self._ask(name, request="\r\n".join([*lines, "Connection: close", "", ""]), **order)

    def http2(self, name, *fields):
        fields = [[":method", "GET"], [":scheme", "https"], [":path", "/"], *fields]
        return self._ask(name, http2=True, fields=fields)


@pytest.fixture
def visitor(request, host, hosts, addresses):
    name = request.node.callspec.params["host"]
    other = next(each for each in hosts if each != name)
    return Visitor(hosts[other], addresses[name])


@contextlib.contextmanager
def meanwhile(host, command):
    """Do something again and again on a host; it must have been done at all."""
    unit = f"meanwhile-{abs(hash(command))}"
    script = f"n=0; while :; do {command}; n=$((n + 1)); echo $n >/tmp/{unit}; done"
    host.check_output(f"rm -f /tmp/{unit}; systemd-run --quiet --collect --unit {unit} sh -c {shlex.quote(script)}")
    try:
        yield
        assert int(host.check_output(f"cat /tmp/{unit}")) > 0
    finally:
        host.check_output(f"systemctl stop {unit}; rm -f /tmp/{unit}")


def lies(visitor):
    """A visitor who writes nginx's words into its log."""
    curl = f"curl -sk -o /dev/null --resolve {RAIDER}:443:{visitor.address}"
    return meanwhile(visitor.host, f"{curl} 'https://{RAIDER}{LIE}?[1-20]'")


@contextlib.contextmanager
def port_conflict(host):
    """A configuration that nginx -t takes for good and that nginx cannot use."""
    path = "/etc/nginx/sites.d/conflict.conf"
    host.check_output(f"echo 'server {{ listen 22; }}' >{path} && nginx -t -q")
    try:
        yield
    finally:
        host.check_output(f"rm {path}")
    host.check_output("systemctl reload nginx")


def test_what_visitors_write_into_the_log_does_not_fail_a_reload(host, visitor):
    with lies(visitor):
        for _ in range(5):
            run = host.run("systemctl reload nginx")
            assert run.rc == 0, run.stderr
    log = host.check_output("cat /var/log/nginx/error.log")
    assert "[emerg] still could not bind" in log, "the visitor did not reach the log"


def test_a_failed_reload_tells_nothing_that_a_visitor_wrote(host, visitor):
    with port_conflict(host), lies(visitor):
        run = host.run("/usr/local/lib/vivarium/nginx-reload")
    assert run.rc != 0
    said = run.stdout + run.stderr
    assert "goes on with the old one" in said and ":22 failed" in said
    assert "taken over" not in said and "\x1b" not in said


def test_a_worker_that_is_replaced_does_not_pass_for_a_reload(host, visitor):
    """A worker of the old configuration that dies is replaced by one with a new number and the old configuration."""
    main = host.check_output("systemctl show --property MainPID --value nginx")
    with port_conflict(host), meanwhile(host, f"pkill -KILL --parent {main}; sleep 0.3"):
        assert host.run("systemctl reload nginx").rc != 0
    assert host.check_output("systemctl show --property MainPID --value nginx") == main
    assert visitor.say(PREY, "GET / HTTP/1.1", f"Host: {PREY}") == (200, "prey")


def test_logs_that_are_rotated_do_not_fail_a_reload(host):
    with meanwhile(host, "logrotate --force /etc/logrotate.d/nginx"):
        for _ in range(5):
            host.check_output("systemctl reload nginx")


def test_reloads_at_the_same_time_all_succeed(host):
    reload = "/usr/local/lib/vivarium/nginx-reload"
    jobs = " ".join(f"({each}; echo $? >/tmp/reload.{number}) &" for number, each in enumerate([reload] * 4))
    host.check_output(f"rm -f /tmp/reload.*; {jobs} systemctl reload nginx; echo $? >/tmp/reload.s; wait")
    assert host.check_output("cat /tmp/reload.*").split() == ["0"] * 5


def test_nobody_but_root_is_asked_whether_a_reload_has_happened(host, as_user):
    host.check_output("systemctl reload nginx")
    (path,) = host.check_output("ls /run/vivarium-nginx/*.sock").split()
    ask = f"curl --silent --unix-socket {path} http://localhost/"
    assert host.check_output(ask) in path
    for user in ("nobody", "www-data", "raider"):
        assert as_user(host, ask, user).rc != 0


# The name of the handshake and the host of the request.

HOSTS = [PREY, PREY.upper(), f"{PREY}.", f"{PREY}:443", f"{PREY}:8443", f"{PREY.title()}.:443"]
FORMS = {
    **{f"Host: {each}": ["GET / HTTP/1.1", f"Host: {each}"] for each in HOSTS},
    "absolute": [f"GET https://{PREY}/ HTTP/1.1", f"Host: {RAIDER}"],
    "absolute with a port": [f"GET https://{PREY}:443/ HTTP/1.1", f"Host: {PREY}"],
    "HTTP/1.0": ["GET / HTTP/1.0", f"Host: {PREY}"],
    "WebSocket": ["GET / HTTP/1.1", f"Host: {PREY}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: a"],
    "two hosts": ["GET / HTTP/1.1", f"Host: {RAIDER}", f"Host: {PREY}"],
    "two hosts, the other first": ["GET / HTTP/1.1", f"Host: {PREY}", f"Host: {RAIDER}"],
    "a folded host": ["GET / HTTP/1.1", f"Host: {RAIDER}", f" {PREY}"],
    "static": ["GET /static/ HTTP/1.1", f"Host: {PREY}"],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_handshake_for_one_site_does_not_open_another(visitor, form):
    status, body = visitor.say(RAIDER, *FORMS[form])
    expected = 400 if "two" in form or "folded" in form else 421
    assert (status, body == "prey") == (expected, False), body
    if expected == 421 and form not in ("static", "WebSocket"):
        lines = [line.replace(RAIDER, PREY) for line in FORMS[form]]
        assert visitor.say(PREY, *lines) == (200, "prey")
        assert visitor.say(PREY.upper(), *lines) == (200, "prey")


@pytest.mark.parametrize("host_name", HOSTS)
def test_nor_does_it_over_http2(visitor, host_name):
    assert visitor.http2(RAIDER, [":authority", host_name])[0] == 421
    assert visitor.http2(PREY, [":authority", host_name]) == (200, "prey")


@pytest.mark.parametrize("fields", [[[":authority", RAIDER], ["host", PREY]], [["host", PREY]]], ids=["both", "host"])
def test_nor_does_the_host_header_of_http2(visitor, fields):
    status, body = visitor.http2(RAIDER, *fields)
    assert status in (0, 400, 421) and body != "prey"


def test_a_resumed_session_does_not_open_another_site(visitor):
    for name in (RAIDER, None, "nowhere.example.test"):
        status, body = visitor.say(name, "GET / HTTP/1.1", f"Host: {PREY}", resume=RAIDER)
        assert status in (0, 421) and body != "prey", (name, body)


def test_without_a_name_there_is_no_handshake(visitor):
    status, body = visitor.say(None, "GET / HTTP/1.1", f"Host: {PREY}")
    assert status == 0 and "UNRECOGNIZED_NAME" in body


# What uploads can be made into by the application that owns them.

UPLOADS = """
import os, socket
media = os.environ["MEDIA_ROOT"]
os.chdir(media)
for name in os.listdir("."):
    os.unlink(name)
open("plain.txt", "w").write("a plain file")
os.mkfifo("fifo.txt")
socket.socket(socket.AF_UNIX).bind("socket.txt")
for name, target in (("passwd.txt", "/etc/passwd"), ("log.txt", "/var/log/nginx/access.log"), ("self.txt", "plain.txt")):
    os.symlink(target, name)
os.symlink("/srv/prey", "directory")
try:
    os.link("/etc/passwd", "hard.txt")
except OSError:
    pass
try:
    os.rename(media, media + "2")
    print("moved")
except OSError:
    print("made", end="")
"""


def test_uploads_lead_nowhere_and_stop_no_worker(host, visitor, raid):
    assert raid(host, UPLOADS) == "made"

    def get(name):
        return visitor.say(RAIDER, f"GET /media/{name} HTTP/1.1", f"Host: {RAIDER}")

    assert get("plain.txt") == (200, "a plain file")
    for name in ("fifo.txt", "socket.txt", "passwd.txt", "log.txt", "self.txt", "directory/prey.py", "hard.txt"):
        for _ in range(5):
            assert get(name)[0] in (403, 404, 500), name
    assert get("plain.txt") == (200, "a plain file")


SWAP = """
import os, time
os.chdir(os.environ["MEDIA_ROOT"])
for name in os.listdir("."):
    os.unlink(name)
open("file", "w").write("a plain file")
os.mkdir("real")
open("real/passwd", "w").write("a plain file")
end = time.monotonic() + 8
while time.monotonic() < end:
    for path, target in (("swap", "/etc/passwd"), ("way", "/etc")):
        os.symlink(target, "new")
        os.replace("new", path)
        if path == "swap":
            os.link("file", "new")
            os.replace("new", path)
        else:
            os.unlink(path)
            os.rename("real", path)
            os.rename(path, "real")
os.unlink("swap")
os.unlink("real/passwd")
os.rmdir("real")
print("made", end="")
"""


def test_uploads_that_change_while_nginx_opens_them_lead_nowhere(host, visitor, raid):
    seen = f"/tmp/seen-{visitor.address}"
    curl = f"curl -sk --resolve {RAIDER}:443:{visitor.address}"
    urls = f"'https://{RAIDER}/media/swap?[1-40]' 'https://{RAIDER}/media/way/passwd?[1-40]'"
    visitor.host.check_output(f"rm -f {seen}")
    with meanwhile(visitor.host, f"{curl} {urls} >>{seen}"):
        assert raid(host, SWAP) == "made"
    assert visitor.host.run(f"grep -c '^root:' {seen}").stdout.strip() == "0"
    assert visitor.host.run(f"grep -c 'a plain file' {seen}").stdout.strip() != "0", "nobody saw the file"
