"""What nginx does, for the tests: asks an application through its live socket, as the user it is given. Runs on a test host.

usage: client.py SECONDS      ask all the time; one request in ten is a POST, and three connections are held
Ends soon after the WebSocket was closed, or after so many seconds. Prints what it saw as JSON; before that, "started" when
all connections are held.
"""

import base64
import http.client
import json
import os
import socket
import sys
import threading
import time

LIVE = "/srv/tide/live/socket"
HEAD = "Host: tide.example.test\r\nX-Forwarded-Proto: https\r\n"
seen = {"requests": 0, "failures": [], "first": {}, "slow": None, "stream": [], "socket": []}
until = time.time() + float(sys.argv[1])
held = threading.Barrier(4)


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(LIVE)


def ask(path, body=None):
    connection = Connection("tide.example.test")
    try:
        connection.request("POST" if body else "GET", path, body, {"Connection": "close"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise OSError(f"status {response.status}")
        return json.loads(text)
    finally:
        connection.close()


def load():
    number = 0
    while time.time() < until:
        number += 1
        body = f"form {number}" if number % 10 == 0 else None
        try:
            answer = ask("/", body)
            if body and answer["body"] != body:
                raise OSError("another answer")
            seen["first"].setdefault(answer["release"], time.time())
        except (OSError, http.client.HTTPException) as error:
            seen["failures"].append(f"{time.time()} {body}: {error!r}")
        seen["requests"] += 1
        time.sleep(0.01)


def slow():
    """A request that is under way when the other release goes live."""
    held.wait()
    seen["slow"] = []
    while time.time() < until:
        try:
            seen["slow"].append([time.time(), ask("/?seconds=2")["release"], time.time()])
        except (OSError, http.client.HTTPException) as error:
            seen["failures"].append(f"{time.time()} slow: {error!r}")


def hold(request, into):
    global until
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(LIVE)
    connection.sendall(f"GET {request}\r\n\r\n".encode())
    assert b" 200 " in connection.recv(4096) or into == "socket"
    held.wait()
    try:
        while time.time() < until:
            if into == "socket":
                connection.sendall(b"\x81\x81\x00\x00\x00\x00x")
                time.sleep(0.1)
            data = connection.recv(4096)
            if not data or data[0] == 0x88:
                break
            # What is sent is text: this byte is the head of a ping, and a server that gets no answer closes the connection.
            ping = data.find(b"\x89")
            if into == "socket" and ping >= 0:
                size = data[ping + 1]
                connection.sendall(bytes([0x8A, 0x80 | size, 0, 0, 0, 0]) + data[ping + 2 : ping + 2 + size])
            seen[into] = [time.time()]
    except OSError as error:
        seen[into].append(repr(error))
    if into == "socket":
        until = min(until, time.time() + 1)


key = base64.b64encode(os.urandom(16)).decode()
upgrade = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
threads = [
    threading.Thread(target=load),
    threading.Thread(target=slow),
    threading.Thread(target=hold, args=(f"/stream HTTP/1.1\r\n{HEAD}", "stream")),
    threading.Thread(target=hold, args=(f"/ HTTP/1.1\r\n{HEAD}{upgrade}", "socket")),
]
for thread in threads:
    thread.daemon = True
    thread.start()
held.wait()
print("started", flush=True)
for thread in threads:
    thread.join()
print(json.dumps(seen), flush=True)
