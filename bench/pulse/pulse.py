"""The application that the bench puts live again and again: as little of its own as possible, so that the server is what is seen.

Every answer names the release, most the build. A form's text is written down and listed, /slow/ takes 0.3 s, and the WebSocket
sends every message back.
"""

import asyncio
import json
import os
import pathlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

# What ASGI hands an application.
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RELEASE = os.environ["RELEASE"]
BUILD = pathlib.Path(__file__).with_name("build").read_text().strip()
# In the application's state directory: every worker and every release writes to the same file.
BEATS = pathlib.Path(os.environ["HOME"], "beats")


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await PAGES.get(scope["path"], page)(scope, receive, send)


async def page(scope: Message, receive: Receive, send: Send) -> None:
    await answer(send, {"release": RELEASE, "build": BUILD, "path": scope["path"]})


async def view(scope: Message, receive: Receive, send: Send) -> None:
    """About as much work as a small view of Django is."""
    words = sorted(str(number * 7919 % 10007) for number in range(2500))
    await answer(send, {"release": RELEASE, "words": words[:20]})


async def slow(scope: Message, receive: Receive, send: Send) -> None:
    await body_of(receive)
    await asyncio.sleep(0.3)
    await page(scope, receive, send)


async def beats(scope: Message, receive: Receive, send: Send) -> None:
    if scope["method"] != "POST":
        await answer(send, {"release": RELEASE, "beats": BEATS.read_text().splitlines() if BEATS.exists() else []})
        return
    text = parse_qs((await body_of(receive)).decode())["plant"][0]
    # Appended in one write: lines of several processes do not mix.
    descriptor = os.open(BEATS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)
    await answer(send, {"release": RELEASE}, 302, [(b"location", b"/beats/")])


async def echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps({"type": "welcome", "release": RELEASE, "last": 0})})
    while (message := await receive())["type"] == "websocket.receive":
        reply = {**json.loads(message["text"]), "release": RELEASE}
        await send({"type": "websocket.send", "text": json.dumps(reply)})


async def body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def answer(
    send: Send, content: dict[str, Any], status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


PAGES = {"/view/": view, "/slow/": slow, "/beats/": beats}
