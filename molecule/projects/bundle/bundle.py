"""Shows what the build has made, and which packages there are."""

import json
from importlib import metadata
from pathlib import Path

MADE = json.loads((Path(__file__).parent / "made.json").read_text())


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    seen = {"made": MADE, "packages": {name: version(name) for name in ("markdown", "idna", "iniconfig")}}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
