# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an application's releases lie on a host; shared by the modules of a deploy and the host's own drain."""

from __future__ import annotations

import contextlib
import fcntl
import html
import json
import os
import re
import select
import shlex
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO, Any, TypeVar

    T = TypeVar("T")

ROOT = Path("/srv")
# Programs of the role; __asgi_programs in its vars is the same.
PROGRAMS = "/usr/local/lib/asgi"
# The steps as people know them (docs/releases.md).
STEPS = {
    "locked": "lock",
    "staged": "stage",
    "built": "build",
    "configured": "configure",
    "checked": "check",
    "collected": "static",
    "migrated": "migrate",
    "started": "start",
    "live": "switch",
}


# Of what an application or a step of a deploy prints, no more than its end is kept (bytes).
OUTPUT_LIMIT = 4 * 1024 * 1024
# What is read of a file that somebody else could have written (bytes).
FILE_LIMIT = 16 * 1024 * 1024
# A program of the system that has not answered by then will not (seconds).
ANSWER_LIMIT = 60
# How often to look whether a program that prints nothing has ended (seconds).
LOOK = 0.2
# Whoever holds the lock renews it with each step. One whose run cannot be asked counts as left behind after this time (seconds).
LOCK_LIMIT = 3600


class ReleaseError(Exception):
    """A step of a deploy failed: the first line says why, and what the step printed is below it; `complete` is all for people."""

    def __init__(self, message: str, complete: bool = False) -> None:
        super().__init__(message)
        self.complete = complete


class LockedError(Exception):
    """Somebody else has the lock; `holder` is what the lock says of him."""

    def __init__(self, holder: dict[str, Any]) -> None:
        super().__init__()
        self.holder = holder


