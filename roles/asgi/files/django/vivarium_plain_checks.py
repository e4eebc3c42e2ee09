"""Checks of the deployment of an application without Django: its code, its environment, and what it says of itself.

Those that Django's projects have too have the same ids; docs/checklist.md lists them all.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vivarium_code import is_inside, repeated, revealed
from vivarium_running import load, running

# How grave a message is, by the first letter of its id, in Django's numbers.
LEVELS = {"E": 40, "W": 30, "I": 20}
# An import that takes longer is left to the start of the instance, which has a limit of its own (seconds).
PATIENCE = 10


class Message:
    """With the attributes of Django's django.core.checks.CheckMessage."""

    obj = None

    def __init__(self, identifier: str, msg: str, hint: str) -> None:
        self.level, self.id, self.msg, self.hint = LEVELS[identifier[0]], f"vivarium.{identifier}", msg, hint

    def is_silenced(self) -> bool:
        return False


def look(context: dict[str, Any]) -> tuple[list[Message], dict[str, Any]]:
    """The messages of the checks, and what the report says of the application."""
    found = [*secrets(context["secrets"]), *sqlite(os.environ.get("DATABASE_URL", ""), context["hosts"]), *reports()]
    for identifier, text, hint in repeated(context["commands"], context["hosts"]):
        found.append(Message(identifier, text, hint))
    # Last: what the application does on import, such as to go to another directory, concerns no other check.
    found_running = running_of(context)
    debug = (found_running or {}).get("debug")
    if debug:
        found.append(Message(
            "E027", "The application is in debug mode: an error shows its code to visitors.",
            "Make it without debug=True, or from the environment.",
        ))  # fmt: skip
    return found, {
        "python": platform.python_version(), "debug": debug, "secrets": len(context["secrets"]), "running": found_running,
    }  # fmt: skip


def reports() -> Iterator[Message]:
    if os.environ.get("SENTRY_DSN") and not importlib.util.find_spec("sentry_sdk"):
        yield Message("W018", "SENTRY_DSN is set, but sentry-sdk is not installed.", "Put it among the requirements.")


def secrets(names: list[str]) -> Iterator[Message]:
    """Each secret of the environment, and the password in one that is a URL."""
    kept = {}
    for name in names:
        value = kept[name] = os.environ.get(name, "")
        if "://" in value:
            kept[f"the password in {name}"] = unquote(urlsplit(value).password or "")
    for identifier, text, hint in revealed(kept):
        yield Message(identifier, text, hint)


def sqlite(url: str, hosts: int) -> Iterator[Message]:
    scheme, _, rest = url.partition("://")
    if not scheme.startswith("sqlite"):
        return
    if hosts > 1:
        yield Message(
            "E011",
            f"DATABASE_URL is a file, and each of {hosts} hosts has its own.",
            "Use PostgreSQL: `database: true`.",
        )
    # sqlite:///relative, sqlite:////absolute
    if rest.startswith("/") and rest[1:] and is_inside(rest[1:], Path.cwd()):
        yield Message(
            "E012", "DATABASE_URL is a file inside the release, where nothing can be written.",
            "Put it into the application's home.",
        )  # fmt: skip


def running_of(context: dict[str, Any]) -> dict[str, Any] | None:
    """What the callable runs with; None where it cannot be had: the start of the instance, which comes next, tells why."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(PATIENCE)
    try:
        load(context["callable"])
        return running(context["callable"], context["secrets"])
    except BaseException:
        return None
    finally:
        signal.alarm(0)
