# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which sites of a host are closed for maintenance, as nginx sees it at each request (roles/nginx/templates/site.conf.j2).

A link by the site's name is there while it is closed. It leads to a directory whose name ends with what nginx cannot look up
otherwise, the seconds until visitors should come back, with a file for each address that passes:

    shop -> .shop/1796083200-1-600
    .shop/1796083200-1-600/allow/203.0.113.9
    .shop/1796083200-1-600/allow/::ffff:203.0.113.9     the same, as some proxies write it
    .shop/hang-up                                       WebSockets of before may still be open

So one rename changes all of it. Only root can write there. Anything else by the site's name closes it as well, such as a file.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLACE = Path("/var/lib/vivarium/maintenance")
# There while open WebSockets are to be told to go; the playbook takes it away.
HANG_UP = "hang-up"
# What an address of IPv4 has in front of it where it is written as one of IPv6.
MAPPED = "::ffff:"
# Since when (seconds since 1970), which of the directories of that time, and the seconds until visitors should come back.
DIRECTORY = re.compile(r"([0-9]{1,12})-([0-9]{1,9})-([0-9]{1,9})")


def state_of(name: str) -> dict[str, Any] | None:
    """Since when a site is closed, what visitors are told and who passes; None where it is open."""
    link = PLACE / name
    if not link.exists():
        return None
    found: dict[str, Any] = {"since": None, "retry_after": None, "allow": []}
    if link.is_symlink():
        directory = link.resolve()
        if match := DIRECTORY.fullmatch(directory.name):
            found |= {"since": int(match[1]), "retry_after": int(match[3])}
        if (directory / "allow").is_dir():
            found["allow"] = sorted(name for name in os.listdir(directory / "allow") if not name.startswith(MAPPED))
    return found


def closed() -> dict[str, dict[str, Any]]:
    """All sites that are closed, by name."""
    try:
        names = sorted(name for name in os.listdir(PLACE) if not name.startswith("."))
    except FileNotFoundError:
        return {}
    return {name: state for name in names if (state := state_of(name))}


def line_of(name: str, state: dict[str, Any] | None) -> str:
    """The same for people."""
    if state is None:
        return f"{name}: open"
    since, later, allowed = state["since"], state["retry_after"], state["allow"]
    return (
        f"{name}: closed for maintenance"
        + (time.strftime(" since %Y-%m-%d %H:%M:%S UTC", time.gmtime(since)) if since else "")
        + "; visitors get 503"
        + (f" and are asked back in {later} s" if later else "")
        + (f"; {', '.join(allowed)} {'passes' if len(allowed) == 1 else 'pass'}" if allowed else "")
    )