class Application:
    """One application of this host: its directories, its releases and their units."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = ROOT / name
        self.releases_directory = self.root / "releases"
        self.live_link = self.root / "live"
        self.lock = Lock(self.root / "deploy.lock")
        self.log_path = self.root / "deploys.log"

    def release(self, identifier: str) -> Release:
        return Release(self, identifier)

    def releases(self) -> list[Release]:
        """Every release on disk, oldest first (an identifier begins with its time)."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.releases_directory) if entry.is_dir())
        except FileNotFoundError:
            names = []
        return [Release(self, name) for name in names]

    def live(self) -> Release | None:
        """The release that requests go to, or None."""
        try:
            return Release(self, os.path.basename(os.readlink(self.live_link)))
        except FileNotFoundError:
            return None

    def running_units(self, *more_states: str) -> dict[str, str]:
        """Its instances, background processes and what drains old ones, if they run or are about to: units and their states."""
        prefixes = (f"{self.name}@", f"{self.name}-")
        units = active_units(f"{self.name}*@*.service", *more_states)
        return {unit: state for unit, state in units.items() if unit.startswith(prefixes)}

    def point_live_at(self, release: Release | None) -> None:
        """Switch in one rename: the socket, the code and the environment of `live` change together. None takes it away."""
        if release is None:
            self.live_link.unlink(missing_ok=True)
        else:
            scratch = self.root / ".live.new"
            scratch.unlink(missing_ok=True)
            scratch.symlink_to(f"releases/{release.id}")
            os.replace(scratch, self.live_link)
        sync_directory(self.root)

    def log(self, **entry: Any) -> None:
        """One line for each deploy: a JSON object at the end of deploys.log, and the same in the journal."""
        entry = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry}
        with open(os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as stream:
            stream.write(json.dumps(entry) + "\n")
        words = [f"{entry['action']} of release {entry['release']}"]
        words += [f"({entry['version']})"] if entry["version"] else []
        words += [f"by {entry['by']} on {entry['controller']}: {entry['outcome']}"]
        words += [f"at the step {entry['step']}: {entry['reason']}"] if entry["step"] else []
        tell_journal(
            self.name,
            " ".join(words),
            5 if entry["outcome"] == "good" else 3,
            {key: json.dumps(value) if isinstance(value, dict) else value or "" for key, value in entry.items()},
        )


class Lock:
    """The right to change an application's releases. A run of a playbook has it from its first step to its last.

    The file says who has it: the holder. It lies on the disk, so that the next run can tell of one that was cut off, and nobody
    but root can open it. Whoever works on the releases (a step of a deploy, or a drain that takes requests back) has the kernel's
    lock on the file meanwhile: it ends with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream: IO[str] | None = None

    def holder(self) -> dict[str, Any]:
        """Who has the lock, or had it when he was killed, and what for; empty where nobody does."""
        try:
            return json.loads(read_regular(self.path) or b"{}")
        except (OSError, ValueError):
            return {}  # written by a process that was killed meanwhile, or is just being written

    def enter(self, patience: float, impatient: Callable[[dict[str, Any]], bool] = lambda holder: False) -> None:
        """Begin to work, as soon as nobody else does; LockedError names the holder where that takes too long.

        `impatient` tells by the holder whether waiting for him has no point.
        """
        self.open()
        deadline = time.monotonic() + patience
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.is_open_to_others():
                    self.renew()
                if self.is_current():
                    return
            if not self.is_current():  # renewed meanwhile
                self.leave()
                self.open()
                continue
            holder, late = self.holder(), time.monotonic() > deadline
            if late and self.is_open_to_others() and not impatient(holder):
                self.renew()
                return
            if late or impatient(holder):
                self.leave()
                raise LockedError(holder)
            time.sleep(0.2)

    def is_current(self) -> bool:
        return os.path.samestat(os.fstat(self.opened().fileno()), os.stat(self.path))

    def is_open_to_others(self) -> bool:
        """Whether the file is of a version whose lock anybody could open: who has it open can hold it for ever."""
        return bool(os.fstat(self.opened().fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO))

    def renew(self) -> None:
        """A file in its place that nobody has open, with the kernel's lock from its first moment."""
        holder, scratch = self.holder(), self.path.with_name(f".{self.path.name}.new")
        self.leave()
        scratch.unlink(missing_ok=True)
        self.stream = os.fdopen(os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+")
        fcntl.flock(self.opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.write(holder)
        os.replace(scratch, self.path)

    def open(self) -> None:
        self.stream = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")

    def write(self, holder: dict[str, Any] | None) -> None:
        """Say who has the lock from now on; None gives it up."""
        stream = self.opened()
        stream.seek(0)
        stream.truncate()
        stream.write(json.dumps(holder) if holder else "")
        stream.flush()

    def opened(self) -> IO[str]:
        if self.stream is None:
            raise ValueError(f"{self.path} is not entered")
        return self.stream

    def leave(self) -> None:
        """The work is done; the holder remains."""
        if self.stream:
            self.stream.close()
            self.stream = None


class Release:
    """One immutable release: its directory, its record and its systemd unit."""

    def __init__(self, application: Application, identifier: str) -> None:
        self.application = application
        self.id = identifier
        self.path = application.releases_directory / identifier
        self.unit = f"{application.name}@{identifier}.service"
        self.socket_unit = f"{application.name}@{identifier}.socket"
        self.socket = f"/run/asgi-{application.name}/{identifier}.sock"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Release) and (self.application.name, self.id) == (other.application.name, other.id)

    def __hash__(self) -> int:
        return hash((self.application.name, self.id))

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the release; empty where it was never staged whole."""
        try:
            return json.loads(read_regular(self.path / "release.json"))
        except (OSError, ValueError):
            return {}

    def note(self, **changes: Any) -> None:
        """Add to the record, atomically. Root alone reads it: it holds digests of the environment."""
        write_private(self.path / "release.json", {**self.record, **changes})


def write_private(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON for root alone, atomically. What others made is not indented: nested deep enough, spaces would fill the disk."""
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream, indent=indent, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(scratch, path)


class Watch:
    """Whether a release that has just gone live stays up.

    Only failures count. A server that ends its workers after so many requests, and a program that has done its work and is
    started again, do what they were told to.
    """

    def __init__(self, release: Release, settle_time: float) -> None:
        record = release.record
        self.release = release
        self.until = record.get("live_since", 0) + settle_time
        self.units = [release.unit, *process_units(release, record.get("processes", []))]
        self.workers = record.get("workers", 1)
        self.begun = time.time()
        self.states: dict[str, dict[str, str]] = {}
        self.since: dict[str, str | None] = {}
        self.restarts: dict[str, list[float]] = {}
        self.parent: str | None = None
        self.children: set[str] = set()

    def over(self) -> bool:
        return time.time() >= self.until

    def complaint(self) -> str | None:
        """What is wrong with it, without a secret; None while it stays up."""
        found = self.look()
        return found and Mask(self.release)(found)

    def look(self) -> str | None:
        # Programs that start twice a second would be felt on the host; as long as the same processes live, nothing is asked.
        if not (self.since and all(since and process_start(pid) == since for pid, since in self.since.items())):
            for unit in self.units:
                state = systemctl_show(unit, "ActiveState", "NRestarts", "MainPID", "Result")
                complaint = self.complaint_of(unit, state)
                if complaint:
                    return complaint
            self.since = {state["MainPID"]: process_start(state["MainPID"]) for state in self.states.values()}
        if lost := self.lost_workers():
            return last_words(self.release.unit, "lost a worker that was not told to end", lost)
        return None

    def complaint_of(self, unit: str, state: dict[str, str]) -> str | None:
        active, before = state.get("ActiveState"), self.states.get(unit)
        if active not in ("active", "activating") or state.get("Result", "success") != "success":
            return last_words(unit, "does not stay up")
        self.states[unit] = state
        if not before or before["NRestarts"] == state["NRestarts"]:
            return None
        if has_failed(unit, self.begun):
            return last_words(unit, "was started again")
        if unit == self.release.unit:
            return None
        times = self.restarts.setdefault(unit, [])
        times.append(time.monotonic())
        often = len(times) >= OFTEN[0] and times[-1] - times[-OFTEN[0]] < OFTEN[1]
        return last_words(unit, "ends by itself, over and over") if often else None

    def lost_workers(self) -> set[str]:
        """The workers that are gone, but for those that their server had end.

        A server with several workers stays up itself and starts a new one for each that ends. With one, its children may be the
        application's own.
        """
        main = self.states[self.release.unit]["MainPID"]
        if self.workers < 2 or not (self.since.get(main) and process_start(main) == self.since[main]):
            self.parent, self.children = None, set()
            return set()
        if not self.parent or not process_start(self.parent):
            # Not the same process as before, or never found: while a worker is replaced there may be one alone.
            self.parent, self.children = worker_processes(main)
        children = child_processes(self.parent) if self.parent else set()
        lost = {pid for pid in self.children - children if not ended_as_told(self.release, pid)}
        self.children = children
        return lost


# A background process that ends without a failure so often within so many seconds does no work.
OFTEN = (3, 15)
# What systemd says of a process of a unit that has failed (SD_MESSAGE_UNIT_PROCESS_EXIT, SD_MESSAGE_UNIT_FAILURE_RESULT); of one
# that has not, it says neither.
FAILURES = ("98e322203f7a4ed290d09fe03c09fe15", "d9b373ed55a64feb8242e02dbe79a49c")


def has_failed(unit: str, since: float) -> bool:
    """Whether a process of a unit has failed since a time, though the unit runs again."""
    found = run([
        "journalctl", "--quiet", "--no-pager", "--output", "cat", "--lines", "1", f"--since=@{int(since)}",
        "_PID=1", f"UNIT={unit}", *(f"MESSAGE_ID={identifier}" for identifier in FAILURES),
    ])[1]  # fmt: skip
    return bool(found.strip())


def ended_as_told(release: Release, pid: str) -> bool:
    """Whether a worker left word that its server had it end (files/server/vivarium_heartbeat.py).

    The directory is the application's own: nothing but the name counts, and with it the application can hide but its own fall.
    """
    return os.path.lexists(f"/run/asgi-{release.application.name}-{release.id}/ended-{pid}")


def last_words(unit: str, what: str, pids: Iterable[str] = ()) -> str:
    """What became of a unit, in one line with the last one that it wrote itself, of these processes if there is one.

    The last lines of the journal are below it.
    """
    own = run(["journalctl", "--quiet", "--no-pager", "--output", "cat", "--lines", "30", f"_SYSTEMD_UNIT={unit}"])[1]
    lines = [printable(line).strip() for line in own.splitlines() if line.strip()]
    of_them = [line for line in lines if set(pids) & set(re.findall(r"[0-9]+", line))]
    words = (of_them or lines or [""])[-1][:300]
    return f"{unit} {what}{': ' + words if words else ''}\nIts last lines:\n{journal(unit)}"


def fallen(application: Application) -> Release | None:
    """The last release that was live and did not stay up, while nothing that is newer has gone live; None where there is none."""
    live = application.live()
    for release in reversed(application.releases()):
        if release.record.get("state") == "bad":
            return release if release.record.get("step") == "settle" else None
        if release == live:
            break
    return None


def tell_of_fallen(application: Application) -> list[str]:
    """What a person who comes by has to know of it first, in a few lines; empty where there is nothing."""
    release, live = fallen(application), application.live()
    if not release:
        return []
    record = release.record
    reason, *lines = printable(str(record.get("reason") or "the reason is not known")).splitlines()
    gone = (
        "there was none to go back to, so it is still live"
        if release == live
        else f"requests went back to {live and live.id}"
    )
    told = [f"{application.name}: release {release.id} ({record.get('version')}) did not stay up, and {gone}.", reason]
    told += [f"  {line[:500]}" for line in lines[1:][-10:]]
    return [
        *told,
        f"All of it: journalctl --unit '{application.name}*@{release.id}.service'. Mend it and deploy again.",
    ]


def process_units(release: Release, processes: Iterable[str]) -> list[str]:
    """The units of a release's background processes."""
    return [f"{release.application.name}-{process}@{release.id}.service" for process in processes]


def process_start(pid: int | str) -> str | None:
    """When a process started, in the kernel's own unit; None once it has ended."""
    try:
        # The name in parentheses may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].decode().split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]


def child_processes(pid: str) -> set[str]:
    try:
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return set()


def worker_processes(pid: str) -> tuple[str | None, set[str]]:
    """The process that has a server's workers, its main process or one below it, and the workers; None where there are no two."""
    children = {pid}
    while len(children) == 1:
        (pid,) = children
        children = child_processes(pid)
    return (pid, children) if children else (None, set())


def tell_journal(identifier: str, message: str, priority: int, fields: dict[str, Any]) -> None:
    """A message with fields of its own (journalctl VIVARIUM_OUTCOME=failed), in the journal's own protocol."""
    fields = {
        "MESSAGE": message,
        "SYSLOG_IDENTIFIER": identifier,
        "PRIORITY": priority,
        **{f"VIVARIUM_{name.upper()}": value for name, value in fields.items()},
    }
    lines = "".join(f"{name}={first_line(value)}\n" for name, value in fields.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.connect("/run/systemd/journal/socket")
        journald.send(lines.encode())


class Mask:
    """Takes a release's secrets out of what its programs print, before that is shown, logged or kept.

    They are masked as they are, percent-encoded and quoted, and so are the passwords in those that are URLs. A value of less than
    four letters is left: as text it means nothing.
    """

    def __init__(self, release: Release, more: Iterable[str] = ()) -> None:
        values = set(more)
        with contextlib.suppress(OSError, ValueError, KeyError):
            names = json.loads(read_regular(release.path / "lib/vivarium_gate.json"))["secrets"]
            found = variables(read_regular(release.path / "env").decode(errors="replace"))
            values |= {found[name] for name in names if name in found}
        patterns = sorted(
            {form for value in values for part in secret_parts(value) for form in forms_of(part)}, key=len, reverse=True
        )
        self.pattern = re.compile("|".join(map(pattern_of, patterns))) if patterns else None

    def __call__(self, text: str) -> str:
        return self.pattern.sub(MASKED, text) if self.pattern else text

    def of_all(self, value: Any) -> Any:
        """The same for the texts in what was made of JSON."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, list):
            return [self.of_all(each) for each in value]
        return {key: self.of_all(each) for key, each in value.items()} if isinstance(value, dict) else value


MASKED = "***"
# Between our quotes a value may be several lines.
ASSIGNMENT = re.compile(
    r'^(?P<name>[A-Za-z_]\w*)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\n]*))', re.MULTILINE | re.DOTALL
)


def variables(environment: str) -> dict[str, str]:
    """The variables of an environment file; one that somebody has written by hand may be without our quotes."""
    found = {}
    for assignment in ASSIGNMENT.finditer(environment):
        if assignment["quoted"] is not None:
            found[assignment["name"]] = re.sub(r"\\(.)", r"\1", assignment["quoted"], flags=re.DOTALL)
        else:
            with contextlib.suppress(ValueError):
                found[assignment["name"]] = "".join(shlex.split(assignment["bare"]))
    return found


SEPARATORS = re.compile(r"[\s,;]+")
# What a connection string calls a password in its middle.
NAMED = re.compile(r"(?:pass|password|passwd|pwd|token|secret|key)=([^\s,;&]+)", re.IGNORECASE)


def secret_parts(value: str) -> Iterator[str]:
    """A secret, each line of it, each of a list of them, and the password or token where it is a URL or has one by its name."""
    yield value
    lines = value.splitlines()
    yield from (line for line in lines if len(lines) > 1 and len(line) >= 8)
    words = SEPARATORS.split(value)
    yield from (word for word in words if len(words) > 1 and len(word) >= 12 and "://" not in word and "=" not in word)
    for password in NAMED.findall(value):
        yield from (password, unquote(password))
    for url in dict.fromkeys([value, *words]):
        account, at, _host = url.partition("://")[2].rpartition("@")
        if at and ":" in account:
            password = account.partition(":")[2]
            yield from (password, unquote(password))
        elif at and url.startswith("http"):  # a token
            yield from (account, unquote(account))


def forms_of(value: str) -> set[str]:
    """How a program may write a value."""
    forms = {value, quote(value), quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    forms |= {json.dumps(value, ensure_ascii=False)[1:-1], ascii(value)[1:-1], html.escape(value)}
    forms |= {repr(value.encode(errors="replace"))[2:-1], value.replace("'", "'\"'\"'"), value.replace("'", "''")}
    return {form for each in forms for form in (each, each.replace("%", "%%")) if len(form) >= 4}


def pattern_of(form: str) -> str:
    # A short one is a word of its own; of a long one the beginning is enough: pydantic leaves out the middle.
    if len(form) < 8:
        return rf"(?<!\w){re.escape(form)}(?!\w)"
    return re.escape(form) + (rf"|{re.escape(form[:12])}[^\s'\"]*" if len(form) >= 24 and "://" not in form else "")


def first_line(value: object) -> str:
    """The first line of a text, without what a terminal or a protocol would take for more than text."""
    return printable(next(iter(str(value).splitlines()), ""))


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run(command: Sequence[str], timeout: float | None = ANSWER_LIMIT, **options: Any) -> tuple[int, str]:
    """Run a program of the system and return its exit code and the end of what it printed, as text whatever the bytes are.

    It has printed what it will once it has ended: somebody else, whom it gave its output to, may keep that open for ever.
    """
    with subprocess.Popen(
        command, **{"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}, stdout=subprocess.PIPE
    ) as process:
        kept, left = bytearray(), OUTPUT_LIMIT
        deadline = None if timeout is None else time.monotonic() + timeout
        pipe = process.stdout
        while pipe and left > 0:
            ended = process.poll() is not None
            ready, _, _ = select.select([pipe], [], [], 0 if ended else LOOK)
            block = os.read(pipe.fileno(), 65536) if ready else b""
            if (ready and not block) or (ended and not ready):
                break
            if ended:
                left -= len(block)
            elif deadline is not None and time.monotonic() > deadline:
                process.kill()
                break
            kept += block
            del kept[:-OUTPUT_LIMIT]
    return process.returncode, bytes(kept).decode(errors="replace")


def printable(text: str) -> str:
    """A text that no terminal takes for commands: line ends and tabs are all that is left of control characters."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def read_regular(path: str | Path, limit: int = FILE_LIMIT) -> bytes:
    """The bytes of a regular file of bounded size; OSError where it is a link, a pipe, a device or too large."""
    # A pipe without a writer would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"{path} is larger than {limit // 1024 // 1024} MiB")
    return content


def processes_of(uid: int) -> list[int]:
    """The processes that run with a user's rights, or could take them; what has ended and waits to be buried is none."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            # Not the owner of the directory in /proc: a process may hide behind root there (prctl(2), PR_SET_DUMPABLE).
            fields = dict(line.split(b":", 1) for line in status.read_bytes().splitlines() if b":" in line)
        except OSError:
            continue
        if str(uid).encode() in fields[b"Uid"].split() and not fields[b"State"].strip().startswith(b"Z"):
            found.append(int(status.parent.name))
    return found


def end_processes(uid: int, seconds: float = 10) -> None:
    """Nothing of a user runs any more when this returns; ReleaseError where the kernel does not let go of something."""
    deadline = time.monotonic() + seconds
    while pids := processes_of(uid):
        if time.monotonic() > deadline:
            raise ReleaseError(f"process {pids[0]} of an earlier build does not end")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def active_units(pattern: str, *more_states: str) -> dict[str, str]:
    """The units of a pattern that run or are about to, by name, and the state of each."""
    states = ",".join(["active", "activating", "reloading", *more_states])
    listing = run(["systemctl", "list-units", "--plain", "--no-legend", f"--state={states}", pattern])[1]
    rows = (line.split(None, 4) for line in listing.splitlines())
    return {row[0]: row[2] for row in rows if len(row) > 3}


def systemctl_show(unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit as systemd has them, by name."""
    shown = run(["systemctl", "show", f"--property={','.join(properties)}", unit])[1]
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def journal(unit: str, lines: int = 30) -> str:
    """The last lines that a unit wrote, for an error message."""
    return printable(
        run(["journalctl", "--unit", unit, "--lines", str(lines), "--output", "cat", "--no-pager"])[1]
    ).strip()


def wait_until(question: Callable[[], T | None], seconds: float, pause: float = 0.05) -> T | None:
    """Ask until the answer is None (good) or the time is over; returns the last complaint."""
    deadline = time.monotonic() + seconds
    while True:
        complaint = question()
        if complaint is None or time.monotonic() >= deadline:
            return complaint
        time.sleep(pause)
