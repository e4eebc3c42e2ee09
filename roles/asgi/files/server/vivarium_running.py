"""What an application runs with, as its own process has it: the gate looks before a release starts, and root asks its instance.

A request with the release's token is answered here and never reaches the application. Nobody but root, the application and its
builds can read the token, and nginx takes the header from visitors. No answer holds a secret: of one there is a digest, with the
token for its key.
"""

from __future__ import annotations

import hmac
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivarium_scope import Send

# Written anew for each release (plugins/module_utils/_deploy/stage.py).
TOKEN = Path(__file__).with_name("vivarium_token")
# What an address may say after its question mark.
NAMED = re.compile(r"\b(pass|password|passwd|pwd|token|secret|key)=[^&]*", re.IGNORECASE)


def load(path: str) -> Any:
    """The callable that package.module:name means."""
    # Servers differ in whether the working directory, which holds the code, is among the places of modules.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, names = path.partition(":")
    target = importlib.import_module(module)
    for name in names.split("."):
        target = getattr(target, name)
    return target


def token() -> bytes:
    """Empty where there is none: then nothing is answered."""
    try:
        return TOKEN.read_bytes().strip()
    except OSError:
        return b""


def digest(value: object) -> str:
    return hmac.new(token(), str(value).encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def running(application: str, secrets: Sequence[str]) -> dict[str, Any]:
    """What the application at this dotted path runs with, whose environment has these secrets."""
    configured = "django.conf" in sys.modules and sys.modules["django.conf"].settings.configured
    return of_django(sys.modules["django.conf"].settings) if configured else of_others(application, secrets)


def of_django(settings: Any) -> dict[str, Any]:
    return {
        # A project may bring values of its own and name no module.
        "settings module": str(getattr(settings, "SETTINGS_MODULE", "settings.configure()")),
        "DEBUG": bool(settings.DEBUG),
        "ALLOWED_HOSTS": sorted(map(str, settings.ALLOWED_HOSTS)),
        "SECRET_KEY": digest(settings.SECRET_KEY),
        "DATABASES": {alias: place_of_database(database) for alias, database in settings.DATABASES.items()},
        "CACHES": {
            alias: [str(cache.get("BACKEND")), *places(cache.get("LOCATION"))]
            for alias, cache in settings.CACHES.items()
        },
        "CHANNEL_LAYERS": {
            alias: [str(layer.get("BACKEND")), *places((layer.get("CONFIG") or {}).get("hosts"))]
            for alias, layer in (getattr(settings, "CHANNEL_LAYERS", None) or {}).items()
        },
    }


def of_others(application: str, secrets: Sequence[str]) -> dict[str, Any]:
    # What Starlette, FastAPI, Litestar, Quart and others call `debug`. Middleware of the inventory stands around the callable.
    debug = getattr(load(os.environ.get("VIVARIUM_ASGI_APPLICATION") or application), "debug", None)
    return {
        "debug": debug if isinstance(debug, bool) else None,
        "secrets": {name: digest(os.environ.get(name, "")) for name in secrets},
    }


def place_of_database(database: dict[str, Any]) -> list[str]:
    return [str(database.get(key) or "") for key in ("ENGINE", "HOST", "PORT", "NAME", "USER")]


def places(said: Any) -> list[str]:
    """Where a service is, in words without a password: a URL, a pair, a dictionary, or several of them."""
    if isinstance(said, dict):
        said = said.get("address") or [said.get("host"), said.get("port")]
    if isinstance(said, str):
        scheme, separator, rest = said.rpartition("://")
        return [scheme + separator + NAMED.sub(r"\1=", rest.rsplit("@", 1)[-1])]
    if isinstance(said, (list, tuple)):
        if len(said) == 2 and isinstance(said[1], int):
            return [f"{said[0]}:{said[1]}"]
        return [place for each in said for place in places(each)]
    return [] if said is None else [type(said).__name__]


def is_asked(value: bytes) -> bool:
    """Whether the header of a request holds the token."""
    return bool(value) and hmac.compare_digest(bytes(value), token())


async def tell(application: str, send: Send) -> None:
    """Answer root's question."""
    secrets = json.loads(TOKEN.with_name("vivarium_gate.json").read_text())["secrets"]
    body = json.dumps({"pid": os.getpid(), "running": running(application, secrets)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
