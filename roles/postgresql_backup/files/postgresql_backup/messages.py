"""What went wrong, and how people are told: nothing that a server or a dump said moves their cursor or shows them users' data."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any


class BackupError(Exception):
    """Something failed; the message is for people and for the status file, the details for the journal and the mail alone."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Refused(BackupError):
    """The server refused a statement of the superuser's."""

    def __init__(self, error: Any) -> None:
        super().__init__("PostgreSQL refused a statement", without_rows(str(error)))
        self.code = error.pgcode


class Stopped(BaseException):
    """Somebody asked us to end; what is half done is still cleaned up."""


def printable(text: str) -> str:
    """A text for a terminal: whatever it was written by, it moves no cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def without_rows(text: str) -> str:
    """An error's text without the rows that it quotes: they are the users' data.

    A row may hold line breaks, so all that follows one goes too, until a line begins as only a program's own does.
    """
    kept: list[str] = []
    skip = False
    for line in map(printable, text.strip().split("\n")):
        if re.match(r"(.*(CONTEXT|DETAIL|STATEMENT|Command was):)", line):
            skip = True
        elif re.match(r"(pg_|psql|ERROR|FATAL|HINT|sh:|[\w./-]+: )", line):
            skip = False
        if not skip:
            kept.append(line)
    return "\n".join(kept[-20:])


def iso(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat()


def human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
