# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Starts the instance of a release beside the live one, and its background processes, and waits until they are good."""

from __future__ import annotations

import http.client
import os
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.probe import ask_socket, healthy
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    Release,
    ReleaseError,
    journal,
    last_words,
    process_units,
    wait_until,
)
from ansible_collections.vivarium.server.plugins.module_utils._deploy.check import Check
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import systemctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# How long a new instance may keep silent before the reason is looked for (seconds).
IMPORT_PATIENCE = 3
# How long a background process must stay up to be taken for a good one (seconds).
PROCESS_PATIENCE = 1


class Instance(Check):
    """The step started."""

    def started(self) -> bool:
        release = self.release
        self.link_socket(release)
        if self.data["action"] != "deploy":  # it has run before
            # It may still be under way out: it stays.
            systemctl("stop", f"{self.app['name']}-drain@{release.id}.service", check=False)
            systemctl("reset-failed", release.unit, release.socket_unit, check=False)
            # That drain may have been at its end: an instance gets a socket at its start alone.
            if not os.path.lexists(release.socket):
                systemctl("stop", release.unit, check=False)
        systemctl("start", release.unit)
        self.wait_for_answer(release)
        self.look_at_instance(release)
        # One that falls over is a reason not to send requests to it. Those that bear no second one come with the switch.
        self.start_processes(release, [name for name in self.processes() if name not in self.alone()])
        return True

    def link_socket(self, release: Release) -> None:
        """`live/socket` is where nginx connects: the release's link to its own socket."""
        link = release.path / "socket"
        if not link.is_symlink():
            link.symlink_to(release.socket)

    def wait_for_answer(self, release: Release) -> None:
        deadline = time.monotonic() + self.app["start_timeout"]
        # A server with several workers stays up though none of them can import the application.
        import_at = time.monotonic() + IMPORT_PATIENCE
        # Asking systemd takes time that the start of the application needs.
        state_at = time.monotonic() + 0.5
        # Of the directory of its sockets: nginx's. That an answer gets through to root says nothing.
        group = os.stat(self.app["runtime"]).st_gid

        def look() -> None:
            """The request waits in the socket, which systemd holds, whether a server comes for it or not."""
            nonlocal import_at, state_at
            if time.monotonic() > state_at:
                state_at = time.monotonic() + 0.5
                self.check_state(release)
            if time.monotonic() > import_at:
                import_at = deadline
                self.try_import(deadline - time.monotonic())

        def complaint() -> str | None:
            left = max(1, min(10, deadline - time.monotonic()))
            try:
                status = ask_socket(
                    release.socket, self.app["health_path"], self.app["domains"][0], left, group=group, meanwhile=look
                )
                return None if healthy(status, self.app["health_strict"]) else f"status {status}"
            except (OSError, http.client.HTTPException) as error:
                last = f"no answer on its socket ({error})"
            look()
            return last

        last = wait_until(complaint, self.app["start_timeout"])
        if last:
            raise ReleaseError(
                f"{release.unit} was not ready within {self.app['start_timeout']} s of start_timeout: GET"
                f" {self.app['health_path']}: {last}\nIts last lines:\n{journal(release.unit)}"
            )

    def check_state(self, release: Release) -> None:
        """Raise where systemd has given up on an instance, or had to start it over and over."""
        state = systemctl("show", "--property=ActiveState,NRestarts", "--value", release.unit).split()
        if "failed" in state or any(text.isdigit() and int(text) > 2 for text in state):
            raise ReleaseError(last_words(release.unit, "does not stay up"))

    def start_processes(self, release: Release, processes: Iterable[str]) -> None:
        """Start background processes and see that they stay up."""
        units = process_units(release, processes)
        running = self.application.running_units() if units else {}
        units = [unit for unit in units if unit not in running]
        if not units:
            return
        systemctl("start", *units)
        time.sleep(PROCESS_PATIENCE)
        states = systemctl("is-active", *units, check=False).split()
        for unit, state in zip(units, states, strict=True):
            if state != "active":
                raise ReleaseError(last_words(unit, "does not stay up"))

    def alone(self) -> list[str]:
        """The background processes of which there are no two at a time, by the description of now."""
        return [name for name in self.processes() if not self.app["processes"][name].get("overlap", True)]

    def try_import(self, seconds: float) -> None:
        """Say so at once when the application cannot be imported, rather than wait for an answer that cannot come."""
        module = self.app["callable"].split(":")[0]
        # What does not end in time is no proof of anything.
        limit = [f"--property=RuntimeMaxSec={max(1, int(seconds))}"]
        code = f"import sys\ntry: import {module}\nexcept BaseException: import traceback; traceback.print_exc(); sys.exit(111)"
        if self.run(limit, "python", "-c", code) == 111:
            raise ReleaseError(f"{module} cannot be imported:\n{self.output}")
