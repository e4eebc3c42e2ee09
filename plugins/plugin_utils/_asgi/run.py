# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells runs of ansible-playbook apart, whether one still lives, and what its workers have agreed on.

Ansible takes each host's task in a process of its own, a fork, which hands nothing to those of other hosts before all of them
have ended the task. What they must have in common (one commit, one name of a release, one migration, the news that it failed
elsewhere) goes by notes: files in the directory that Ansible makes for each run, and removes at its end. The first to write one
is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleError

PROC = Path("/proc")


def cache_directory() -> Path:
    """Where this controller keeps what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vivarium").expanduser()


def this_run() -> str:
    """This run: its controller and its process, which is not the worker's that executes a task but the one it was forked from."""
    parent = multiprocessing.parent_process()
    # The parent of an orphan would be the system's first process, which never dies.
    pid = parent.pid if parent else os.getpid()
    start = _started_at(pid)
    if not start:
        raise AnsibleError("this run was killed: its tasks end here")
    return f"{socket.gethostname()}/{_boot()}/{pid}/{start}"


def is_dead(run: str) -> bool:
    """Whether a run was one of this very controller and is gone; of other controllers nothing is known."""
    controller, boot, pid, start = run.rsplit("/", 3)
    if controller != socket.gethostname():
        return False
    return boot != _boot() or str(_started_at(pid)) != start


def agreed(question: str, answer: Callable[[], str]) -> str:
    """The answer of the first worker of this run that asks; the same for every host and every later task."""
    note = _note(question)
    if not note.exists():
        note.parent.mkdir(exist_ok=True)
        # Written beside its place: who finds a note finds all of it.
        with tempfile.NamedTemporaryFile("w", dir=note.parent) as scratch:
            scratch.write(answer())
            scratch.flush()
            # Another worker may have been faster.
            with contextlib.suppress(FileExistsError):
                os.link(scratch.name, note)
    return note.read_text()


def known(question: str) -> str | None:
    """What this run has agreed on; None where no worker has answered yet."""
    try:
        return _note(question).read_text()
    except FileNotFoundError:
        return None


def _note(question: str) -> Path:
    this_run()  # a worker whose run was killed agrees on nothing any more
    if not os.path.isdir(constants.DEFAULT_LOCAL_TMP):  # without the notes, "nobody has failed" would be a guess
        raise AnsibleError(
            f"{constants.DEFAULT_LOCAL_TMP}, where this run keeps its notes, is gone: its tasks end here"
        )
    return Path(constants.DEFAULT_LOCAL_TMP, "vivarium", hashlib.sha256(question.encode()).hexdigest())


def _started_at(pid: int | str | None) -> str | None:
    """When a process of this controller started, in whatever unit the system has; None where there is no such process."""
    if not PROC.is_dir():
        return _started_at_by_ps(pid)
    try:
        state, *fields = (PROC / f"{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    # A zombie does nothing any more: it waits for its parent to take notice.
    return None if state == "Z" else fields[18]


def _started_at_by_ps(pid: int | str | None) -> str | None:
    """The same on macOS and BSD, as a date."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    shown = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"}, capture_output=True, text=True, check=False
    )
    state, _space, started = " ".join(shown.stdout.split()).partition(" ")
    return None if shown.returncode or state.startswith("Z") else started or None


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
