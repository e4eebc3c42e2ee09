"""The application as Uvicorn runs it, in a worker with a heartbeat; what a request is, nginx says."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from vivarium_heartbeat import Heartbeat, leave_word
from vivarium_running import is_asked, load, tell
from vivarium_scope import Message, Receive, Send, correct, unbuffered

path = os.environ["VIVARIUM_APPLICATION"]
inner = load(path)
heartbeat = Heartbeat(float(os.environ["VIVARIUM_HANG_TIMEOUT"]))
startup, shutdown = uvicorn.Server.startup, uvicorn.Server.shutdown


async def application(scope: Message, receive: Receive, send: Send) -> None:
    question = correct(scope) if scope["type"] != "lifespan" else None
    if question and scope["type"] == "http" and is_asked(question):
        await tell(path, send)
        return
    await inner(scope, receive, unbuffered(send) if scope["type"] == "http" else send)


async def start_and_beat(self: uvicorn.Server, *arguments: Any, **options: Any) -> None:
    await startup(self, *arguments, **options)
    heartbeat.start()


async def shut_down_and_say_so(self: uvicorn.Server, *arguments: Any, **options: Any) -> None:
    await shutdown(self, *arguments, **options)
    leave_word()


# A worker imports this just before: its start ends when it listens.
uvicorn.Server.startup = start_and_beat
uvicorn.Server.shutdown = shut_down_and_say_so
