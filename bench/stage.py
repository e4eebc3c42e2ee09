"""What the benches share: a test host, runs of playbooks on it, and visitors who come meanwhile."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
BIN = ROOT / ".venv" / "bin"
LOGS = ROOT / "logs"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vivarium"
SHARED = "/var/cache/vivarium-test"  # CACHE/shared, as the hosts see it


class BenchError(Exception):
    """A run that failed: nothing that it measured counts."""


@dataclass
class Run:
    """One ansible-playbook command."""

    seconds: float
    modules: int
    round_trips: int
    changed: int
    by_module: dict[str, int] = field(default_factory=dict)


def say(text: str = "") -> None:
    print(text, flush=True)


def call(*command: str | Path, **options: Any) -> str:
    result = subprocess.run(
        [str(word) for word in command], stdin=options.pop("stdin", subprocess.DEVNULL), capture_output=True, text=True,
        check=False, **options,
    )  # fmt: skip
    if result.returncode != 0:
        raise BenchError(f"{' '.join(str(word) for word in command[:4])} … failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def announce(name: str, image: str, minutes: int) -> float:
    """Say what begins, and whether the machine is quiet enough for it; returns its load."""
    load = os.getloadavg()[0]
    say(f"{name}: {image} hosts, {os.cpu_count()} CPUs, load {load:.1f} before the start, about {minutes} minutes")
    if load > 1:
        say(f"{name}: something else is busy on this machine: times will be too long, ratios less so")
    return load


@contextlib.contextmanager
def idle_group() -> Iterator[Path]:
    """A control group whose processes run only where no other process wants the processor.

    Niceness would not do: a kernel that groups processes by session (sched_autogroup) counts it within the session alone, and
    whoever has the processor keeps it until its slice is over, however nice it is. Needs root and Linux 5.15.
    """
    top = Path("/sys/fs/cgroup")
    unified = (top / "cgroup.controllers").is_file()
    group = (top if unified else top / "cpu") / "vivarium-bench"
    try:
        if unified:
            (top / "cgroup.subtree_control").write_text("+cpu")
        group.mkdir(exist_ok=True)
        (group / "cpu.idle").write_text("1")
    except OSError as error:
        raise BenchError(f"the controller cannot give way to visitors: {error}") from error
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def within(group: Path, *command: str | Path) -> list[str | Path]:
    """The command, as a process of a control group."""
    return ["sh", "-c", 'echo $$ >"$0"; exec "$@"', group / "cgroup.procs", *command]


class Stage:
    """Hosts of the group `bench`, and what runs on them."""

    def __init__(self, name: str, work: Path, image: str, profile: bool = False):
        self.work, self.image, self.profile = work, image, profile
        self.ports: dict[str, int] = {}
        self.containers: dict[str, str] = {}
        self.connections: dict[str, dict] = {}
        LOGS.mkdir(exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        self.log_path = LOGS / f"{name}.log"
        self.log = self.log_path.open("w")
        for cache in ("uv", "pip"):
            (CACHE / "shared" / "bench" / cache).mkdir(parents=True, exist_ok=True)
        # The hosts' users differ from run to run; the cache of the last run must do for this one.
        call("chmod", "--recursive", "a+rwX", CACHE / "shared" / "bench" / "uv")
        (CACHE / "shared" / "bench" / "uv").chmod(0o1777)

    def fresh_host(self, name: str) -> None:
        hosts = [{"name": name, "image": self.image, "publish": ["127.0.0.1::443"]}]
        output = self.work / f"{name}.json"
        subprocess.run(
            [ROOT / "tools" / "hosts", "up", "bench", "--output", output],
            input=json.dumps(hosts),
            text=True,
            check=True,
        )
        (host,) = json.loads(output.read_text())
        self.containers[name] = host["container"]
        self.ports[name] = int(call("podman", "port", host["container"], "443/tcp").rsplit(":", 1)[1])
        self.connections[name] = {
            "ansible_host": host["address"],
            "ansible_port": host["port"],
            "ansible_user": host["user"],
            "ansible_ssh_private_key_file": host["identity_file"],
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        }

    def inventory(self, name: str, variables: dict, *kinds: str) -> None:
        """Describe the host: its variables, and what kinds of server it is."""
        inventory = {"all": {"vars": variables, "hosts": {name: self.connections[name]}}}
        inventory["all"]["children"] = {f"{kind}_servers": {"hosts": {name: {}}} for kind in kinds}
        (self.work / f"{name}.yml").write_text(json.dumps(inventory, indent=1))

    def inside(self, name: str, *command: str) -> str:
        return call("podman", "exec", self.containers[name], *command)

    def switch(self, name: str, application: str) -> tuple[str, float]:
        """The live release, and since when it is live."""
        live = Path(self.inside(name, "readlink", f"/srv/{application}/live").strip()).name
        return live, json.loads(self.inside(name, "cat", f"/srv/{application}/live/release.json"))["live_since"]

    def play(
        self, name: str, playbook: Path, title: str, config: Path = ROOT / "ansible.cfg", yielding: bool = False
    ) -> Run:
        """Run a playbook as a user would; one that yields gets the processor that everybody else leaves it."""
        counts = self.work / "module_runs"
        counts.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            control = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            environment = {
                # Bytecode is kept, as it is wherever nobody has forbidden it.
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith("ANSIBLE_") and name != "PYTHONDONTWRITEBYTECODE"
                },
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(config),
                "ANSIBLE_CALLBACK_PLUGINS": str(BENCH / "callback_plugins"),
                "ANSIBLE_CALLBACKS_ENABLED": "module_runs" + (",ansible.posix.profile_tasks" if self.profile else ""),
                "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
                "ANSIBLE_NOCOLOR": "1",
                # Nobody's connection is still open from the run before.
                "ANSIBLE_SSH_CONTROL_PATH_DIR": control,
                "BENCH_MODULE_RUNS": str(counts),
            }
            command: list[str | Path] = [BIN / "ansible-playbook", "-i", self.work / f"{name}.yml", playbook]
            if yielding:
                command = within(stack.enter_context(idle_group()), *command)
            begun = time.monotonic()
            result = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            seconds = time.monotonic() - begun
            close_connections(control)
        self.log.write(f"\n=== {title}, {name}: {seconds:.1f} s\n{result.stdout}")
        self.log.flush()
        if result.returncode != 0:
            end = result.stdout[-4000:]
            raise BenchError(f"{title}, {name}: failed; the end of {self.log_path.relative_to(ROOT)}:\n{end}")
        notes = [json.loads(line) for line in counts.read_text().splitlines()]
        modules = [note for note in notes if note["kind"] == "module" and note["remote"]]
        for note in modules:
            self.log.write(f"    {note['seconds']:7.3f} s  {note['name']:<40} {note['task']}\n")
        return Run(
            seconds=seconds,
            modules=len(modules),
            round_trips=sum(1 for note in notes if note["kind"] != "module" and note["remote"]),
            changed=sum(int(number) for number in re.findall(r" changed=(\d+) ", result.stdout)),
            by_module=dict(collections.Counter(note["name"] for note in modules)),
        )

    @contextlib.contextmanager
    def visitors(self, name: str, domain: str, *options: object) -> Iterator[dict]:
        """Visitors (tools/load) come while the block runs; afterwards the report is in the dictionary."""
        path, errors = self.work / "load.json", self.work / "load.err"
        path.unlink(missing_ok=True)
        command = [
            sys.executable, ROOT / "tools" / "load", f"https://{domain}", "--connect", f"127.0.0.1:{self.ports[name]}",
            "--seconds", "3600", "--json", path, *options,
        ]  # fmt: skip
        report: dict = {}
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=stream
            )
            try:
                while "started" not in errors.read_text():
                    if process.poll() is not None:
                        raise BenchError(f"tools/load ended: {errors.read_text()}")
                    time.sleep(0.1)
                yield report
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=600)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if not path.exists():
            raise BenchError(f"tools/load ended without a report: {errors.read_text()}")
        report.update(json.loads(path.read_text()))


def close_connections(directory: str) -> None:
    for path in Path(directory).iterdir():
        if path.is_socket():
            command = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "nobody"]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def drains(closings: list[dict], switches: list[tuple[str, float]]) -> list[float]:
    """How long after the switch to the next release each WebSocket was closed."""
    successor = {release: since for (release, _), (_, since) in itertools.pairwise(switches)}
    return sorted(
        round(each["closed_at"] - successor[each["release"]], 2) for each in closings if each["release"] in successor
    )


def remove_hosts() -> None:
    subprocess.run([ROOT / "tools" / "hosts", "down", "bench"], stdin=subprocess.DEVNULL, check=False)
