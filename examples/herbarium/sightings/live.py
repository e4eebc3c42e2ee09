"""The live feed: new sheets over a WebSocket, in every worker process, in order, each exactly once.

The database is the truth. PostgreSQL's NOTIFY only wakes a process up; then it reads what is new by number. A lost
notification costs a few seconds, never a sheet. On SQLite the process looks every second instead. A browser that was
cut off (say by a release going live) comes back with `?after=<last number>` and gets what it missed.

Messages are JSON objects with a `type`:
  to the browser   welcome   {release, member, last}      once, right after the connection is made
                   sighting  {number, plant, …}           the rest as in /sightings.json
                   echo      {id, last, release}          the answer to
  from the browser echo      {id}                         is the line alive, and who answers?
"""

import asyncio
import contextlib
import json
import logging
from urllib.parse import parse_qs, urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

from herbarium.reports import one_line

from .models import CHANNEL, Register, Sighting

logger = logging.getLogger(__name__)

PATH = "/ws/live/"
BACKLOG = 50  # sheets a returning browser is sent; older ones are on the home page
WAITING = 100  # messages kept for one slow browser before it is let go
MESSAGE_MAX = 4096  # characters
LISTEN_TIMEOUT = 10  # seconds: the net under a lost notification
POLL_INTERVAL = 1

UNAVAILABLE, TOO_LARGE = 1013, 1009


def database(function):
    """Run a blocking function in a thread and return its connection to the pool. A socket may live for days, so it
    must not hold one, and there is no end of a request to return it."""

    def call(*args):
        try:
            return function(*args)
        finally:
            connections.close_all()

    return sync_to_async(call, thread_sensitive=False)


@database
def last_number():
    return Register.objects.filter(pk=1).values_list("last_number", flat=True).first() or 0


@database
def sheets_after(number, limit=None):
    """(number, message) of what came after, oldest first; with a limit, the newest of them."""
    newest = Sighting.objects.published().filter(number__gt=number)[:limit]
    return [
        (sighting.number, json.dumps({"type": "sighting", **sighting.as_message()})) for sighting in reversed(newest)
    ]


# One feed per process


class Feed:
    """Reads each new sheet once and hands it to all sockets of this process. Runs while there are any."""

    def __init__(self):
        self.queues = set()
        self.task = None

    async def join(self, queue):
        self.queues.add(queue)
        if self.task is None:
            self.ready = asyncio.Event()
            self.task = asyncio.create_task(self.run(self.ready), name="live feed")
        # From here on nothing new is missed: later sheets go to the queue, earlier ones can be read.
        await self.ready.wait()

    def leave(self, queue):
        self.queues.discard(queue)
        if not self.queues and self.task:
            self.task.cancel()
            self.task = None

    async def run(self, ready):
        cursor, waiting = None, False
        while True:
            try:
                async with wake_ups() as wait:
                    if waiting:
                        logger.warning("Live feed: the database is back.")
                        waiting = False
                    if cursor is None:
                        cursor = await last_number()
                        ready.set()
                    while True:
                        for number, message in await sheets_after(cursor):
                            cursor = number
                            for queue in list(self.queues):
                                self.hand(queue, number, message)
                        await wait()
            except Exception as error:
                # The database is restarting, most likely. Go on from the same number when it is back.
                if not waiting:
                    logger.warning("Live feed: waiting for the database: %s", one_line(error))
                waiting = True
                await asyncio.sleep(2)

    def hand(self, queue, number, message):
        try:
            queue.put_nowait((number, message))
        except asyncio.QueueFull:
            # It will come back and ask for what it missed.
            self.queues.discard(queue)
            queue.overflow.set()


@contextlib.asynccontextmanager
async def wake_ups():
    """Gives a coroutine function that returns when there may be something new."""
    settings_of = connections[DEFAULT_DB_ALIAS]
    if settings_of.vendor != "postgresql":
        yield lambda: asyncio.sleep(POLL_INTERVAL)
        return

    import psycopg

    options = settings_of.get_connection_params()
    for name in ["cursor_factory", "context"]:
        options.pop(name, None)
    async with await psycopg.AsyncConnection.connect(**options, autocommit=True) as connection:
        await connection.execute(f"LISTEN {CHANNEL}")

        async def wait():
            async for _ in connection.notifies(timeout=LISTEN_TIMEOUT, stop_after=1):
                pass

        yield wait


