"""Where the backups lie: under which names, which of them is the newest, and how long they stay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .disk import read_json, sha256, sync, write_json
from .manifest import age, checked
from .messages import BackupError, iso

UNPROVEN = ".unproven"
KEPT_UNPROVEN = 3


class Store:
    """The directory of the backups. Which one is the newest, a number that grows says: a clock may have been wrong."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def manifests(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every .json file that is one of ours."""
        for path in self.directory.glob("*.json"):
            manifest = checked(read_json(path))
            if manifest and f"{manifest['file']}.json" == path.name:
                yield path, manifest

    def backups(self, database: str | None = None, proven: bool = True) -> list[dict[str, Any]]:
        """What is there of all or of one, newest first: the .json files whose dumps exist in the right size."""
        found = []
        for _, manifest in self.manifests():
            file = self.directory / manifest["file"]
            wanted = database in (None, manifest["database"]) and manifest["proven"] is proven
            if wanted and file.is_file() and file.stat().st_size == manifest["size"]:
                found.append(manifest)
        return sorted(found, key=age, reverse=True)

    def next(self) -> int:
        """A number that no backup here has had."""
        return 1 + max((manifest["sequence"] for _, manifest in self.manifests()), default=0)

    def clean(self) -> None:
        """Remove what a run that was killed has not finished."""
        for path in self.directory.glob(".*.tmp"):
            path.unlink()
        for path, manifest in self.manifests():
            if not (self.directory / manifest["file"]).exists():
                path.unlink()

    @contextlib.contextmanager
    def new(self, label: str, suffix: str, taken: datetime) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Where to write a backup; it gets its final name, beside its manifest, if nothing fails on the way.

        What is whole when something fails, which the block says by "proven": False in the manifest, is kept under another name.
        """
        sequence = self.next()
        stem = f"{quote(label, safe='')}-{taken:%Y%m%dT%H%M%SZ}"
        if any(self.directory.glob(f"{stem}{suffix}*")):
            stem += f"-{sequence}"
        temporary = self.directory / f".{stem}{suffix}.tmp"
        manifest: dict[str, Any] = {"file": f"{stem}{suffix}", "taken": iso(taken), "sequence": sequence}
        try:
            # Made here: nobody else can read it from the first moment on.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                yield temporary, manifest
            except Exception:
                if manifest.get("proven") is False:
                    manifest["file"] += UNPROVEN
                    self.publish(temporary, manifest)
                raise
            manifest["proven"] = True
            self.publish(temporary, manifest)
        except OSError as error:
            raise BackupError(f"{error.filename or self.directory}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def publish(self, temporary: Path, manifest: dict[str, Any]) -> None:
        sync(temporary)
        manifest |= {"size": temporary.stat().st_size, "sha256": sha256(temporary)}
        # The manifest first: a dump without one would look as if nobody had proven it.
        write_json(self.directory / f"{manifest['file']}.json", manifest, 0o600)
        os.rename(temporary, self.directory / manifest["file"])
        sync(self.directory)

    def remove(self, manifest: dict[str, Any]) -> str:
        (self.directory / manifest["file"]).unlink()
        (self.directory / f"{manifest['file']}.json").unlink()
        return str(manifest["file"])

    def prune(self, database: str, keep_days: int, keep_last: int, now: datetime) -> list[str]:
        """Remove what is older than so many days, but never the newest ones. Only ever called after a success."""
        backups = self.backups(database)
        old = [
            manifest for manifest in backups[keep_last:]
            if datetime.fromisoformat(manifest["taken"]) < now - timedelta(days=keep_days)
        ]  # fmt: skip
        # What nobody could prove is of no use beside a newer one that is proven.
        superseded = [
            manifest for manifest in self.backups(database, proven=False) if backups and age(manifest) < age(backups[0])
        ]
        return [self.remove(manifest) for manifest in old + superseded]

    def limit_unproven(self, database: str) -> list[str]:
        """Of those that nobody could prove the first stays, and the newest: the disk is not theirs."""
        newest_first = self.backups(database, proven=False)
        return [self.remove(manifest) for manifest in newest_first[KEPT_UNPROVEN - 1 : -1]]
