"""Playbooks of the collection for scenarios' tests, run as a user does, and visitors who come all the while."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
# Newer releases of ansible-core than the suite's own (tools/newer-ansible); none where this machine has no Python for them.
NEWER = sorted(PROJECT.glob(".venv/ansible-core-*/bin"))
INVENTORY = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent


class Play:
    """One run of a playbook, with variables of its own; with another ansible-core where its programs' directory is given."""

    def __init__(self, name, *options, programs=None, **variables):
        path = os.pathsep.join([str(programs), os.environ["PATH"]] if programs else [os.environ["PATH"]])
        command = ["ansible-playbook", "-i", INVENTORY, PROJECT / f"playbooks/{name}.yml", "-e", json.dumps(variables)]
        self.process = subprocess.Popen(
            [*map(str, command), *options], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True, env={**os.environ, "PATH": path},
        )  # fmt: skip
        self.output = ""

    def until(self, text):
        """Wait for something in its output."""
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return self
        raise AssertionError(f"{text!r} did not come in:\n{self.output}")

    def kill(self):
        """The controller dies: the play, its workers and its connections."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self):
        self.output += self.process.communicate(timeout=900)[0]
        return self

    def succeed(self):
        self.end()
        assert self.process.returncode == 0 and "[DEPRECATION WARNING]" not in self.output, self.output
        return self

    def fail(self):
        self.end()
        assert self.process.returncode != 0, self.output
        return self

    def message(self, host):
        """What a host's last failure says, and what was shown of the step before."""
        shown = [
            part
            for part in self.output.split("TASK [")
            if part.partition("]")[0].endswith("Show what the step printed")
        ]
        found = [
            text for part in shown for text in re.findall(rf"^ok: \[{host}\] =>(.*?)^(?=\S|\Z)", part, re.M | re.S)
        ]
        # Of each application that failed.
        return "\n".join([*(line for text in found for line in yaml.safe_load(text)["msg"]), self.failure(host)])

    def failure(self, host):
        """What a host's last failure says."""
        return re.findall(rf"^fatal: \[{host}\]: FAILED! =>.*?^(?=\S)", self.output + "\nend", re.M | re.S)[-1]

    def failed_at(self, host, application, step):
        """Whether a host's deploy of an application failed at this step."""
        return f'{application}: the new release failed at the step "{step}"' in self.message(host)

    def changed(self, host):
        return int(re.search(rf"^{host} .*changed=(\d+)", self.output, re.M)[1])

    def tasks(self):
        """Its tasks, in their order."""
        return re.findall(r"^TASK \[(.*?)\]", self.output, re.M)


def database_url(host, application, release="live"):
    """The address of an application's database as a release has it, with the role and the password that it logs in with."""
    line = host.check_output("grep ^DATABASE_URL= /srv/%s/%s/env", application, release)
    return shlex.split(line)[0].partition("=")[2]


def wait_until(question, seconds=120):
    """Ask until the answer is more than no, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, question
        time.sleep(0.3)
    return answer


def when(host, sign, command=":"):
    """Wait for something on a host that does not last, and run a command at that very moment."""
    host.check_output(f"for _ in $(seq 9000); do if {sign}; then {command}; exit 0; fi; sleep 0.01; done; exit 1")


def at_step(application, step):
    """The sign that a deploy has come to a step: what its lock says of it ("step": "build")."""
    return f"grep -q step....{step} /srv/{application}/deploy.lock"


# Runs on a test host until its input ends.
ASKER = r"""
import http.client, json, socket, sys, threading, time

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(f"/srv/{self.host.split('.')[0]}/live/socket")

over, seen = threading.Event(), {name: {"requests": 0, "failures": []} for name in sys.argv[1:]}
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
print("begun", flush=True)
while not over.wait(0.05):
    for name, count in seen.items():
        count["requests"] += 1
        connection = Connection(f"{name}.example.test")
        try:
            connection.request("GET", "/", headers={"X-Forwarded-Proto": "https", "Connection": "close"})
            status = connection.getresponse().status
            if status != 200:
                raise OSError(f"status {status}")
        except (OSError, http.client.HTTPException) as error:
            count["failures"].append(f"{time.time():.2f} {error!r}")
        finally:
            connection.close()
print(json.dumps(seen))
"""


@contextlib.contextmanager
def asking(host, *names):
    """Ask applications of a host at their live sockets, as nginx does, until the block ends: none may fail to answer."""
    process = subprocess.Popen(
        ["podman", "exec", "-i", host.backend.name, "runuser", "-u", "www-data", "--", "python3", "-c", ASKER, *names],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    # A program in a container may take its time to start.
    assert process.stdout.readline() == "begun\n", process.communicate(timeout=300)
    try:
        yield
    finally:
        seen = json.loads(process.communicate(timeout=300)[0])
    for name, count in seen.items():
        assert count["failures"] == [] and count["requests"] > 20, (host.backend.name, name, count)


@contextlib.contextmanager
def visitors(web, domain, directory, *options):
    """Visitors (tools/load) come to a site through a web server until the block ends; then the dictionary is their report."""
    published = subprocess.run(
        ["podman", "port", web.backend.name, "443/tcp"], capture_output=True, text=True, check=True
    ).stdout
    port = published.strip().rsplit(":", 1)[1]
    path, errors, report = directory / "load.json", directory / "load.err", {}
    command = [
        sys.executable, PROJECT / "tools/load", f"https://{domain}", "--connect", f"127.0.0.1:{port}",
        "--workers", "6", "--closing", "2", "--rate", "30", "--seconds", "600", "--json", path, *options,
    ]  # fmt: skip
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream
        )
        try:
            deadline = time.monotonic() + 60
            while "started" not in errors.read_text():
                assert process.poll() is None and time.monotonic() < deadline, errors.read_text()
                time.sleep(0.1)
            yield report
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=300)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    report.update(json.loads(path.read_text()))


def noticed(report):
    """What a failing test says of the visitors."""
    return json.dumps({key: report[key] for key in ("failures", "first_failures", "releases")}, indent=1)