feed = Feed()


# One socket


async def websocket(scope, receive, send):
    await receive()  # websocket.connect
    try:
        visitor = await admit(scope)
    except (RefusedError, Error) as reason:
        logger.info("Live feed: refused: %s", one_line(reason))
        await send({"type": "websocket.close"})  # before it is accepted, this is a 403
        return
    await send({"type": "websocket.accept"})
    # The server may drop the line at any moment; its senders then raise.
    with contextlib.suppress(OSError):
        code = await serve(visitor, receive, send)
        if code:
            await send({"type": "websocket.close", "code": code})


class RefusedError(Exception):
    pass


async def admit(scope):
    """Check host, origin and session as Django does for a request. Returns what we know of the visitor."""
    if scope["path"] != PATH:
        raise RefusedError("no such path")
    request = ASGIRequest({**scope, "type": "http", "method": "GET"}, body_file=None)
    try:
        host = request.get_host()
    except DisallowedHost:
        raise RefusedError("unknown host") from None
    # Browsers send cookies with a WebSocket to any site, and no CSRF token: the origin is what protects members.
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != host and origin not in settings.CSRF_TRUSTED_ORIGINS:
        raise RefusedError("foreign origin")
    after = parse_qs(scope.get("query_string", b"").decode("ascii", "replace")).get("after", [""])[0]
    return {
        "member": await member_of(request.COOKIES.get(settings.SESSION_COOKIE_NAME)),
        "after": int(after) if after.isdecimal() and len(after) < 19 else None,
    }


@database
def member_of(session_key):
    """The signed-in member's name, or None.

    Not `auth.get_user`: for a session signed with an old key of SECRET_KEY_FALLBACKS that gives the session a new id,
    which a socket cannot send to the browser, and the member would be logged out.
    """
    if not session_key:
        return None
    session = import_string(settings.SESSION_ENGINE + ".SessionStore")(session_key)
    backend = session.get(auth.BACKEND_SESSION_KEY)
    if backend not in settings.AUTHENTICATION_BACKENDS:
        return None
    user = auth.load_backend(backend).get_user(session[auth.SESSION_KEY])
    if user is None:
        return None
    proof = session.get(auth.HASH_SESSION_KEY, "")
    valid = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return user.get_username() if any(constant_time_compare(proof, known) for known in valid) else None


async def serve(visitor, receive, send):
    """Talk until the browser leaves. Returns a close code if it is we who end it."""
    queue = asyncio.Queue(WAITING)
    queue.overflow = asyncio.Event()
    state = {"last": 0}
    tasks = []
    try:
        async with asyncio.timeout(10):
            await feed.join(queue)
            state["last"] = await last_number() if visitor["after"] is None else visitor["after"]
            backlog = [] if visitor["after"] is None else await sheets_after(visitor["after"], BACKLOG)
        welcome = {"type": "welcome", "release": settings.RELEASE, "member": visitor["member"], "last": state["last"]}
        await send({"type": "websocket.send", "text": json.dumps(welcome)})
        tasks = [
            writer := asyncio.create_task(write(queue, backlog, state, send)),
            reader := asyncio.create_task(read(queue, state, receive)),
            asyncio.create_task(queue.overflow.wait()),
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if writer in done:
            writer.result()  # raises what went wrong
        return reader.result() if reader in done else UNAVAILABLE
    except (TimeoutError, Error):
        return UNAVAILABLE
    finally:
        feed.leave(queue)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def write(queue, backlog, state, send):
    for number, message in backlog:
        state["last"] = max(state["last"], number)
        await send({"type": "websocket.send", "text": message})
    while True:
        number, message = await queue.get()
        if number is not None:
            if number <= state["last"]:
                continue
            state["last"] = number
        await send({"type": "websocket.send", "text": message})


async def read(queue, state, receive):
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return None
        text = event.get("text") or ""
        if len(text) > MESSAGE_MAX:
            return TOO_LARGE
        try:
            message = json.loads(text)
            wants_echo = message["type"] == "echo"
        except (ValueError, TypeError, KeyError):
            continue
        if wants_echo:
            answer = {"type": "echo", "id": message.get("id"), "last": state["last"], "release": settings.RELEASE}
            await queue.put((None, json.dumps(answer)))
