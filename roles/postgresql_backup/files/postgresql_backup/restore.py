"""Put a backup in a database's place: be sure of the file and whose it is, restore it beside the database, swap the two."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .cluster import BEFORE_RESTORE
from .disk import read_json, sha256
from .fill import DATABASE_OWNER
from .listing import owners_of
from .manifest import age, checked
from .messages import BackupError, printable
from .names import SCRATCHES
from .replace import dress, rename_scratch, swap
from .work import LEAST_SECONDS, Work

# Of what is longer, PostgreSQL cuts off the end.
LONGEST_NAME = 63


class Restore(Work):
    """The restore of one database. Nothing that serves is touched before the backup stands beside it, whole."""

    def choose(self, database: str, wanted: str) -> tuple[Path, dict[str, Any]]:
        """Find the backup of a database to restore: its path and what its manifest says."""
        if wanted == "latest":
            found = self.store.backups(database)
            if not found:
                raise BackupError(f"there is no backup of {database} in {self.store.directory}")
            return self.store.directory / found[0]["file"], found[0]
        path = self.store.directory / wanted
        if not path.is_file():
            raise BackupError(f"{path} does not exist")
        content = read_json(path.with_name(f"{path.name}.json"))
        manifest = checked(content)
        if content is not None and manifest is None:
            raise BackupError(f"{path}.json is not the manifest of a backup")
        return path, manifest or {}

    def check(self, database: str, path: Path, manifest: dict[str, Any]) -> set[str]:
        """Be sure that a file is what it should be before anything is done with it; returns whose objects are in it."""
        if manifest and sha256(path) != manifest.get("sha256"):
            raise BackupError(f"{path} is damaged: its checksum is not that of its manifest")
        with self.cluster.limited(LEAST_SECONDS):
            listing = self.cluster.run("pg_restore", "--list", str(path))
        holds = re.search(r"^; +dbname: (.*)$", listing, re.MULTILINE)
        if holds and holds[1] != database:
            raise BackupError(
                f"{path} is a backup of {printable(holds[1])}, not of {database}: --from if that is meant"
            )
        return owners_of(listing)

    def restore(
        self,
        database: str,
        wanted: str,
        wait: float,
        dry_run: bool,
        timeout: int | None = None,
        owner_takes_all: bool = False,
        source: str | None = None,
    ) -> dict[str, Any]:
        """Put a backup in a database's place: its own, or that of another one, the source."""
        if database in ("postgres", "template0", "template1", *SCRATCHES):
            raise BackupError(f"{database} is not a database to restore")
        source = source or database
        with self.locked(wait):
            path, manifest = self.choose(source, wanted)
            owners = self.check(source, path, manifest)
            there = self.cluster.facts(database)
            if source != database:
                there, manifest = self.renamed(database, source, there, manifest)
            facts = there or manifest
            if not facts or "owner" not in facts:
                raise BackupError(f"{database} does not exist and {path.name} has no manifest: make the database first")
            size = max((there or {}).get("size", 0), 5 * path.stat().st_size)
            self.need({self.data_directory(): size})
            superuser = self.cluster.is_superuser(facts["owner"])
            if superuser is None:
                raise BackupError(
                    f"the owner of {database}, the role {printable(facts['owner'])}, does not exist: make it first"
                )
            if superuser and database not in self.config["superuser_databases"]:
                raise BackupError(
                    f"{database} belongs to the superuser {printable(facts['owner'])}, who would own all that is in the backup:"
                    " name it in postgresql_backup_superuser_databases if that is meant, or give the database to another role"
                )
            trusted = {facts["owner"], facts.get("former_owner"), DATABASE_OWNER, *self.cluster.superusers()}
            if not owners <= trusted and database not in self.config["superuser_databases"] and not owner_takes_all:
                raise BackupError(
                    f"what the roles {', '.join(map(printable, sorted(owners - trusted)))} have in the backup would belong to"
                    f" {printable(facts['owner'])}, and their functions and views would act with its rights:"
                    " --owner-takes-all if that is meant"
                )
            kept = self.name_of_kept(database)
            newer = [
                each["file"]
                for each in self.store.backups(source, proven=False)
                if manifest and age(each) > age(manifest)
            ]
            result: dict[str, Any] = {
                "database": database,
                "source": source,
                "file": path.name,
                "taken": manifest.get("taken"),
                "kept": kept if there else None,
                "proven": manifest.get("proven", False),
                "newer_unproven": newer[0] if newer else None,
                "problems": [],
            }
            if dry_run:
                return result
            # Where the extensions of a dump lie, its own manifest knows best; a database that is broken may not answer at all.
            extensions = manifest.get("extensions", [])
            if there and "extensions" not in manifest:
                with contextlib.suppress(BackupError):
                    extensions = self.cluster.extensions(database)
            facts = {**facts, "extensions": extensions}
            with (
                self.cluster.limited(timeout or self.seconds(database, size)),
                self.scratch.restored(
                    database, path, facts, database in self.config["superuser_databases"], analyzed=True
                ),
            ):
                result["tables"] = self.cluster.tables(self.cluster.scratch)
                result["problems"] = dress(self.cluster, facts, trusted=source == database and bool(there))
                if there:
                    swap(self.cluster, database, kept)
                else:
                    rename_scratch(self.cluster, database)
        return result

    def name_of_kept(self, database: str) -> str:
        """What the database is called that a restore takes the place of; there may have been another one in this second."""
        begin, at = database[: LONGEST_NAME - len(BEFORE_RESTORE) - 14], datetime.now(UTC)
        while self.cluster.facts(name := f"{begin}{BEFORE_RESTORE}{at:%Y%m%d%H%M%S}"):
            at += timedelta(seconds=1)
        return name

    def renamed(
        self, database: str, source: str, there: dict[str, Any] | None, manifest: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is known of a database that a backup of another one goes into: it keeps its owner and who may connect, and gets
        the encoding, the locale and the settings of the other one."""
        if there is None:
            raise BackupError(f"{database} does not exist: the playbook site makes it, with its owner")
        if database in self.config["superuser_databases"]:
            raise BackupError(
                f"{database} is one of postgresql_backup_superuser_databases: a backup of another database is restored as its"
                " owner alone"
            )
        if "owner" not in manifest:
            return there, manifest
        former = manifest["owner"]
        taken = {key: manifest[key] for key in ("encoding", "collate", "ctype", "provider", "locale")}
        settings = manifest["settings"] and [
            [there["owner"] if role == former else role, values] for role, values in manifest["settings"]
        ]
        return {**there, **taken, "settings": settings, "former_owner": former}, manifest
