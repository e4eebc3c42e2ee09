# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Counts what a play costs on its hosts: every execution of a module, and every command and file sent for it.

A task may run no module (debug), one, or several (copy and template run stat, then the file is sent, then copy), so counting
tasks would mislead. Workers are forked from the process that loads callbacks: what is wrapped here is wrapped in all of them.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: module_runs
type: aggregate
short_description: Count the module runs of a play
description: Appends one JSON line to the file BENCH_MODULE_RUNS for each run of a module and each command or file sent to a host.
requirements: [the environment variable BENCH_MODULE_RUNS]
"""


def note(action: ActionBase, kind: str, name: str, begun: float) -> None:
    """One line, written whole: workers write to the same file."""
    line = {
        "kind": kind,
        "name": name,
        "task": action._task.get_name(),
        "remote": action._connection.transport != "local",
        "seconds": round(time.monotonic() - begun, 3),
    }
    descriptor = os.open(os.environ["BENCH_MODULE_RUNS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)


def counted(method: Callable[..., Any], kind: str, name_of: Callable[..., str]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(action: ActionBase, *args: Any, **kwargs: Any) -> Any:
        begun = time.monotonic()
        try:
            return method(action, *args, **kwargs)
        finally:
            note(action, kind, name_of(action, *args, **kwargs), begun)

    return wrapper


def module_name(action: ActionBase, module_name: str | None = None, *_args: Any, **_kwargs: Any) -> str:
    # host_code carries the collection's modules to a host; the task has the name of the one that runs.
    return action._task.action if module_name in (None, "vivarium.server.host_code") else module_name


class CallbackModule(CallbackBase):
    """Ansible's entry point; it prints nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_runs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        ActionBase._execute_module = counted(ActionBase._execute_module, "module", module_name)
        ActionBase._low_level_execute_command = counted(
            ActionBase._low_level_execute_command, "command", lambda *args, **kwargs: ""
        )
        ActionBase._transfer_file = counted(ActionBase._transfer_file, "file", lambda *args, **kwargs: "")
