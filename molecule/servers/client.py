"""What nginx does, for the tests: asks an application through its live socket. Runs on a test host, as the user it is given.

usage: client.py APPLICATION QUESTION …     prints what it saw as JSON

request             one request whose headers lie about everything but what nginx says
pids                which processes answer
blocking            how long 40 requests take that keep their process busy for 50 ms, from eight clients
websocket           an echo, and a look at the scope
large               whether a WebSocket answers a message of 120 bytes
idle                whether a connection that was idle for eight seconds, longer than nginx keeps one, still takes a request
busy                which processes answer requests that keep them busy for half a second each, without a pause for 25 s
hang                whether a request is answered that would keep its process busy for ever
stop                what becomes of four requests and a WebSocket that are under way when the instance is stopped, where another
                    connection had been idle and was closed by us
load                what becomes of all requests and of a WebSocket until standard input ends
"""

import base64
import http.client
import json
import os
import socket
import sys
import threading
import time

name, question = sys.argv[1:]
LIVE = f"/srv/{name}/live/socket"
PATH = LIVE if question == "load" else os.path.realpath(LIVE)
HOST = f"{name.replace('_', '-')}.example.test"
NGINX = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
LIES = {
    "Forwarded": "for=6.6.6.6;proto=ftp;host=evil.test", "X-Forwarded-Host": "evil.test", "X-Forwarded-Port": "6666",
    "X-Real-IP": "6.6.6.6", "X-Forwarded-Prefix": "/evil", "Front-End-Https": "on",
}  # fmt: skip


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(PATH)


def ask(path, method="GET", body=None, headers=()):
    connection = Connection(HOST)
    try:
        connection.request(method, path, body, {**NGINX, "Connection": "close", **dict(headers)})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise OSError(f"status {response.status}")
        return json.loads(text)
    finally:
        connection.close()


def at_once(number, work):
    """What each of so many threads returns."""
    results = []
    threads = [threading.Thread(target=lambda n=n: results.append(work(n))) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class WebSocket:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(PATH)
        head = {
            **NGINX, "Host": HOST, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }  # fmt: skip
        lines = "".join(f"{key}: {value}\r\n" for key, value in head.items())
        self.socket.sendall(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
        self.stream = self.socket.makefile("rb")
        assert b" 101 " in self.stream.readline()
        while self.stream.readline() != b"\r\n":
            pass

    def send(self, text):
        self.socket.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode())

    def receive(self):
        """The next frame's kind and content; a ping is answered."""
        while True:
            first, length = self.stream.read(2) or (0, 0)
            if length == 126:
                length = int.from_bytes(self.stream.read(2), "big")
            content = self.stream.read(length)
            if first != 0x89:
                return first & 0x0F, content
            self.socket.sendall(bytes([0x8A, 0x80 | len(content)]) + bytes(4) + content)

    def closed(self):
        """With which code it is closed; 1006 where it simply ends."""
        try:
            kind, content = self.receive()
        except OSError:
            return 1006
        if kind != 8:
            return 1006
        return int.from_bytes(content[:2], "big") if content else 1005


def request():
    return {**ask("/request?a=%2F&b", headers=LIES), "django": ask("/django/", "POST", "body", headers=LIES)}


def pids():
    return sorted({ask("/")["pid"] for _ in range(60)})


def blocking():
    begun = time.monotonic()
    answers = at_once(8, lambda _: [ask("/block?seconds=0.05")["pid"] for _ in range(5)])
    return {"seconds": time.monotonic() - begun, "pids": sorted({pid for some in answers for pid in some})}


def busy():
    over = time.monotonic() + 25

    def visit(_):
        seen = []
        while time.monotonic() < over:
            seen.append(ask("/block?seconds=0.5")["pid"])
        return seen

    return sorted({pid for some in at_once(6, visit) for pid in some})


def hang():
    try:
        return bool(ask("/block?seconds=600"))
    except (OSError, http.client.HTTPException):
        return False


def websocket():
    connection = WebSocket()
    answers = []
    for text in ("one", "two"):
        connection.send(text)
        answers.append(json.loads(connection.receive()[1]))
    return answers


def stop():
    idle = Connection(HOST)
    idle.request("GET", "/", headers=NGINX)
    idle.getresponse().read()
    idle.close()
    connection = WebSocket()
    connection.send("x")
    connection.receive()

    def slow(number):
        method = ("GET", "POST")[number % 2]
        try:
            return ask("/?seconds=2", method, "form" if number % 2 else None)["body"]
        except (OSError, http.client.HTTPException) as error:
            return repr(error)

    def held(number):
        if number:
            return slow(number)
        time.sleep(1)
        print("held", flush=True)
        begun = time.monotonic()
        return [connection.closed(), time.monotonic() - begun]

    return sorted(at_once(5, held), key=str)


def large():
    connection = WebSocket()
    connection.send("x" * 120)
    return connection.receive()[0] == 1


def idle():
    connection = Connection(HOST)
    pids = []
    for pause in (0, 8):
        time.sleep(pause)
        connection.request("POST", "/", "form", NGINX)
        pids.append(json.loads(connection.getresponse().read())["pid"])
    return pids


def load():
    seen = {"requests": 0, "failures": [], "servers": [], "releases": []}
    over = threading.Event()

    def visit(number):
        while not over.is_set():
            connection = Connection(HOST)
            try:
                method = ("GET", "POST")[number % 2]
                body = f"form {time.time()}" if method == "POST" else None
                connection.request(method, f"/?seconds={number % 3 / 5}", body, {**NGINX, "Connection": "close"})
                response = connection.getresponse()
                answer = json.loads(response.read())
                if (response.status, answer["body"]) != (200, body or ""):
                    raise OSError(f"status {response.status}")
                for key, value in (("servers", response.headers.get("server")), ("releases", answer["release"])):
                    if value not in seen[key]:
                        seen[key].append(value)
            except (OSError, ValueError, http.client.HTTPException) as error:
                seen["failures"].append(f"{time.time()} {number}: {error!r}")
            finally:
                connection.close()
            seen["requests"] += 1
            time.sleep(0.02)

    def hold():
        connection = WebSocket()
        seen["closed"] = connection.closed(), time.time()

    threading.Thread(target=hold, daemon=True).start()
    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(6)]
    for thread in visitors:
        thread.start()
    print("started", flush=True)
    sys.stdin.read()
    over.set()
    for thread in visitors:
        thread.join()
    return seen


QUESTIONS = (request, pids, blocking, busy, hang, websocket, large, idle, stop, load)
print(json.dumps({each.__name__: each for each in QUESTIONS}[question]()))
