# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes one release of an application from step to step until it is live."""

from __future__ import annotations

import os
import subprocess
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import STEPS, LockedError, ReleaseError
from ansible_collections.vivarium.server.plugins.module_utils._deploy.migrate import Migrate
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import shorten
from ansible_collections.vivarium.server.plugins.module_utils._deploy.switch import Switch
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Deploy(Switch, Migrate):
    """The steps of a deploy, one method each.

    Every class brings those of one concern and what they are made of, and builds on the classes whose methods it uses.
    """


def main(data: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module; ``data`` is what the action made of its options."""
    # Whoever runs the play may have a narrow umask; the application must read its code.
    os.umask(0o022)
    deploy = Deploy(data)
    name, changed, steps = deploy.app["name"], False, data["steps"]
    try:
        # A step in the middle does not begin without the lock, or after somebody took it away.
        deploy.lock(take=steps[0] in ("locked", "staged"), step=STEPS.get(steps[0]))
        if not deploy.owns_lock and steps != ["abandoned"]:
            raise ReleaseError("another run took over the lock, so this one stops")
        for number, step in enumerate(steps):
            if number:
                deploy.begin(STEPS[step])
            try:
                changed = getattr(deploy, step)() or changed
            except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
                raise ReleaseError(deploy.tell(error)) from error
            deploy.end()
    except LockedError as error:
        holder = {"user": "root", "controller": "this host", "since": time.time(), "run": "", **error.holder}
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder["since"]))
        raise Failed(
            f"{name}: a deploy by {holder['user']} on {holder['controller']} is under way since {since}; wait for it,"
            " or take over with -e asgi_break_lock=true if it is dead",
            holder=holder,
        ) from error
    except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"{name}: {error}", step=deploy.holder.get("step")) from error
    live = deploy.application.live()
    mask = deploy.mask()
    return {
        "changed": changed,
        "output": shorten(deploy.output, 40),
        "live": live.id if live else None,
        "checklist": deploy.checklist,
        "warnings": mask.of_all(deploy.warnings),
        "after": deploy.after,
    }
