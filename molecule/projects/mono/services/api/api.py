"""A member of a workspace: its packages are locked at the top, and one of them lies beside it."""

import json
from importlib import metadata
from pathlib import Path

import greeting

PACKAGES = {package.name for package in metadata.distributions()}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    told = {
        "greeting": greeting.WORDS,
        "here": str(Path.cwd()),
        "packages": sorted({"greeting", "unwanted"} & PACKAGES),
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
