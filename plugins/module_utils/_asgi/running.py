# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a running instance says of itself, and how that differs from what the gate has seen (files/server/vivarium_running.py)."""

from __future__ import annotations

import http.client
import json
import secrets
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.probe import UnixConnection, answer_of
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    Release,
    printable,
    read_regular,
    wait_until,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKEN = "lib/vivarium_token"  # noqa: S105  (where it lies)
# How much is told of a difference (letters).
SHOWN = 200


def new_token() -> str:
    return secrets.token_hex(32)


def ask(release: Release, host: str, patience: float) -> dict[str, Any] | None:
    """What the instance of a release runs with; None where the release is of before there was the question.

    Raises OSError or HTTPException where it gives no answer in so many seconds.
    """
    try:
        token = read_regular(release.path / TOKEN).decode()
    except FileNotFoundError:
        return None
    found: dict[str, Any] = {}
    deadline = time.monotonic() + patience

    def complaint() -> Exception | None:
        status = "unknown"
        try:
            connection = UnixConnection(release.socket, max(1, min(10, deadline - time.monotonic())))
            status, _headers, body = answer_of(connection, "/", host, {"X-Vivarium-Ask": token})
            running = json.loads(body)["running"]
            # Pairs would do for a dictionary too, with any keys.
            if not isinstance(running, dict):
                raise TypeError
            found.update(running)
        except (OSError, http.client.HTTPException) as error:
            return error
        except (ValueError, TypeError, KeyError, RecursionError):
            return http.client.HTTPException(f"status {status} instead of what it runs with")
        return None

    error = wait_until(complaint, patience)
    if error:
        raise error
    return found


def facts_of(release: Release) -> dict[str, Any]:
    """What the gate noted of a release; empty where it is of before there was a report. The project's code had a hand in it."""
    try:
        facts = json.loads(read_regular(release.path / "gate.json"))["facts"]
        return facts if isinstance(facts, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def differences(checked: dict[str, Any], found: dict[str, Any]) -> dict[str, str]:
    """What a running instance has otherwise than the gate saw it: a sentence for each, by its name. No secret is shown."""
    said = {}
    for name in sorted({*checked, *found}):
        one, other = checked.get(name), found.get(name)
        if one == other:
            continue
        if name == "SECRET_KEY":
            said[name] = "SECRET_KEY is another"
        elif name == "secrets" and isinstance(one, dict) and isinstance(other, dict):
            changed = [key for key in sorted(one) if one[key] != other.get(key)]
            said[name] = (
                f"{', '.join(changed)} of the environment {'is' if len(changed) == 1 else 'are'} not as it was given"
            )
        else:
            said[name] = f"{name} is {shown(other)}, and was {shown(one)} when it was checked"
    return said


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return printable(text)[:SHOWN]
