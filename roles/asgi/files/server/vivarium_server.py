"""The application as ASGI servers behind nginx should see it: what the server itself leaves undone is done here.

Every server names scheme and address of the visitor and what was asked for, speaks the lifespan protocol as the application's
description says, and closes WebSockets with a code that tells browsers to come back, as soon as the instance is asked to end.

It stands around the callable, since that is the one place that all servers have: none of them does the three by its own options
(docs/servers.md says which lacks what). It costs 1.3 microseconds for a request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Awaitable
from typing import Any

from vivarium_heartbeat import Heartbeat, leave_word
from vivarium_running import is_asked, load, tell
from vivarium_scope import App, Message, Receive, Send, correct, unbuffered

# How often to look whether the instance is asked to end, while a WebSocket is open (seconds).
LOOK = 0.3
log = logging.getLogger("vivarium_server")


class WebSocket:
    """An open WebSocket, closed either by the application or by the end of the instance."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._pending: Awaitable[Message] | None = None
        self._ended = asyncio.Event()
        self.accepted = self.closed = False
        self.code: int | None = None  # with which the instance closed it

    async def receive(self) -> Message:
        self._pending = self._receive()
        try:
            return await self._pending
        except asyncio.CancelledError:
            if self.code is None:
                raise
            await self._ended.wait()
            return {"type": "websocket.disconnect", "code": self.code}

    async def send(self, message: Message) -> None:
        if self.closed:
            return  # the application does not know yet
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = True
        elif kind == "websocket.close":
            self.closed = True
        await self._send(message)

    async def close(self, code: int) -> None:
        if not self.accepted or self.closed:
            return
        self.code = code
        # Granian sends nothing while it waits to receive, which it does in a future; others do in a coroutine, and may.
        if asyncio.isfuture(self._pending):
            self._pending.cancel()
        try:
            await self.send({"type": "websocket.close", "code": code, "reason": "service restart"})
        finally:
            self._ended.set()


class Wrapper:
    """The ASGI callable that servers run."""

    def __init__(self, inner: App, serving: str, lifespan: str, close_code: int, hang_timeout: float) -> None:
        self.inner = inner
        self.serving = serving
        self.mode = lifespan
        self.close_code = close_code
        self.websockets: set[WebSocket] = set()
        self.watcher: asyncio.Future[None] | None = None
        self.own_lifespan: OwnLifespan | None = None
        self.heartbeat = Heartbeat(hang_timeout)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        if not self.heartbeat.started:
            self.heartbeat.start()
        question = correct(scope)
        if question and kind == "http" and is_asked(question):
            await tell(os.environ["VIVARIUM_APPLICATION"], send)
            return
        if self.own_lifespan:
            await self.own_lifespan.lend(scope)
        if kind == "websocket":
            await self.websocket(scope, receive, send)
        else:
            await self.inner(scope, receive, unbuffered(send))

    async def websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        websocket = WebSocket(receive, send)
        self.websockets.add(websocket)
        if self.watcher is None or self.watcher.done():
            self.watcher = asyncio.ensure_future(self.watch())
        try:
            await self.inner(scope, websocket.receive, websocket.send)
        finally:
            self.websockets.discard(websocket)

    async def watch(self) -> None:
        while self.websockets:
            await asyncio.sleep(LOOK)
            if not os.path.exists(self.serving):
                for websocket in list(self.websockets):
                    try:
                        await websocket.close(self.close_code)
                    except Exception as error:
                        log.warning("could not close a WebSocket: %r", error)

    async def lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        """off: the application is not asked. on: it must start. auto: where it does not speak the protocol, that is no error.

        The server hears the whole of it in any case: by that a worker knows that it is told to end.
        """
        if self.mode == "off":
            await self.answer_for_it(receive, send)
            return
        started = asked = False

        async def ask() -> Message:
            nonlocal asked
            message = await receive()
            asked = True
            return message

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.heartbeat.start()
            elif message["type"].startswith("lifespan.shutdown"):
                leave_word()

        try:
            await self.inner(scope, ask, note)
        except Exception as error:
            if started:
                raise
            if self.mode == "on":
                await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
                return
            log.info("The application does not speak the lifespan protocol: %r", error)
        if started:
            return
        if self.mode == "on":
            await send({"type": "lifespan.startup.failed", "message": "the application does not speak it"})
            return
        await self.answer_for_it(receive, send, asked)

    async def answer_for_it(self, receive: Receive, send: Send, asked: bool = False) -> None:
        """What an application with nothing to do at its start and end would say."""
        message = {"type": "lifespan.startup"} if asked else await receive()
        while True:
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                leave_word()
                return
            self.heartbeat.start()
            message = await receive()


class OwnLifespan:
    """The lifespan protocol for Daphne, which does not speak it: around the life of its reactor."""

    def __init__(self, wrapper: Wrapper) -> None:
        from twisted.internet import defer, reactor

        self.wrapper = wrapper
        self.state: dict[str, Any] = {}
        self.supported = True
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self.task: asyncio.Future[None]  # from the start on
        self.started: asyncio.Future[None] | None = None

        def begin() -> None:
            self.started = asyncio.ensure_future(self.startup())

        def end() -> Any:
            return defer.Deferred.fromFuture(asyncio.ensure_future(self.shutdown()))

        reactor.callWhenRunning(begin)
        reactor.addSystemEventTrigger("before", "shutdown", end)

    async def lend(self, scope: Message) -> None:
        """No request is served before the application has started."""
        if self.started:
            await asyncio.shield(self.started)
        scope["state"] = self.state.copy()

    async def startup(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self.task = asyncio.ensure_future(self.wrapper.lifespan(scope, self.events.get, self.answers.put))
        answer = await self.ask("startup")
        if answer is None:
            self.supported = False
        elif answer["type"] == "lifespan.startup.failed":
            log.error("Application startup failed. %s", answer.get("message", ""))
            os._exit(3)

    async def shutdown(self) -> None:
        if self.started and self.started.done() and self.supported:
            await self.ask("shutdown")

    async def ask(self, event: str) -> Message | None:
        """Tell the application, and wait for its answer; None where it ends without one."""
        await self.events.put({"type": f"lifespan.{event}"})
        answer = asyncio.ensure_future(self.answers.get())
        both: list[asyncio.Future[Any]] = [answer, self.task]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() or not self.answers.empty():
            return await answer
        answer.cancel()
        if self.task.exception():
            log.info("The application does not speak the lifespan protocol: %r", self.task.exception())
        return None


application = Wrapper(
    load(os.environ["VIVARIUM_APPLICATION"]),
    os.environ["VIVARIUM_SERVING"],
    os.environ["VIVARIUM_LIFESPAN"],
    int(os.environ["VIVARIUM_CLOSE_CODE"]),
    float(os.environ["VIVARIUM_HANG_TIMEOUT"]),
)
if os.environ["VIVARIUM_RUN_LIFESPAN"] and application.mode != "off":
    application.own_lifespan = OwnLifespan(application)
