# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock of a deploy, the line that it leaves in the log, and what is told of one that failed."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    LOCK_LIMIT,
    STEPS,
    LockedError,
    Release,
    ReleaseError,
    active_units,
    end_processes,
    first_line,
    printable,
    process_start,
    wait_until,
)
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import Step, systemctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long to wait for a step that still runs though its playbook has died (seconds).
LOCK_PATIENCE = 300
# The step that runs each hook, for as long as nothing is switched.
HOOKED = {"before_migrate": "migrate", "after_migrate": "migrate", "before_switch": "switch"}
# What the last step that failed printed, beside the releases.
FAILED = "failed.log"


class Lock(Step):
    """The steps locked and abandoned; they and all others hold the lock.

    It is two things (releases.Lock), since a deploy is two to four runs on the host, and nothing that could hold a lock of
    the kernel's is there between them. A note in the file says whose deploy it is, from its first step to its last; who
    works at this very moment has the kernel's lock. So a step whose playbook was killed is waited for, and a deploy whose
    playbook was killed is not: `ended` is the run that the controller knows to be dead (action/asgi_release.py). It costs
    two small writes for each step; what it is for is tried by `make scenario S=killed`, which kills a run at each of its
    tasks.
    """

    def locked(self) -> bool:
        return False

    def lock(self, take: bool, step: str | None = None) -> None:
        """Hold the lock until this run on the host ends; with `take`, take it where nobody has it who may keep it."""
        # Entered by whoever needs what lies in it, listed by nobody.
        self.application.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock, mine = self.application.lock, self.data["holder"]
        if self.data["break_lock"] and take:
            self.break_off(other=lock.holder())
        try:
            lock.enter(LOCK_PATIENCE, self.is_another)
        except LockedError as error:
            if not take:
                return
            if self.is_another(error.holder):
                raise
            raise ReleaseError(
                "a step of a deploy whose playbook has ended still runs on this host; wait for it, or end it with"
                " -e asgi_break_lock=true"
            ) from error
        other = lock.holder()
        self.owns_lock = other.get("run") == mine["run"]
        if take and self.is_another(other):
            raise LockedError(other)
        if take and not (self.owns_lock and other.get("release") == self.release.id):
            self.end_commands(of=other)
            self.tell_of_interrupted(other)
            live, parts = self.application.live(), self.data["parts"] or self.release.record.get("parts", {})
            self.holder = {
                **mine,
                "action": self.data["action"],
                "release": self.release.id,
                "version": self.data["release"].get("version") or self.release.record.get("version"),
                "source": parts.get("source"),
                "from": live.id if live else None,
                "begun": time.time(),
                "seconds": {},
                "step": step,
                "reason": None,
            }
            self.owns_lock = True
        elif self.owns_lock:
            self.holder = other
        self.begin(step)

    def is_another(self, holder: dict[str, Any]) -> bool:
        """Whether somebody has the lock who may keep it: not this run, none that has ended, none that is silent for too long."""
        return bool(
            holder
            and holder.get("run") not in (self.data["holder"]["run"], self.data["ended"])
            and time.time() - holder.get("since", 0) < LOCK_LIMIT
            and not self.data["break_lock"]
        )

    def break_off(self, other: dict[str, Any]) -> None:
        """End what a run that is to lose the lock still does on this host; the kernel gives its lock up then."""
        pid = other.get("pid", 0)
        if pid not in (0, os.getpid()) and process_start(pid) == other.get("pid_start"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        systemctl("stop", self.step_unit, check=False)

    def end_commands(self, of: dict[str, Any]) -> None:
        """A run that was killed leaves what it had started: a build is ended, a migration is waited for."""
        with contextlib.suppress(KeyError):  # before the first deploy there is no such user
            end_processes(self.builder())
        if of and wait_until(lambda: active_units(self.step_unit, "deactivating") or None, LOCK_PATIENCE, 0.2):
            raise ReleaseError(
                f"{self.step_unit}, which a deploy that was cut off has started, still runs; wait for it, or end it with"
                " -e asgi_break_lock=true"
            )

    def begin(self, step: str | None) -> None:
        """Note which step is under way."""
        self.begun = time.monotonic()
        if self.owns_lock:
            mine = {"since": time.time(), "pid": os.getpid(), "pid_start": process_start(os.getpid())}
            self.holder |= {**mine, **({"step": step, "reason": None} if step else {})}
            self.application.lock.write(self.holder)

    def end(self, reason: str | None = None) -> None:
        """Note how long the step took and why it failed, for the line that a deploy gets at its end."""
        if self.owns_lock:
            self.holder["seconds"].setdefault(self.holder["step"], round(time.monotonic() - self.begun, 2))
            self.holder["reason"] = reason
            self.application.lock.write(self.holder)

    def tell(self, error: Exception) -> str:
        """Why a step failed, in a sentence. What it printed is kept for root, without secrets; the end of the run tells of it."""
        # Not for runs that succeed: a module is compiled at each run.
        from ansible_collections.vivarium.server.plugins.module_utils._asgi.lacking import lacking
        from ansible_collections.vivarium.server.plugins.module_utils._asgi.output import Failure, advice, failure

        # What an instance answered may be in it, and the file is for a terminal.
        said, _end, printed = printable(self.mask()(str(error))).partition("\n")
        if getattr(error, "complete", False):
            found = Failure(said.rstrip(":"), printed.splitlines(), advice(f"{said}\n{printed}", self.app["name"]))
        else:
            found = failure(said, printed, os.path.realpath(self.release.path / "code"), self.app["name"])
        details, helps = list(found.details), lacking(printed)
        if helps and (self.holder.get("step") == "build" or not found.advice):
            found = found._replace(advice=helps)
        if printed and len(printed.splitlines()) > len(details):
            path = self.application.root / FAILED
            # A disk that is full is not the reason that people are to read.
            with contextlib.suppress(OSError):
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as stream:
                    stream.write(f"{time.strftime('%F %T %Z')}, release {self.release.id}: {said}\n{printed}\n")
                details.append(f"All of it: sudo cat {path}")
        if self.owns_lock:
            self.holder |= {"details": details, "advice": found.advice}
            self.end(reason=found.reason)
            return found.reason
        # Nobody asks later.
        return "\n".join(filter(None, (found.reason, *details, found.advice)))

    def log(
        self, outcome: str, step: str | None = None, reason: str | None = None, of: dict[str, Any] | None = None
    ) -> None:
        """The line of a deploy, at its end."""
        holder = of or self.holder
        if not of:
            self.end(holder["reason"])
        self.application.log(
            by=holder["user"],
            controller=holder["controller"],
            action=holder["action"],
            release=holder["release"],
            version=holder["version"],
            **{"from": holder["from"]},
            source=holder.get("source"),
            outcome=outcome,
            step=step,
            reason=reason and first_line(reason),
            seconds={**holder["seconds"], "total": round(time.time() - holder["begun"], 2)},
        )

    def tell_of_interrupted(self, other: dict[str, Any]) -> None:
        """A run that died never wrote its own line."""
        if other.get("begun"):
            self.log("interrupted", other.get("step"), other.get("reason") or "the run ended in the middle", of=other)

    def unlock(self) -> None:
        self.application.lock.write(None)
        self.owns_lock = False

    def abandoned(self) -> bool:
        if not self.owns_lock:
            live = self.application.live()
            self.after = {"serves": f"Release {live.id} serves on." if live else "It has no live release."}
            return False
        live, record = self.application.live(), self.release.record
        self.after = {
            "serves": self.what_serves(live, record),
            "details": self.holder.get("details", []),
            "advice": self.holder.get("advice", ""),
        }
        if live != self.release and self.release.path.is_dir():
            was_live = record.get("state") in ("good", "bad")
            units = [self.release.unit, *self.process_units(self.release)]
            systemctl("stop", self.release.socket_unit, check=False)
            if not was_live:
                # Nobody was ever sent to it: nothing is lost, and one that hangs is not waited for.
                systemctl("stop", "--no-block", *units, check=False)
                systemctl("kill", "--signal=KILL", self.release.unit, check=False)
            systemctl("stop", *units, check=False)
            systemctl("reset-failed", *units, check=False)
            if not was_live:
                self.clear(self.release)
        self.log("failed", self.holder.get("step"), self.holder.get("reason") or self.data["stopped"])
        self.unlock()
        return True

    def what_serves(self, live: Release | None, record: dict[str, Any]) -> str:
        """What became of the application, in a sentence: what serves on may do so on a database that is not as before."""
        if not live:
            return "It has no live release."
        if live == self.release:
            return "It is live all the same: there was no release to go back to."
        order, app, step = list(STEPS.values()), self.app, self.holder.get("step")
        # The hooks that the step, and those before it, have run.
        ran = [
            moment
            for moment, of in HOOKED.items()
            if step in order and order.index(step) >= order.index(of) and app["hooks"][moment]
        ]
        said, applied = f"Release {live.id} serves on", record.get("migrations") or []
        if (
            step in order
            and order.index(step) >= order.index("migrate")
            and app["framework"] == "django"
            and app["migrate"]
        ):
            if "migrate" not in self.holder.get("seconds", {}):
                said += ", on the database as another host of the run has migrated it"
            elif applied:
                said += f", on a database with these migrations applied: {', '.join(map(str, applied))}"
            else:
                said += "; no migration was applied"
        elif not ran:
            return f"{said} as if nothing had happened."
        return f"{said}; the hooks {', '.join(ran)} may have run." if ran else f"{said}."
