"""Files of the backup: of bounded size when they are read, replaced in one step when they are written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

# How much of a manifest is read.
MANIFEST_BYTES = 4 * 1024 * 1024


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> Any:
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(MANIFEST_BYTES))
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def write_json(path: Path, content: Any, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
