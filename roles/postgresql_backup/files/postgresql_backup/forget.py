"""Remove the backups of a database that is gone."""

from __future__ import annotations

from .messages import BackupError, printable
from .work import Work


def forget(work: Work, database: str, wait: float, dry_run: bool) -> list[str]:
    """Remove every backup of a database that is not there any more; returns their files."""
    with work.locked(wait):
        if work.cluster.facts(database) is not None:
            raise BackupError(f"the database {printable(database)} is there; its backups stay")
        found = [*work.store.backups(database), *work.store.backups(database, proven=False)]
        return [manifest["file"] if dry_run else work.store.remove(manifest) for manifest in found]
