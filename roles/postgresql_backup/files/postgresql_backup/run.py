"""Make backups: dump each database, prove the dump by restoring it, keep it, and say what came of it."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .disk import read_json, write_json
from .messages import BackupError, iso
from .work import LEAST_SECONDS, Work

# The roles and their memberships, under a name that no database can have.
ROLES = "(roles)"


class Run(Work):
    """A run over all databases, as cron asks for it, or over some."""

    def run(self, asked: list[str], wait: float) -> dict[str, dict[str, Any]]:
        """Back databases up. Returns what happened to each; raises only if nothing could be tried at all."""
        with self.locked(wait):
            self.store.clean()
            self.scratch.clean()
            there = self.cluster.databases()
            configured = self.config["databases"] or there
            now = datetime.now(UTC).replace(microsecond=0)
            # What failed the last time comes last: it may take all the time that it has.
            states = (read_json(self.state / "status.json") or {}).get("databases", {})
            order = sorted(asked or configured, key=lambda database: states.get(database, {}).get("result") == "failed")
            outcomes = {database: self.attempt(database, self.dump, now) for database in order}
            if not asked:
                outcomes[ROLES] = self.attempt(ROLES, self.dump_roles, now)
            try:
                self.record(outcomes, [*configured, ROLES], complete=not asked)
            except OSError as error:
                outcomes[str(error.filename)] = {"error": f"cannot be written: {error.strerror}", "details": ""}
        return outcomes

    def attempt(self, database: str, work: Callable[[str, datetime], dict[str, Any]], now: datetime) -> dict[str, Any]:
        """Back one thing up; whatever goes wrong with it leaves the others alone."""
        begun, first = time.monotonic(), self.store.next()
        try:
            manifest = work(database, now)
            removed = self.store.prune(database, self.config["keep_days"], self.config["keep_last"], now)
        except Exception as error:  # a fault of ours must not cost the other databases their backup
            outcome = {"error": str(error), "details": getattr(error, "details", "")}
            if not isinstance(error, BackupError):
                outcome = {"error": f"{type(error).__name__}: {error}", "details": traceback.format_exc()}
            with contextlib.suppress(OSError):
                self.store.limit_unproven(database)
                kept = self.store.backups(database, proven=False)[:1]
                if kept and kept[0]["sequence"] >= first:
                    outcome["unproven"] = kept[0]["file"]
            return outcome
        shown: dict[str, Any] = {key: manifest[key] for key in ("file", "size", "taken", "tables") if key in manifest}
        return {**shown, "seconds": round(time.monotonic() - begun, 1), "removed": removed}

    def dump(self, database: str, now: datetime) -> dict[str, Any]:
        """Dump a database, prove the dump, keep it."""
        facts = self.cluster.facts(database)
        if facts is None:
            raise BackupError("there is no such database")
        size = facts.pop("size")
        if facts["settings"] is None:
            raise BackupError(
                "its settings (ALTER DATABASE … SET) take more than a megabyte: ALTER DATABASE … RESET ALL"
            )
        last = self.store.backups(database)[:1]
        self.need({self.store.directory: last[0]["size"] * 1.2 if last else size, self.data_directory(): size * 1.2})
        facts["extensions"] = self.cluster.extensions(database)
        superuser = database in self.config["superuser_databases"]
        with (
            self.cluster.limited(self.seconds(database, size)),
            self.store.new(database, ".dump", now) as (temporary, manifest),
        ):
            self.cluster.run(
                "pg_dump",
                "--format=custom",
                self.cluster.place(database),
                f"--file={temporary}",
                "--no-password",
                "--lock-wait-timeout=300000",
            )
            manifest |= {"database": database, "proven": False, **facts}
            tables = self.cluster.tables(database)
            try:
                with self.scratch.restored(database, temporary, facts, superuser):
                    manifest["tables"] = self.cluster.tables(self.cluster.scratch)
            except BackupError as error:
                raise BackupError(f"the dump cannot be restored: {error}", error.details) from error
            if tables and not manifest["tables"]:
                raise BackupError(f"the dump holds none of the {tables} tables")
        return manifest

    def dump_roles(self, _database: str, now: datetime) -> dict[str, Any]:
        """Keep the roles and their memberships. Not their passwords: those come from the inventory."""
        with self.cluster.limited(LEAST_SECONDS), self.store.new("roles", ".sql", now) as (temporary, manifest):
            self.cluster.run(
                "pg_dumpall", "--globals-only", "--no-role-passwords", f"--file={temporary}", "--no-password"
            )
            if (
                "PostgreSQL database cluster dump complete"
                not in temporary.read_text(encoding="utf-8", errors="replace")[-500:]
            ):
                raise BackupError("pg_dumpall ended early")
            manifest["database"] = ROLES
        return manifest

    def record(self, outcomes: dict[str, dict[str, Any]], expected: list[str], complete: bool) -> None:
        """Write the status file, which everybody may read; it says what failed, never what a program printed."""
        path = self.state / "status.json"
        old = read_json(path) or {}
        states = {key: value for key, value in old.get("databases", {}).items() if key in expected}
        now = iso(datetime.now(UTC))
        for database, outcome in outcomes.items():
            good = "error" not in outcome
            states[database] = {
                "result": "ok" if good else "failed",
                "last_success": outcome["taken"] if good else states.get(database, {}).get("last_success"),
                **{key: value for key, value in outcome.items() if key not in ("details", "removed")},
            }
        good = all(state["result"] == "ok" for state in states.values())
        status = {
            "result": "ok" if good else "failed",
            "last_run": now,
            "last_success": now if good and complete else old.get("last_success"),
            "databases": dict(sorted(states.items())),
        }
        write_json(path, status, 0o644)

    def record_failure(self, message: str) -> None:
        """Nothing could be tried at all: say so in the status file too."""
        path = self.state / "status.json"
        status = {**(read_json(path) or {"last_success": None, "databases": {}}), "result": "failed", "error": message}
        write_json(path, {**status, "last_run": iso(datetime.now(UTC))}, 0o644)
