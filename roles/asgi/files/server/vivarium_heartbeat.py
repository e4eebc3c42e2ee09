"""The heartbeat of a worker: one whose event loop is silent for too long ends, and its parent or systemd starts another.

A worker that hangs (time.sleep() in an async view, a regular expression without an end) is alive to systemd and dead to
visitors. The clock is faulthandler's, a thread that needs no interpreter lock: it writes where every thread is to the journal and
ends the process. The event loop puts that off, so a worker that is busy with one request after the other is not taken for a dead
one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import time

# How long a worker's last word stays for others to read (seconds).
REMEMBERED = 60


def leave_word() -> None:
    """This worker ends because its server has it end: after so many requests, say. One that fails has no time to say so.

    Who watches a new release takes every other end of a worker for a failure.
    """
    place = os.environ.get("RUNTIME_DIRECTORY")
    if not place:
        return
    try:
        for entry in os.scandir(place):
            if entry.name.startswith("ended-") and entry.stat().st_mtime < time.time() - REMEMBERED:
                os.unlink(entry.path)
    except OSError:
        pass  # another worker was faster
    try:
        open(os.path.join(place, f"ended-{os.getpid()}"), "w").close()
    except OSError as error:
        print(f"no word could be left: {error}", file=sys.stderr, flush=True)


class Heartbeat:
    """Started in the running event loop once the worker serves: an import, or the application's own start, may take its time."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        # How often the loop shows that it lives (seconds).
        self.pause = min(limit / 4, 5)
        self.started = not limit  # 0: never

    def start(self) -> None:
        if self.started:
            return
        self.started = True
        # A child would wait at its end for a thread that a fork does not copy.
        os.register_at_fork(before=faulthandler.cancel_dump_traceback_later, after_in_parent=self.put_off)
        self.beat(asyncio.get_running_loop())

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self.put_off()
        loop.call_later(self.pause, self.beat, loop)

    def put_off(self) -> None:
        # The program may have given sys.stderr away.
        faulthandler.dump_traceback_later(self.limit + self.pause, exit=True, file=2)
