# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What git says of a directory, asked in ways that run nothing of its repository."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.code import VERSION
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_line

# Where others than this machine can fetch from.
REMOTE = re.compile(r"(https|ssh)://[A-Za-z0-9][\w.@:/~+-]*|[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:[\w.~/+-]+")
CREDENTIALS = re.compile(r"https://[^/]*@|ssh://[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class Repository:
    """A work tree; ``url`` is empty where nobody else can fetch what it has checked out."""

    top: Path
    url: str = ""
    branch: str = ""
    origin: str = ""


def top_of(place: Path) -> Path | None:
    """The work tree around a directory. A home directory that is one holds no project that it would know of."""
    home = Path(os.path.expanduser("~")).resolve()
    for around in (place, *place.parents):
        if os.path.lexists(around / ".git"):
            return None if around == home and around != place else around
    return None


def of(place: Path) -> Repository | None:
    top = top_of(place)
    if not top:
        return None
    origin = _git(top, "config", "--get", "remote.origin.url")
    branch = _git(top, "symbolic-ref", "--quiet", "--short", "HEAD")
    usable = REMOTE.fullmatch(origin) and not CREDENTIALS.match(origin) and is_line(origin)
    pushed = branch and _git(top, "rev-parse", "HEAD") == _git(top, "rev-parse", f"refs/remotes/origin/{branch}")
    if usable and pushed and VERSION.fullmatch(branch):
        return Repository(top, origin, branch, origin)
    return Repository(top, origin=origin)


def address_of_user(place: Path) -> str:
    """The address that this user signs commits with, to be offered."""
    return _git(place, "config", "--get", "user.email")


def _git(place: Path, *words: str) -> str:
    own = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
    environment = {name: value for name, value in os.environ.items() if name not in own} | {"LC_ALL": "C"}
    try:
        run = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *words],
            cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout[:4096].decode(errors="replace").strip() if run.returncode == 0 else ""
