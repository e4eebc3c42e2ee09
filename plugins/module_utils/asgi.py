# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an application's releases lie on a host; shared by the modules that plan and carry out a deploy."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

ROOT = Path("/srv")
PROGRAMS = "/usr/local/lib/asgi"


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

    def running_units(self, *more_states):
        """Its instances and background processes, and what drains old ones: the units that run or are about to."""
        prefixes = (f"{self.name}@", f"{self.name}-")
        return [unit for unit in active_units(f"{self.name}*@*.service", *more_states) if unit.startswith(prefixes)]

    def point_live_at(self, release):
        """Switch in one rename: the socket, the code and the environment of `live` change together."""
        scratch = self.root / ".live.new"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(f"releases/{release.id}")
        os.replace(scratch, self.live_link)
        sync_directory(self.root)


class Release:
    """One immutable release: its directory, its record and its systemd unit."""

    def __init__(self, application, identifier):
        self.application = application
        self.id = identifier
        self.path = application.releases_directory / identifier
        self.unit = f"{application.name}@{identifier}.service"
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


def sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def active_units(pattern, *more_states):
    """The names of the units of a pattern that run or are about to."""
    states = ",".join(["active", "activating", "reloading", *more_states])
    listing = subprocess.run(
        ["systemctl", "list-units", "--plain", "--no-legend", f"--state={states}", pattern],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split()[0] for line in listing.stdout.splitlines() if line.strip()]


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


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class LocalTLSConnection(http.client.HTTPConnection):
    """TLS to this host under the name of a site: whether the certificate is trusted is not the question here."""

    def __init__(self, port, domain, timeout):
        super().__init__("127.0.0.1", port, timeout=timeout)
        self.domain = domain

    def connect(self):
        super().connect()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname=self.domain)


def answer_of(connection, path, host):
    """One GET; returns the status, the headers and the beginning of the body. OSError and HTTPException are the caller's."""
    try:
        connection.request(
            "GET",
            path,
            headers={
                "Host": host,
                "X-Forwarded-Proto": "https",
                "X-Forwarded-For": "127.0.0.1",
                "User-Agent": "vivarium-probe",
                "Connection": "close",
            },
        )
        response = connection.getresponse()
        body = response.read1(65536)  # the rest may go on for ever
        headers = {}
        for name, value in response.getheaders():
            headers[name.lower()] = "\n".join(filter(None, [headers.get(name.lower()), value]))
        return response.status, headers, body.decode(errors="replace")
    finally:
        connection.close()


def ask(connection, path, host):
    """One GET; returns the status alone."""
    return answer_of(connection, path, host)[0]


def ask_socket(path, url, host, timeout=10):
    return ask(UnixConnection(path, timeout), url, host)


def ask_site(port, domain, url, timeout=10):
    host = domain if port == 443 else f"{domain}:{port}"
    return ask(LocalTLSConnection(port, domain, timeout), url, host)


def healthy(status, strict):
    """A path of the user's own must answer 2xx or 3xx; for the default one any answer but a server error will do."""
    return 200 <= status < (400 if strict else 500)


def wait_until(question, seconds, pause=0.05):
    """Ask until the answer is None (good) or the time is over; returns the last complaint."""
    deadline = time.monotonic() + seconds
    while True:
        complaint = question()
        if complaint is None or time.monotonic() >= deadline:
            return complaint
        time.sleep(pause)
