# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of a project as text and as syntax, for reading alone: bounded, inside the project, and nothing of it is run."""

from __future__ import annotations

import ast
import functools
import os
import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import read_regular
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.source import NEVER_SENT

# What is read of one file (bytes): of code, and of a lock file.
MOST_CODE, MOST_LOCKED = 256 * 1024, 16 * 1024 * 1024
# And of all code: its syntax takes some fifty times as much memory.
MOST_IN_ALL = 3 * 1024 * 1024
# How many files and directories are looked at, how deep, and how many files of Python are read.
MOST_FOUND, DEEPEST, MOST_READ = 20_000, 6, 600
# What says nothing of how a project is served.
NOT_LOOKED_AT = NEVER_SENT | {
    "tests",
    "test",
    "migrations",
    "locale",
    "static",
    "staticfiles",
    "media",
    "docs",
    "build",
    "dist",
}
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Tree:
    """A directory, and what lies in it by path from there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._parsed: dict[str, ast.Module] = {}
        self._read = 0

    def text(self, name: str, most: int = MOST_CODE) -> str | None:
        """A file, or a link to one inside the directory; None for what is not there, leads elsewhere, or is too large."""
        try:
            real = Path(os.path.realpath(self.root / name))
            if self.root not in real.parents:
                return None
            return read_regular(real, most).decode("utf-8-sig", errors="replace")
        except (OSError, ValueError):
            return None

    def toml(self, name: str) -> dict[str, Any]:
        """A file of TOML; nothing for one that is none."""
        try:
            return tomllib.loads(self.text(name, MOST_LOCKED) or "")
        except (ValueError, RecursionError):
            return {}

    def has(self, name: str) -> bool:
        return os.path.lexists(self.root / name)

    @functools.cached_property
    def files(self) -> list[str]:
        """Paths of files, the ones near the top first; no link is followed."""
        found: list[str] = []
        level, seen = [""], 0
        for _depth in range(DEEPEST + 1):
            deeper = []
            for place in level:
                for entry in self._entries(place):
                    seen += 1
                    if seen > MOST_FOUND:
                        return found
                    path = os.path.join(place, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in NOT_LOOKED_AT and not entry.name.startswith("."):
                            deeper.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        found.append(path)
            level = deeper
        return found

    def _entries(self, place: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / place) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError:
            return []

    def named(self, name: str) -> list[str]:
        return [path for path in self.files if os.path.basename(path) == name]

    @functools.cached_property
    def code(self) -> dict[str, ast.Module]:
        """What can be read of the Python of the project, by path."""
        paths = [path for path in self.files if path.endswith(".py") and dotted(path)][:MOST_READ]
        return {path: self.parsed(path) for path in paths}

    @functools.cached_property
    def words(self) -> set[str]:
        """Every name that the code of the project uses."""
        found = set[str]()
        for module in self.code.values():
            for node in ast.walk(module):
                found.add(node.arg or "" if isinstance(node, ast.keyword) else name_of(node))
        return found

    def parsed(self, path: str) -> ast.Module:
        """A file as syntax; nothing of one that is no Python, or nested as deep as nobody writes it."""
        if path not in self._parsed:
            text = self.text(path) or ""
            self._read += len(text)
            self._parsed[path] = _syntax(text if self._read <= MOST_IN_ALL else "")
        return self._parsed[path]


def _syntax(text: str) -> ast.Module:
    try:
        # What Python has to say of somebody's code is not for who runs this.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])


def dotted(path: str) -> str | None:
    """The name of the module that a file is, counted from where its path begins; None where Python could not name it."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts) if all(IDENTIFIER.fullmatch(part) for part in parts) else None


def name_of(node: ast.AST | None) -> str:
    """The last word of a name: ``FastAPI`` of ``fastapi.FastAPI``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def string_of(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node


def assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """Names that the top of a module gives values to: name, value, and what it is annotated with."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value, None
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value, node.annotation
