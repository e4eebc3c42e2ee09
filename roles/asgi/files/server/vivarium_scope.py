"""What a request is to an application, whichever server took it: who asks, how and for what is what nginx says."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

# What ASGI has servers and applications say to each other.
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Where the application lies below its domain, such as /api. The path of a request includes it, as ASGI has it. No server is
# told by an option: Uvicorn would put it before a path that has it already, the others would not, and Granian calls it otherwise.
ROOT_PATH = os.environ.get("VIVARIUM_ROOT_PATH", "")
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def correct(scope: Message) -> bytes | None:
    """Name the visitor, the scheme, the host and port that were asked for, and what of the path is not the application's.

    nginx overwrites these headers, and nobody else reaches the socket. By itself a server on a unix socket knows no port, and
    Django's get_port() is the text None. Returns the header that asks what the application runs with (vivarium_running), if any.
    """
    asked = question = None
    if ROOT_PATH:
        scope["root_path"] = ROOT_PATH
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            scope["client"] = (value.decode("latin-1").rsplit(",", 1)[-1].strip(), 0)
        elif name == b"x-forwarded-proto" and value in (b"http", b"https"):
            scheme = value.decode()
            scope["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme
        elif name == b"host":
            asked = value.decode("latin-1")
        elif name == b"x-vivarium-ask":
            question = value
    if asked:
        host, _colon, port = asked.rpartition(":")
        default = PORTS.get(scope["scheme"], 80)
        # The digits of an IPv6 address stand between brackets.
        scope["server"] = (host, int(port)) if host and port.isdecimal() and len(port) < 6 else (asked, default)
    return question


def unbuffered(send: Send) -> Send:
    """Events reach the visitor when they happen: nginx would collect them, and does not where this header says so."""

    async def hand_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            # An application may give what can be gone through once.
            headers = list(message.get("headers") or ())
            names = {bytes(name).lower(): bytes(value) for name, value in headers}
            if names.get(b"content-type", b"").startswith(b"text/event-stream") and b"x-accel-buffering" not in names:
                headers.append((b"x-accel-buffering", b"no"))
            message = {**message, "headers": headers}
        await send(message)

    return hand_on
