"""What a run, a restore and the removal of backups have in common: one configuration, one server, one store, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .cluster import Cluster
from .messages import BackupError, human
from .scratch import Scratch
from .store import Store

MEGABYTE = 1024 * 1024
# A database may take so long for its dump and the proof: this, and one second for so many bytes.
LEAST_SECONDS = 900
BYTES_A_SECOND = 4 * MEGABYTE


class Work:
    """What every concern builds on; the configuration is the file that the role writes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.store = Store(config["directory"])
        self.state = Path(config["state_directory"])
        self.cluster = Cluster(config["port"])
        self.scratch = Scratch(self.cluster, self.state / "scratch.json")

    @contextlib.contextmanager
    def locked(self, wait: float) -> Iterator[None]:
        """Only one of us at a time; a night that is not over when the next begins is an error."""
        with open(self.state / "lock", "w", encoding="utf-8") as lock:
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise BackupError("another backup or restore is running") from None
                    time.sleep(min(1, wait))
            yield

    def seconds(self, database: str, size: int) -> int:
        """How long a database may take: the inventory's word, or what its size asks for."""
        return self.config.get("timeouts", {}).get(database) or LEAST_SECONDS + size // BYTES_A_SECOND

    def data_directory(self) -> Path:
        return Path(self.cluster.sql("SHOW data_directory")[0][0])

    def need(self, sizes: Mapping[Path, float]) -> None:
        """Stop before a disk gets full: the server would stop with it."""
        wanted: dict[int, tuple[Path, int]] = {}
        for directory, size in sizes.items():
            device = os.stat(directory).st_dev
            _, more = wanted.get(device, (None, self.config["reserve_mb"] * MEGABYTE))
            wanted[device] = (directory, more + int(size))
        for directory, needed in wanted.values():
            disk = os.statvfs(directory)
            free = disk.f_bavail * disk.f_frsize
            if free < needed:
                raise BackupError(f"{directory} has {human(free)} free, {human(needed)} are needed")
