"""A background process or a task by the clock: it writes down who runs it, and how."""

import json
import os
import pathlib
import signal
import sys
import time

HOME = pathlib.Path("/var/lib/asgi-tide")
kind, release = sys.argv[1], os.environ["RELEASE"]


def finish(*_signal):
    """Told to stop, it first ends the task that it is at: one that takes 5 s, if there is one."""
    task = HOME / "task"
    if task.exists():
        task.unlink()
        time.sleep(5)
        (HOME / "done").write_text(release)
    sys.exit()


signal.signal(signal.SIGTERM, finish)
(HOME / kind).write_text(json.dumps([release, *sys.argv[2:]]))
while kind == "worker":
    time.sleep(60)
