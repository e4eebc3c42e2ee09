"""The application's ASGI callable inside the middleware that the inventory names (`asgi_middleware`); the first is the outermost.

Each is a dotted path to a class or function that takes an ASGI callable and returns one.
"""

import os

from vivarium_running import load

application = load(os.environ["VIVARIUM_ASGI_APPLICATION"])
for path in reversed(os.environ["VIVARIUM_ASGI_MIDDLEWARE"].split(",")):
    # A middleware is named by a dotted path.
    application = load(":".join(path.rsplit(".", 1)))(application)
