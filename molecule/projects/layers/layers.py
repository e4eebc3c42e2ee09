"""Says which packages there are."""

import json
from importlib import metadata


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    packages = {name: metadata.version(name) for name in ("markdown", "idna")}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(packages).encode()})
