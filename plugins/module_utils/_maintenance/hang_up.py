# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Has the open WebSockets of applications closed while no new ones come, by a restart of the instances that hold them.

An instance that is told to end closes its WebSockets with a code that tells browsers to come back and finishes its requests, for
which it has 25 seconds; its socket is systemd's, so who asks meanwhile waits. One that holds nothing is left alone.
"""

from __future__ import annotations

import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import Application, run
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# nginx keeps idle connections for five seconds; what is there after this time is a request or a WebSocket (seconds).
IDLE = 7
# What systemd gives an instance to end, and some more (seconds).
LIMIT = 60
# SS_CONNECTING (not taken in yet) and SS_CONNECTED in /proc/net/unix.
HELD = ("02", "03")


def connections(paths: dict[str, str]) -> set[str]:
    """The units whose sockets hold a connection."""
    # Others bind sockets to names of any bytes.
    with open("/proc/net/unix", errors="replace") as table:
        rows = [line.split(None, 7) for line in table]
    held = {row[7].strip() for row in rows if len(row) == 8 and row[5] in HELD}
    return {unit for unit, path in paths.items() if path in held}


def instances(names: list[str]) -> dict[str, str]:
    """The instances that run, also of former releases that finish what they hold, and their sockets."""
    found: dict[str, str] = {}
    for application in map(Application, names):
        running = application.running_units()
        found |= {release.unit: release.socket for release in application.releases() if release.unit in running}
    return found


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    paths = instances(parameters["applications"])
    deadline = time.monotonic() + (0 if check_mode else IDLE)
    while (holding := connections(paths)) and time.monotonic() < deadline:
        time.sleep(0.2)
    units = sorted(holding)
    if units and not check_mode:
        # Not one that ends by itself meanwhile: it would be there again.
        code, _output = run(["systemctl", "try-restart", *units], timeout=LIMIT)
        if code != 0:
            raise Failed(
                f"{', '.join(units)} could not be restarted, so WebSockets that are open stay open; the sites are closed for"
                " everybody else"
            )
    return {"changed": bool(units), "restarted": units}
