"""The application tide, with what the tests of servers ask beside: blocking requests, an echo, lifespan, Django at /django/."""

import json
import os
import time

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path
from tide import PAGES, answer
from tide import app as tide


def seen_by_django(request):
    return JsonResponse({
        "secure": request.is_secure(), "address": request.META.get("REMOTE_ADDR"), "host": request.get_host(),
        "url": request.build_absolute_uri(), "body": request.body.decode(),
    })  # fmt: skip


urlpatterns = [path("django/", seen_by_django)]
settings.configure(SECRET_KEY="nothing is signed here", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
django_application = get_asgi_application()
started = []


async def block(scope, receive, send, query):
    """Keeps its process busy, as a view does that was not written for ASGI."""
    time.sleep(float(query["seconds"]))
    await answer(send, {"pid": os.getpid()})


async def request(scope, receive, send, query):
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    await answer(send, {
        "scheme": scope["scheme"], "client": scope["client"], "root_path": scope.get("root_path", ""), "headers": headers,
        "started": started, "pid": os.getpid(),
    })  # fmt: skip


PAGES |= {"/block": block, "/request": request}


async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        about = {"text": message.get("text"), "scheme": scope["scheme"], "client": scope["client"][0]}
        await send({"type": "websocket.send", "text": json.dumps(about)})


async def without_lifespan(scope, receive, send):
    """As Django: it raises when it is asked for anything but a request."""
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
    elif scope["type"] == "lifespan" or scope["path"].startswith("/django/"):
        await django_application(scope, receive, send)
    else:
        await tide(scope, receive, send)


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await without_lifespan(scope, receive, send)
        return
    while True:
        message = await receive()
        started.append(f"{message['type']} {os.getpid()}")
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            print("the shore says goodbye", flush=True)
            return
