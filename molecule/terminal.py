"""A terminal of a test host, or of this machine, with a person at it who types and reads."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time


class Terminal:
    """A command on a host, or here where that is None, at a terminal of its own."""

    def __init__(self, host, *command, **options):
        self.screen, terminal = pty.openpty()
        there = ["podman", "exec", "--interactive", "--tty", host.backend.name] if host else []
        self.process = subprocess.Popen(
            [*there, *command], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, **options
        )
        os.close(terminal)
        self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.kill()
        self.process.wait()
        os.close(self.screen)

    def until(self, text, seconds=90):
        """Wait for a text on the screen; what comes after it is looked at next."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.screen], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            try:
                self.seen += os.read(self.screen, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended before {text!r} came: {self.seen!r}") from None
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text):
        os.write(self.screen, text.encode())

    def ends(self):
        return self.process.wait(timeout=300)
