"""What the checks of a deployment look for in an application's code, the working directory, whatever its framework.

A message is the id of its check, the text and the hint.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# A secret is looked for in the code's files up to this size.
READABLE = 1_000_000
# A shorter one may stand there by chance.
SHORTEST = 12


def revealed(secrets: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """A message for each secret that stands in the code."""
    for name, path in found_in_code(secrets):
        yield (
            "E009", f"{name} stands in the code, in {path}: whoever reads the code knows it.",
            "Make a new one and keep it in Ansible Vault.",
        )  # fmt: skip


def found_in_code(secrets: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """The names of secrets that stand in a file of the code, and the file."""
    wanted = {name: str(value).encode() for name, value in secrets.items() if value and len(str(value)) >= SHORTEST}
    for directory, directories, files in os.walk("."):
        directories[:] = [name for name in directories if name not in ("node_modules", ".git")]
        for path in (Path(directory, name) for name in files):
            if not wanted or not path.is_file() or path.is_symlink() or path.stat().st_size > READABLE:
                continue
            content = path.read_bytes()
            for name in [name for name, value in wanted.items() if value in content]:
                del wanted[name]
                yield name, path


# Programs that start work by the clock: two of them start everything twice.
SCHEDULER = re.compile(
    r"""
    \bcelery\b.*\s(beat|-B|--beat)(\s|$) | \brq-?scheduler\b | \bapscheduler\b | \bperiodiq\b | \bcrontab\b
    """,
    re.VERBOSE,
)


def repeated(commands: Sequence[tuple[str, str, str]], hosts: int) -> Iterator[tuple[str, str, str]]:
    """What each of several hosts runs and is mostly meant to run once: id, message, hint. ``commands`` are kind, name, words."""
    if hosts < 2:
        return
    for kind, name, words in commands:
        if SCHEDULER.search(words):
            yield (
                "W033", f"The {kind} '{name}' is a scheduler, and each of {hosts} hosts runs one: what it starts happens {hosts}"
                " times.",
                "Run it on one host alone, or waive this where its jobs take a lock.",
            )  # fmt: skip
    timers = [name for kind, name, words in commands if kind == "timer" and not SCHEDULER.search(words)]
    if timers:
        yield (
            "I034", f"Each of {hosts} hosts runs the timers {', '.join(timers)}: what they do happens {hosts} times.",
            "A job that must not happen twice takes a lock of the database's.",
        )  # fmt: skip


def is_inside(path: str | Path, directory: str | Path) -> bool:
    path, directory = Path(os.path.realpath(path)), Path(os.path.realpath(directory))
    return path == directory or directory in path.parents
