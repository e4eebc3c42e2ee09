# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells runs of ansible-playbook apart, and whether one still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_run():
    """This run: its controller and its process, the parent of the worker that executes a task."""
    pid = os.getppid()
    return f"{socket.gethostname()}/{_boot()}/{pid}/{_started_at(pid)}"


def is_dead(run):
    """Whether a run was one of this very controller and is gone; of other controllers nothing is known."""
    controller, boot, pid, start = run.rsplit("/", 3)
    if controller != socket.gethostname():
        return False
    return boot != _boot() or str(_started_at(pid)) != start


def _started_at(pid):
    """When a process of this controller started, in clock ticks since boot; None where there is no such process."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    # A zombie does nothing any more: it waits for its parent to take notice.
    return None if state == "Z" else fields[18]


def _boot():
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
