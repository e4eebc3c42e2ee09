"""A Django application, and beside it what an attacker has who can run code in it: POST /raid runs a Python program.

POST /hang runs one in the event loop, which is silent until it ends.
"""

import asyncio
import subprocess
import sys

from django.core.asgi import get_asgi_application

django = get_asgi_application()


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )  # fmt: skip
    return done.stdout


async def application(scope, receive, send):
    if scope["type"] != "http" or scope["path"] not in ("/raid", "/hang"):
        await django(scope, receive, send)
        return
    code, more = b"", True
    while more:
        message = await receive()
        code, more = code + message["body"], message.get("more_body", False)
    if scope["path"] == "/hang":
        exec(code)
    answer = await asyncio.to_thread(run, code)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer})
