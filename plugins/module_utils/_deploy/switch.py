# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sends requests to a release, sees how that goes, and takes them back where it goes badly."""

from __future__ import annotations

import http.client
import subprocess
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.probe import ask_site, healthy
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    Release,
    ReleaseError,
    Watch,
    process_units,
    wait_until,
    write_private,
)
from ansible_collections.vivarium.server.plugins.module_utils._deploy.instance import Instance
from ansible_collections.vivarium.server.plugins.module_utils._deploy.lock import Lock
from ansible_collections.vivarium.server.plugins.module_utils._deploy.prune import Prune
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import systemctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long nginx may give wrong answers after the switch before requests go back (seconds).
SWITCH_PATIENCE = 2
# How long the drain may take to see that a release does not stay up, and to take requests back from it (seconds).
VERDICT_PATIENCE = 15


class Switch(Lock, Instance, Prune):
    """The step live."""

    def live(self) -> bool:
        before, was_good = self.application.live(), self.release.record.get("state") == "good"
        self.run_hooks("before_switch")
        # The one before stays reachable behind the new one from the same moment. Both may be from before there was `public`, or
        # left by a run that was killed.
        self.offer(*filter(None, (before, self.release)))
        self.keep(*filter(None, (before,)))
        # What the switch leads to is on the disk before the switch is.
        subprocess.run(["sync", "--file-system", str(self.release.path)], check=True)
        self.application.point_live_at(self.release)
        try:
            complaint = self.verify() or self.take_turns(before)
            if not complaint:
                self.call_good(before)
        except OSError as error:
            complaint = str(error)
        if complaint:
            self.switch_back(before, complaint)
        units = self.application.running_units("deactivating")
        self.hand_over(units, alone=before is None or (before == self.release and not was_good))
        self.keep(self.release)
        try:
            self.run_hooks("after_switch")
        except ReleaseError as error:
            self.warnings.append(f"{self.app['name']}: release {self.release.id} is live, but a hook failed: {error}")
        self.prune(units)
        try:
            self.report()
        except Exception as error:  # it is about a release that is live: nothing of that is undone
            self.warnings.append(f"{self.app['name']}: the report could not be made ({type(error).__name__}: {error})")
        self.log("good", "after_switch" if self.warnings else None, "".join(self.warnings) or None)
        self.unlock()
        if self.data["wait"] and before != self.release:
            self.settle(before)
        return True

    def report(self) -> None:
        """What of Django's deployment checklist holds, for the run and for the playbook status."""
        # Not for the steps before: a module is compiled at each run.
        from ansible_collections.vivarium.server.plugins.module_utils._asgi.checklist import checklist, summary

        report = checklist(self.application, self.release, self.app)
        write_private(self.release.path / "checklist.json", report)
        self.checklist = summary(report)

    def take_turns(self, before: Release | None) -> str | None:
        """Those end in all other releases, then they start in this one. Says what is wrong, and gives them back then."""
        alone = self.alone()
        if not alone:
            return None
        mine = process_units(self.release, alone)
        kinds = tuple(f"{self.app['name']}-{name}@" for name in alone)
        others = [
            unit
            for unit in self.application.running_units("deactivating")
            if unit.startswith(kinds) and unit not in mine
        ]
        try:
            if others:
                systemctl("stop", *others)
            self.start_processes(self.release, alone)
        except ReleaseError as error:
            if before and before != self.release:
                systemctl("stop", *mine, check=False)
                had = set(before.record.get("processes", alone))
                systemctl(
                    "start", "--no-block", *process_units(before, [name for name in alone if name in had]), check=False
                )
            return str(error)
        return None

    def verify(self) -> str | None:
        """Ask once more the way a visitor does: through nginx, over TLS, by name."""
        way = self.app.get("verify")
        if not way:
            return None

        def complaint() -> str | None:
            try:
                status = ask_site(way["port"], way["domain"], self.app["health_path"])
            except (OSError, http.client.HTTPException) as error:
                return f"nginx gave no answer for https://{way['domain']}:{way['port']} ({error})"
            if healthy(status, self.app["health_strict"]):
                return None
            return f"https://{way['domain']}:{way['port']}{self.app['health_path']} answered {status} through nginx"

        return wait_until(complaint, SWITCH_PATIENCE)

    def call_good(self, before: Release | None) -> None:
        """From here on it is what a rollback may go to, until its watch says otherwise; with what that has to know."""
        record = self.release.record
        since = record.get("live_since") if before == self.release and record.get("state") == "good" else None
        self.release.note(
            state="good",
            live_since=since or time.time(),
            workers=self.app["workers"],
            processes=self.processes(),
            alone=self.alone(),
            **self.instead_of(before),
        )

    def instead_of(self, before: Release | None) -> dict[str, Any]:
        """What this release is put live in the place of, against the inventory: the next run does not undo that unasked."""
        if self.data["action"] == "rollback" and before:
            return {"instead_of": {key: before.record.get("parts", {}).get(key) for key in ("source", "env")}}
        if self.data["action"] == "deploy":
            source, env = self.data["release"].get("instead_of"), self.release.record.get("parts", {}).get("env")
            return {"instead_of": {"source": source, "env": env} if source else None}
        return {}

    def switch_back(self, before: Release | None, complaint: str) -> None:
        """Requests go to the release they went to before; where there was none, to none."""
        if before == self.release:
            raise ReleaseError(complaint)
        self.application.point_live_at(before)
        if self.release.record.get("state") != "good":
            self.release.note(state="bad", step="switch", reason=complaint)
        raise ReleaseError(
            f"{complaint}; {f'requests go to release {before.id} again' if before else 'it is not live'}"
        )

    def settle(self, before: Release | None) -> None:
        """Wait until the release has stayed up for its time. Requests are taken back by the drain of the one before, not here."""
        self.application.lock.leave()
        self.owns_lock = False
        watch = Watch(self.release, self.app["settle_time"])

        def verdict() -> str | None:
            """The drain's, which may have seen what this did not."""
            record = self.release.record
            return record.get("reason") or "it did not stay up" if record.get("state") == "bad" else None

        complaint = None
        while not (complaint or watch.over()):
            complaint = verdict() or watch.complaint()
            time.sleep(0.5)
        if complaint:
            wait_until(lambda: None if verdict() else "not yet", VERDICT_PATIENCE)
        if complaint := verdict() or complaint:
            raise ReleaseError(complaint)

    def hand_over(self, units: dict[str, str], alone: bool = False) -> None:
        """Its own processes run. Old instances finish what they hold, watched by a unit each: no deploy waits for them.

        Where no other release could watch it, the release has such a unit of its own.
        """
        name, started, stopped = self.app["name"], [], []
        for unit, state in units.items():
            kind, identifier = unit.removesuffix(".service").split("@", 1)
            if identifier == self.release.id or kind == f"{name}-drain" or state == "deactivating":
                continue
            if kind == name:
                started.append(f"{name}-drain@{identifier}.service")
            else:  # a background process, of this description or of an earlier one
                stopped.append(unit)
        if alone and not started:
            started.append(f"{name}-drain@{self.release.id}.service")
        systemctl("start", "--no-block", f"{name}.service", *self.process_units(self.release), *started)
        if stopped:
            systemctl("stop", "--no-block", *stopped, check=False)
