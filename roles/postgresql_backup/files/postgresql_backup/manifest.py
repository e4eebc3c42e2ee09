"""The .json file beside each dump. It may have come from another host, so every value is looked at before it is used."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

Kind = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def is_name(value: Any) -> bool:
    return value is None or is_text(value)


def is_number(value: Any) -> bool:
    return type(value) is int


def is_flag(value: Any) -> bool:
    return type(value) is bool


def is_file(value: Any) -> bool:
    return is_text(value) and bool(re.fullmatch(r"[^/.][^/]*", value))


def is_moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def are_settings(value: Any) -> bool:
    return isinstance(value, list) and all(is_text(each) and "=" in each for each in value)


def are_rows(*kinds: Kind) -> Kind:
    def check(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(row, list)
            and len(row) == len(kinds)
            and all(kind(each) for kind, each in zip(kinds, row, strict=True))
            for row in value
        )

    return check


ALWAYS: dict[str, Kind] = {
    "database": is_text,
    "file": is_file,
    "size": is_number,
    "taken": is_moment,
    "sequence": is_number,
    "proven": is_flag,
}
# Of a database, not of the roles.
DESCRIPTION: dict[str, Kind] = {
    "owner": is_text,
    "encoding": is_text,
    "collate": is_text,
    "ctype": is_text,
    "provider": is_text,
    "locale": is_name,
    "connection_limit": is_number,
    "grants": are_rows(is_name, is_text, is_flag),
    "settings": are_rows(is_name, are_settings),
}
# What a backup from before there was such a thing lacks.
LATER: dict[str, Kind] = {"sha256": is_text, "tables": is_number, "extensions": are_rows(is_text, is_text)}


def checked(manifest: Any) -> dict[str, Any] | None:
    """A manifest that is one of ours, or None. What it says becomes a value or an identifier, nothing else."""
    if not isinstance(manifest, dict):
        return None
    manifest = {"sequence": 0, "proven": True, **manifest}
    keys = set(ALWAYS) | (set(DESCRIPTION) if "owner" in manifest else set())
    kinds = {**ALWAYS, **DESCRIPTION, **LATER}
    good = keys <= set(manifest) and all(kinds[key](value) for key, value in manifest.items() if key in kinds)
    return manifest if good else None


def age(manifest: dict[str, Any]) -> tuple[int, str, str]:
    """What backups are put in order by; those from before they had a number come first."""
    return manifest["sequence"], manifest["taken"], manifest["file"]
