# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that are written where nothing is, and never over or through anything else."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.vivarium.server.plugins.plugin_utils._init.project import InitError


@dataclass(frozen=True)
class File:
    """``base`` is a directory of the user's own, ``path`` counts from it; ``text`` is in no message and no repr."""

    base: Path
    path: str
    text: str = field(repr=False)
    mode: int = 0o644
    remark: str = ""

    @property
    def place(self) -> Path:
        return self.base / self.path

    def is_there(self) -> bool:
        return os.path.lexists(self.place)


def write(files: list[File]) -> list[File]:
    """Write those that are not there; return them. Nothing is written where one of the others cannot be."""
    missing = [file for file in files if not file.is_there()]
    for file in missing:
        _refuse_links(file)
    try:
        return [file for file in missing if _write(file)]
    except OSError as error:
        raise InitError(f"{error.filename or ''} could not be written: {error.strerror}") from error


def _refuse_links(file: File) -> None:
    """Directories on the way may come with a project: a link would lead out of it."""
    place = file.place.parent
    while place != file.base and file.base in place.parents:
        if place.is_symlink() or (os.path.lexists(place) and not place.is_dir()):
            raise InitError(f"Nothing was written: {place} is {'a link' if place.is_symlink() else 'no directory'}")
        place = place.parent


def _write(file: File) -> bool:
    """Whole or not at all; whether it was this run that did."""
    file.place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=file.place.parent, prefix=".init-", encoding="utf-8", delete=False
    ) as new:
        try:
            new.write(file.text)
            new.flush()
            os.fchmod(new.fileno(), file.mode & ~_umask())
            # Unlike a rename, a link fails where something is.
            os.link(new.name, file.place)
        except FileExistsError:
            return False
        finally:
            os.unlink(new.name)
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
