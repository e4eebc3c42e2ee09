"""The ASGI application: Django for HTTP, one coroutine for the live feed's WebSockets.

Django does not know the lifespan protocol: run the server with `--lifespan off`.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "herbarium.settings")
http = get_asgi_application()

# Needs Django to be set up.
from sightings.live import websocket  # noqa: E402


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        await http(scope, receive, send)
