#!/usr/bin/python3 -I
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Test nginx's configuration and, where nginx runs, put it in use: end well when that has happened, fail when it has not.

nginx's own reload only sends a signal and calls that a success: a configuration that cannot be applied (a port that another
program holds) is noted in a log while the old one goes on. What a log says is no proof either, visitors write to it. So each
reload adds a server of its own to the configuration: on a unix socket named after the reload, in a directory of root's alone.
Who answers there has the new configuration. When nginx's main process waits for signals again and nobody answers, it has not.
"""

import contextlib
import fcntl
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

UNIT = "nginx.service"
NGINX = "/usr/sbin/nginx"
SITES = "/etc/nginx/sites.d"
DROPIN = "/etc/systemd/system/nginx.service.d/vivarium.conf"
# What of it is the sandbox.
WALL = re.compile(r"(Capability|NoNew|Protect|UMask|ReadWrite|Private|Restrict|Lock|MemoryDeny|SystemCall)[A-Za-z]*=")
DIRECTORY = "/run/vivarium-nginx"  # the unit's, gone when nginx stops
SERVER = f"{DIRECTORY}/reload.conf"  # nginx.conf includes it
# Seconds. All together are less than the 90 that systemd gives a reload.
BEFORE = 45  # for another reload to end and for the test
AFTER = 30  # from the signal to the answer
GRACE = 5  # for the new workers to answer, once the main process has done its part; getting a port takes it 2.5 before


class Failed(Exception):
    """A sentence for the operator."""


def main() -> None:
    # A log that nginx -t has to make is not for everybody.
    os.umask(0o027)
    before = time.monotonic() + BEFORE
    with directory() as handle:
        wait_for_other_reloads(handle, before)
        pid, pending = main_process()
        if not pid:
            test(before)
            return
        name = secrets.token_hex(8)
        former = read()
        write(
            f"# The reload of {time.strftime('%Y-%m-%d %H:%M:%S')}, which asks here whether it has happened.\n"
            f"server {{ listen unix:{DIRECTORY}/{name}.sock; access_log off; return 200 {name}; }}\n"
        )
        try:
            test(before)
            if pending:
                test(before, *sandbox())
            reload(pid, name)
        except BaseException:
            # nginx goes on with the former one, so that is what is on disk.
            write(former)
            remove_sockets(lambda found: found == name)
            raise
        remove_sockets(lambda found: found != name)


@contextlib.contextmanager
def directory() -> Iterator[int]:
    """The directory, open; it is root's, or nothing that lies in it means anything."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(DIRECTORY, 0o700)
    try:
        handle = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise Failed(f"{DIRECTORY}, where a reload asks nginx, cannot be used: {error.strerror}") from error
    try:
        info = os.fstat(handle)
        if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
            raise Failed(f"{DIRECTORY} must belong to root alone (mode 0700): remove it and restart nginx")
        yield handle
    finally:
        os.close(handle)


def wait_for_other_reloads(handle: int, until: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise Failed(f"another reload of nginx has not ended within {BEFORE} seconds; try again") from None
        time.sleep(0.1)


def main_process() -> tuple[int, bool]:
    """nginx's main process, and whether its unit has changed: systemd says it, in the environment of ExecReload or when asked."""
    if pid := os.environ.get("MAINPID", ""):
        return int(pid), False
    command = ["systemctl", "show", "--property", "MainPID,NeedDaemonReload,DropInPaths", UNIT]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=BEFORE).stdout
    known = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    # systemd 252 does not see that a directory of drop-ins is new.
    pending = known.get("NeedDaemonReload") == "yes" or DROPIN not in known.get("DropInPaths", "").split()
    return int(known.get("MainPID") or 0), pending


def sandbox() -> list[str]:
    """What runs a program in the sandbox that nginx is in from its next start on: what it may not do then is known before."""
    with open(DROPIN) as file:
        lines = [line.strip() for line in file]
    return [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        *(f"--property={x}" for x in lines if WALL.match(x)),
    ]


def test(until: float, *prefix: str) -> None:
    try:
        done = subprocess.run(
            [*prefix, NGINX, "-t"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=max(1, until - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"nginx -t has not ended within {BEFORE} seconds; nginx was not reloaded") from None
    if done.returncode != 0:
        where = " in the sandbox of its unit" if prefix else ""
        raise Failed(
            f"nginx refuses the new configuration{where} and goes on with the old one:\n{printable(done.stdout)}"
        )
    # A warning to nginx: which of the two answers is decided by the names of their files.
    twice = sorted(set(re.findall(r"conflicting server name \"[^\"]+\"", printable(done.stdout))))
    if twice:
        raise Failed(
            f"two sites want to answer for one name ({'; '.join(twice)}), so nginx goes on with the old configuration: another"
            f" file in {SITES} has it, of a site that is not listed any more (nginx_remove_sites) or in the raw directives of"
            " one, or a file of nginx_include"
        )


def reload(pid: int, name: str) -> None:
    """Signal the main process and wait until somebody answers, or until it is certain that nobody will."""
    started = time.time()
    os.kill(pid, signal.SIGHUP)
    until = time.monotonic() + AFTER
    done_since = None
    while not answers(name):
        now = time.monotonic()
        done_since = (done_since or now) if waits(pid) else None
        if now > until or (done_since and now - done_since > GRACE):
            raise Failed(
                "nginx did not take the new configuration and goes on with the old one:\n"
                + (complaints(pid, started) or f"its main process said nothing (journalctl --unit {UNIT})")
            )
        time.sleep(0.02)


def answers(name: str) -> bool:
    """Whether a worker of the new configuration answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(f"{DIRECTORY}/{name}.sock")
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while len(answer) < 4096 and (part := connection.recv(4096)):
                answer += part
        except OSError:
            return False
    return answer.endswith(b"\r\n\r\n" + name.encode())


def waits(pid: int) -> bool:
    """Whether nginx's main process waits for a signal: it lets none through while it works on one."""
    try:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        raise Failed(f"nginx has ended during the reload (journalctl --unit {UNIT})") from None
    hangup = 1 << (signal.SIGHUP - 1)
    return not (int(fields["SigBlk"], 16) | int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)) & hangup


def complaints(pid: int, started: float) -> str:
    """What the main process itself said since then, to explain the failure; the journal knows who wrote a line."""
    command = "journalctl --quiet --no-pager --output cat --lines 100 --since".split()
    command += [f"@{started:.6f}", f"_PID={pid}"]
    try:
        output = subprocess.run(command, capture_output=True, check=False, timeout=10).stdout
    except subprocess.TimeoutExpired:
        return ""
    return "\n".join(dict.fromkeys(line for line in printable(output).splitlines() if "[emerg]" in line))


def printable(output: bytes) -> str:
    """A program's output without what a terminal would act on."""
    text = output.decode("utf-8", "replace").strip()
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


def read() -> str | None:
    with contextlib.suppress(FileNotFoundError), open(SERVER) as file:
        return file.read()
    return None


def write(text: str | None) -> None:
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SERVER)
        return
    scratch = f"{SERVER}~"
    with open(scratch, "w") as file:
        file.write(text)
    os.rename(scratch, SERVER)


def remove_sockets(which: Callable[[str], bool]) -> None:
    """nginx removes the socket of a server that it gives up; not those that it never had in use."""
    for found in os.listdir(DIRECTORY):
        if (match := re.fullmatch(r"([0-9a-f]{16})\.sock", found)) and which(match[1]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{DIRECTORY}/{found}")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
