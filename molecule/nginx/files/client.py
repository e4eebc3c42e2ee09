"""What curl cannot do from the outside: hold a WebSocket, keep up a load, speak TLS wrongly. Prints JSON.

usage: client.py websocket ADDRESS PORT DOMAIN SECONDS     send a text, wait, send another; the replies
       client.py load ADDRESS PORT DOMAIN SECONDS          keep-alive GETs and POSTs from four threads; who answered, what failed
       client.py handshake ADDRESS PORT DOMAIN|- VERSION   TLS of one version; what was agreed or why not
       client.py misdirect ADDRESS PORT DOMAIN HOST        TLS for one name, HTTP for another; the bytes that came back
       client.py raw ADDRESS PORT DOMAIN BASE64            these bytes over TLS; the bytes that came back
"""

import base64
import collections
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time


def context():
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return trusting


def tls(address, port, domain):
    return context().wrap_socket(socket.create_connection((address, int(port)), timeout=10), server_hostname=domain)


def websocket(address, port, domain, seconds):
    connection = tls(address, port, domain)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {domain}\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    status = stream.readline().decode().strip()
    while stream.readline().strip():
        pass
    replies = []
    for text in (b"one", b"two"):
        mask = os.urandom(4)
        frame = bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
        connection.sendall(frame)
        _, length = stream.read(2)
        replies.append(stream.read(length).decode())
        time.sleep(float(seconds))
        seconds = 0
    return {"status": status, "replies": replies}


def load(address, port, domain, seconds):
    until = time.monotonic() + float(seconds)
    answers, failures = [], []

    class Connection(http.client.HTTPSConnection):
        def connect(self):
            self.sock = tls(address, port, domain)

    def work():
        connection = Connection(domain, timeout=10)
        number = 0
        while time.monotonic() < until:
            number += 1
            try:
                if number % 5:
                    connection.request("GET", "/load")
                else:
                    connection.request("POST", "/load", body=b"x" * 100)
                response = connection.getresponse()
                text = response.read()
                if response.status == 200:
                    answers.append((time.time(), json.loads(text)["upstream"]))
                else:
                    failures.append((time.time(), response.status))
            except (OSError, http.client.HTTPException) as error:
                failures.append((time.time(), repr(error)))
                connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = {}
    for moment, name in answers:
        last[name] = max(moment, last.get(name, 0))
    return {
        "answers": collections.Counter(name for _, name in answers),
        "last": last,
        "failures": failures[:20],
        "reasons": collections.Counter(str(reason) for _, reason in failures),
    }


def handshake(address, port, domain, version):
    chosen = context()
    chosen.set_ciphers("ALL:@SECLEVEL=0")
    chosen.minimum_version = chosen.maximum_version = ssl.TLSVersion[version]
    plain = socket.create_connection((address, int(port)), timeout=10)
    try:
        with chosen.wrap_socket(plain, server_hostname=None if domain == "-" else domain) as connection:
            return {"version": connection.version(), "cipher": connection.cipher()[0]}
    except (ssl.SSLError, ConnectionError) as error:
        return {"refused": getattr(error, "reason", None) or repr(error)}


def misdirect(address, port, domain, host):
    return send(address, port, domain, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


def raw(address, port, domain, text):
    return send(address, port, domain, base64.b64decode(text))


def send(address, port, domain, text):
    connection = tls(address, port, domain)
    connection.sendall(text)
    received = b""
    try:
        while part := connection.recv(4096):
            received += part
    except (ssl.SSLError, ConnectionError):
        pass
    return {"received": received.decode("latin-1")}


actions = {"websocket": websocket, "load": load, "handshake": handshake, "misdirect": misdirect, "raw": raw}
print(json.dumps(actions[sys.argv[1]](*sys.argv[2:])))
