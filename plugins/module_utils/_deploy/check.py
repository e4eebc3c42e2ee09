# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs the gate in a release, and asks its running instance whether that has what was checked."""

from __future__ import annotations

import contextlib
import http.client
import json
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.database import database_place
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    Release,
    ReleaseError,
    printable,
    read_regular,
    write_private,
)
from ansible_collections.vivarium.server.plugins.module_utils._asgi.running import ask, differences, facts_of
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Check(Step):
    """The step checked, and the question after the start."""

    def checked(self) -> bool:
        """The gate: Django's deployment checks and ours, in one start of Django; for others, those that concern any."""
        code = self.in_build([], "python", str(self.release.path / "lib/vivarium_gate.py"), "--json")
        gate = report_in(self.printed)
        if not gate:
            raise ReleaseError(f"the deployment checks could not be made:\n{self.output}")
        # What the report says of settings has no secret in it, and is compared with what the instance says.
        gate |= self.mask().of_all({key: gate[key] for key in ("text", "messages") if key in gate})
        self.output = printable(str(gate.pop("text", "")))
        write_private(self.release.path / "gate.json", {**gate, "made": time.time()}, indent=None)
        if code != 0:
            failed = [str(each.get("id"))[:60] for each in messages_in(gate) if each.get("state") == "failed"]
            said = f" ({', '.join(dict.fromkeys(failed[:10]))})" if failed else ""
            raise ReleaseError(f"the deployment checks say no{printable(said)}:\n{self.output}", complete=True)
        facts = gate.get("facts")
        database = facts.get("database") if isinstance(facts, dict) else None
        self.look_at_database(database if isinstance(database, dict) else {})
        return False

    def look_at_database(self, database: dict[str, Any]) -> None:
        """What is live has its data: a database without any is another one, or was lost, and nobody goes live on it unasked."""
        live, name = self.application.live(), self.app["name"]
        if not live or self.data["empty_database"]:
            return
        if self.app["framework"] == "django":
            place = f"{database.get('name')!s:.100} at {(database.get('host') or 'the default host')!s:.100}"
            if not (self.app["migrate"] and database.get("empty")):
                return
            what = f"its database ({place}) is empty, while release {live.id} is live"
        else:
            before, now = (database_of(release) for release in (live, self.release))
            if not before or before == now:
                return
            what = (
                f"its database would be another one than that of release {live.id}, which is live ({now}, not {before})"
            )
        raise ReleaseError(
            f"{what}. Its data do not come by themselves. On the old database server: postgresql-backup run {name}; copy the"
            f" newest of /var/backups/postgresql/{name}-* and its .json file to the new one; there: postgresql-backup restore"
            f" {name} --file PATH. If it is meant: -e asgi_empty_database={name}"
        )

    def look_at_instance(self, release: Release) -> None:
        """What was checked is what runs: a server can be given other settings than its release, by a file of its own say."""
        try:
            found = ask(release, self.app["domains"][0], self.app["start_timeout"])
        except (OSError, http.client.HTTPException) as error:
            raise ReleaseError(f"{release.unit} does not say what it runs with ({error})") from error
        if found is None:
            return
        checked = facts_of(release).get("running")
        if not isinstance(checked, dict):
            # Its import took too long for the gate, which looks at this too.
            if found.get("debug") is True and "vivarium.E027" not in self.app["waivers"]:
                raise ReleaseError(
                    f"{release.unit} is in debug mode: visitors see its code at an error (vivarium.E027)"
                )
        elif others := differences(checked, found):
            raise ReleaseError(
                f"{release.unit} does not run with what was checked: {'; '.join(others.values())}. Look for a file that the"
                " server reads (gunicorn.conf.py, --env-file) or code that changes settings later"
            )


def report_in(output: str) -> dict[str, Any] | None:
    """The report of the gate in an output, in which the project may have printed as well."""
    for line in reversed(output.splitlines()):
        # RecursionError: of a project that nests things without end.
        with contextlib.suppress(ValueError, RecursionError):
            if line.startswith("{") and "passed" in (report := json.loads(line)):
                return {**report, "text": report["text"] if isinstance(report.get("text"), str) else ""}
    return None


def messages_in(gate: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of the gate's report, in which the project's code had a hand."""
    messages = gate.get("messages")
    return [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []


def database_of(release: Release) -> str | None:
    """Where the database of a release is that its environment names, without who logs in there; None where it names none."""
    with contextlib.suppress(OSError):
        return database_place(read_regular(release.path / "env"))
    return None
