# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an application's releases lie on a host; shared by the modules of a deploy and the host's own drain."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path("/srv")
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


class ReleaseError(Exception):
    """A step of a deploy failed; the message says why and shows what the step printed."""


class Application:
    """One application of this host: its directories, its releases and their units."""

    def __init__(self, name):
        self.name = name
        self.root = ROOT / name
        self.releases_directory = self.root / "releases"
        self.live_link = self.root / "live"
        self.lock_path = self.root / "deploy.lock"
        self.log_path = self.root / "deploys.log"

    def release(self, identifier):
        return Release(self, identifier)

    def releases(self):
        """Every release on disk, oldest first (an identifier begins with its time)."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.releases_directory) if entry.is_dir())
        except FileNotFoundError:
            names = []
        return [Release(self, name) for name in names]

    def live(self):
        """The release that requests go to, or None."""
        try:
            return Release(self, os.path.basename(os.readlink(self.live_link)))
        except FileNotFoundError:
            return None

    def lock_holder(self):
        """Who deploys, or did when it was killed, and what; empty where nobody does."""
        try:
            return json.loads(self.lock_path.read_text() or "{}")
        except (FileNotFoundError, ValueError):
            return {}  # written by a process that was killed meanwhile, or is just being written

    def running_units(self, *more_states):
        """Its instances, background processes and what drains old ones, if they run or are about to: units and their states."""
        prefixes = (f"{self.name}@", f"{self.name}-")
        units = active_units(f"{self.name}*@*.service", *more_states)
        return {unit: state for unit, state in units.items() if unit.startswith(prefixes)}

    def point_live_at(self, release):
        """Switch in one rename: the socket, the code and the environment of `live` change together. None takes it away."""
        if release is None:
            self.live_link.unlink(missing_ok=True)
        else:
            scratch = self.root / ".live.new"
            scratch.unlink(missing_ok=True)
            scratch.symlink_to(f"releases/{release.id}")
            os.replace(scratch, self.live_link)
        sync_directory(self.root)

    def log(self, **entry):
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


class Release:
    """One immutable release: its directory, its record and its systemd unit."""

    def __init__(self, application, identifier):
        self.application = application
        self.id = identifier
        self.path = application.releases_directory / identifier
        self.unit = f"{application.name}@{identifier}.service"
        self.socket_unit = f"{application.name}@{identifier}.socket"
        self.socket = f"/run/asgi-{application.name}/{identifier}.sock"

    def __eq__(self, other):
        return isinstance(other, Release) and (self.application.name, self.id) == (other.application.name, other.id)

    def __hash__(self):
        return hash((self.application.name, self.id))

    @property
    def record(self):
        """What is known of the release; empty where it was never staged whole."""
        try:
            return json.loads((self.path / "release.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def note(self, **changes):
        """Add to the record, atomically. Root alone reads it: it holds digests of the environment."""
        write_private(self.path / "release.json", {**self.record, **changes})


def write_private(path, content):
    """Write JSON for root alone, atomically."""
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(scratch, path)


class Watch:
    """Whether a release that has just gone live stays up."""

    def __init__(self, release, settle_time):
        record = release.record
        self.release = release
        self.until = record.get("live_since", 0) + settle_time
        self.units = [release.unit, *process_units(release, record.get("processes", []))]
        self.workers = record.get("workers", 1)
        self.states, self.since, self.children = {}, {}, set()

    def over(self):
        return time.time() >= self.until

    def complaint(self):
        """What is wrong with it; None while it stays up."""
        # Programs that start twice a second would be felt on the host; as long as the same processes live, nothing is asked.
        if not (self.since and all(since and process_start(pid) == since for pid, since in self.since.items())):
            for unit in self.units:
                state = systemctl_show(unit, "ActiveState", "NRestarts", "MainPID")
                if state.get("ActiveState") != "active":
                    return f"{unit} does not stay up; its last lines:\n{journal(unit)}"
                if self.states.setdefault(unit, state) != state:
                    return f"{unit} was started again; its last lines:\n{journal(unit)}"
            self.since = {state["MainPID"]: process_start(state["MainPID"]) for state in self.states.values()}
        # A server with several workers stays up itself and starts a new one for each that dies. With one, its children may be
        # the application's own.
        children = worker_processes(self.states[self.release.unit]["MainPID"]) if self.workers > 1 else set()
        self.children = self.children or children
        if self.children - children:
            return f"{self.release.unit} loses workers; its last lines:\n{journal(self.release.unit)}"
        return None


def process_units(release, processes):
    """The units of a release's background processes."""
    return [f"{release.application.name}-{process}@{release.id}.service" for process in processes]


def process_start(pid):
    """When a process started, in the kernel's own unit; None once it has ended."""
    try:
        # The name in parentheses may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]


def worker_processes(pid):
    """The workers of a server: the children of its main process, or of the one that it runs for that."""
    children = [pid]
    while len(children) == 1:
        try:
            children = Path(f"/proc/{children[0]}/task/{children[0]}/children").read_text().split()
        except OSError:
            children = []
    return set(children)


def tell_journal(identifier, message, priority, fields):
    """A message with fields of its own (journalctl VIVARIUM_OUTCOME=failed), in the journal's own protocol."""
    fields = {
        "MESSAGE": message,
        "SYSLOG_IDENTIFIER": identifier,
        "PRIORITY": priority,
        **{f"VIVARIUM_{name.upper()}": value for name, value in fields.items()},
    }
    lines = "".join(f"{name}={str(value).splitlines()[0] if str(value) else ''}\n" for name, value in fields.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.connect("/run/systemd/journal/socket")
        journald.send(lines.encode())


def sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def active_units(pattern, *more_states):
    """The units of a pattern that run or are about to, by name, and the state of each."""
    states = ",".join(["active", "activating", "reloading", *more_states])
    listing = subprocess.run(
        ["systemctl", "list-units", "--plain", "--no-legend", f"--state={states}", pattern],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split(None, 4) for line in listing.stdout.splitlines())
    return {row[0]: row[2] for row in rows if len(row) > 3}


def systemctl_show(unit, *properties):
    """Properties of a unit as systemd has them, by name."""
    run = subprocess.run(
        ["systemctl", "show", f"--property={','.join(properties)}", unit], capture_output=True, text=True, check=False
    )
    return dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)


def journal(unit, lines=30):
    """The last lines that a unit wrote, for an error message."""
    run = subprocess.run(
        ["journalctl", "--unit", unit, "--lines", str(lines), "--output", "cat", "--no-pager"],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip()


def wait_until(question, seconds, pause=0.05):
    """Ask until the answer is None (good) or the time is over; returns the last complaint."""
    deadline = time.monotonic() + seconds
    while True:
        complaint = question()
        if complaint is None or time.monotonic() >= deadline:
            return complaint
        time.sleep(pause)
