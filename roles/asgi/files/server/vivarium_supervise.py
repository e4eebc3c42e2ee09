"""Run an ASGI server on the socket that systemd holds, and end it without losing what it holds.

    vivarium_supervise.py --socket PATH [--workers N] --finish SECONDS … -- SERVER [ARGUMENT …]

The listening socket comes as file descriptor 3 with LISTEN_FDS, and is handed on in the same way. With --workers so many servers
share it, each one process; one that dies is started again. Without, the server has workers of its own and this program ends when
it does.

Asked to end (SIGTERM), it removes a file in the instance's own directory; the wrapper vivarium_server sees that and closes
WebSockets. When the last connection is gone, or after so many seconds, the servers are told to end. Whoever stops an instance has
taken the socket's name away before (systemctl stop APP@ID.socket), so that nobody connects any more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time

# A server that ends so soon after the start is not started again: systemd, and a deploy that waits, shall see it (seconds).
SETTLED = 10
# One that dies later is started again after this time (seconds).
PAUSE = 1
# What a server may take to end when it holds nothing any more, before it is killed (seconds).
END = 4
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
# SS_CONNECTING (not taken in yet) and SS_CONNECTED in /proc/net/unix.
HELD = ("02", "03")


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--finish", type=float, required=True)
    # For the wrapper.
    parser.add_argument("--application", required=True)
    parser.add_argument("--lifespan", choices=("on", "off", "auto"), required=True)
    parser.add_argument("--run-lifespan", action="store_true")
    parser.add_argument("--close-code", type=int, default=1012)
    parser.add_argument("--hang-timeout", type=float, default=0)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(words)


def connections(path: str) -> int:
    """How many connections a socket's servers hold, or are about to take in; the drain of an old release asks as well."""
    # Others bind sockets to names of any bytes.
    with open("/proc/self/net/unix", errors="replace") as table:
        rows = (line.split(None, 7) for line in table)
        return sum(1 for row in rows if len(row) == 8 and row[7].strip() == path and row[5] in HELD)


class Supervisor:
    """A server's processes, from the start to the end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.pids: set[int] = set()
        # There as long as the instance is to serve.
        self.serving = os.path.join(os.environ["RUNTIME_DIRECTORY"], "serving")

    def run(self) -> int:
        if os.environ.get("LISTEN_FDS") != "1":
            print("no socket was handed over: start the unit's .socket first", file=sys.stderr, flush=True)
            return 1
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        open(self.serving, "w").close()
        started = time.monotonic()
        for _ in range(self.options.workers or 1):
            self.start()
        while True:
            if signal.sigwait(SIGNALS) != signal.SIGCHLD:
                return self.finish()
            for pid, status in self.reap():
                if status == 0 and self.options.workers and self.left_word(pid):
                    self.start()  # it was made to end after so many requests
                    continue
                print(f"server process {pid} ended with {status}", file=sys.stderr, flush=True)
                if self.options.workers is None or time.monotonic() - started < SETTLED:
                    self.end(0)
                    return status or 1
                time.sleep(PAUSE)
                self.start()

    def start(self) -> None:
        pid = os.fork()
        if pid:
            self.pids.add(pid)
            return
        try:
            os.environ.update(self.environment(), LISTEN_PID=str(os.getpid()))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.execvp(self.options.command[0], self.options.command)  # noqa: S606  (a server, as itself)
        except BaseException as error:
            print(f"{self.options.command[0]}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(127)

    def environment(self) -> dict[str, str]:
        """What vivarium_server, which the server runs in place of the application, wants to know."""
        options = self.options
        places = [os.path.dirname(os.path.abspath(__file__)), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        return {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, places))),
            "VIVARIUM_APPLICATION": options.application,
            "VIVARIUM_SERVING": self.serving,
            "VIVARIUM_LIFESPAN": options.lifespan,
            "VIVARIUM_RUN_LIFESPAN": "1" if options.run_lifespan else "",
            "VIVARIUM_CLOSE_CODE": str(options.close_code),
            "VIVARIUM_HANG_TIMEOUT": str(options.hang_timeout),
        }

    def left_word(self, pid: int) -> bool:
        """Whether a worker has said that it was told to end (vivarium_heartbeat.leave_word)."""
        return os.path.exists(os.path.join(os.environ["RUNTIME_DIRECTORY"], f"ended-{pid}"))

    def reap(self) -> list[tuple[int, int]]:
        """The processes that have ended, with what the shell would say of it."""
        ended = []
        while self.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid in self.pids:
                self.pids.remove(pid)
                code = os.waitstatus_to_exitcode(status)
                ended.append((pid, code if code >= 0 else 128 - code))
        return ended

    def finish(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.serving)
        deadline = time.monotonic() + self.options.finish
        quiet = 0
        # Two quiet looks in a row: a connection may be on its way in.
        while quiet < 2 and self.pids and time.monotonic() < deadline:
            quiet = 0 if connections(self.options.socket) else quiet + 1
            time.sleep(0.1)
            self.reap()
        self.end(END)
        return 0

    def end(self, seconds: float) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.pids and time.monotonic() < deadline:
            signal.sigtimedwait((signal.SIGCHLD,), 0.1)
            self.reap()
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(Supervisor(arguments(sys.argv[1:])).run())
