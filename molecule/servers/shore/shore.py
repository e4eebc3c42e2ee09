"""The application tide, with what the tests of servers ask beside: blocking requests, an echo, lifespan, Django at /django/."""

import json
import os
import time

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path, reverse
from tide import PAGES, answer
from tide import app as tide


def seen_by_django(request):
    return JsonResponse({
        "secure": request.is_secure(), "address": request.META.get("REMOTE_ADDR"), "host": request.get_host(),
        "url": request.build_absolute_uri(), "body": request.body.decode(), "port": request.get_port(),
        "script_name": request.META["SCRIPT_NAME"], "link": reverse("seen"),
    })  # fmt: skip


urlpatterns = [path("django/", seen_by_django, name="seen")]
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
        "server": scope["server"], "http_version": scope["http_version"], "method": scope["method"], "type": scope["type"],
        "path": scope["path"], "query_string": scope["query_string"].decode(), "raw_path": scope["raw_path"].decode(),
        "asgi": scope["asgi"]["version"], "started": started, "pid": os.getpid(),
    })  # fmt: skip


async def events(scope, receive, send, query):
    """One event; the next would come much later."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: the first\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


PAGES |= {"/block": block, "/request": request, "/events": events}


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
    elif scope["type"] == "lifespan" or "/django/" in scope["path"]:
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
