#!/usr/bin/env python3
"""Measure the collection beside a plain playbook that does the same work, then deploy under load and count what was lost.

usage: make bench, or bench/run.py [--repeat N] [--deploys N] [--image debian12] [--keep] [--quick]

Both sides start from the same fresh host, the same code in the same git repository, and equally warm caches of packages. Each
figure is the time of a whole ansible-playbook command, the median of --repeat runs, with the number of module runs on the host.
Times are reported and never decide; the exit status is 1 if a run failed or a request was lost.

Output of the runs: logs/bench.log. Figures: logs/bench.json.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from stage import (
    BENCH,
    BIN,
    CACHE,
    LOGS,
    ROOT,
    SHARED,
    BenchError,
    Run,
    Stage,
    announce,
    call,
    drains,
    remove_hosts,
    say,
)

DOMAIN = "herbarium.example.com"
DRAIN = 15
REQUESTS, RATE, SOCKETS = 5000, 60, 20

SIDES = ("vivarium", "plain")
STEPS = {
    "first converge": ("site.yml", "plain/site.yml"),
    "no change": ("site.yml", "plain/site.yml"),
    "code-only deploy": ("playbooks/deploy.yml", "plain/deploy.yml"),
}
# Tasks that do nothing, to tell how fast the machine is: what each of them takes is the difference of two plays.
TRIVIAL = (1, 16)
AIMS = {"first converge": "< 60 s", "no change": "< 6 s, <= 20 runs", "code-only deploy": "< 10 s"}


class Code:
    """The example's code in a repository that both sides deploy from; each change gives one more commit."""

    def __init__(self, work: Path):
        self.tree = work / "herbarium"
        self.bare = CACHE / "shared" / "bench" / "herbarium.git"
        self.changes = 0
        example = ROOT / "examples" / "herbarium"
        names = call("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=example).splitlines()
        for name in names:
            if (example / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(example / name, self.tree / name)
        # The same packages for pip, which does not read uv.lock.
        requirements = call(BIN / "uv", "export", "--quiet", "--locked", "--no-dev", "--no-hashes", cwd=self.tree)
        (self.tree / "requirements.txt").write_text(requirements)
        shutil.rmtree(self.bare, ignore_errors=True)
        self.bare.parent.mkdir(parents=True, exist_ok=True)
        call("git", "init", "--quiet", "--bare", "--initial-branch=main", self.bare)
        call("git", "init", "--quiet", "--initial-branch=main", cwd=self.tree)
        call("git", "remote", "add", "origin", self.bare, cwd=self.tree)
        self.commit()

    def commit(self) -> None:
        call("git", "add", "--all", cwd=self.tree)
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
        call("git", *who, "commit", "--quiet", f"--message=Change {self.changes}", cwd=self.tree)
        call("git", "push", "--quiet", "origin", "main", cwd=self.tree)

    def change(self) -> None:
        """What most deploys bring: a template and a style sheet that are different, the same packages."""
        self.changes += 1
        static = self.tree / "herbarium" / "static" / "herbarium" / "herbarium.css"
        static.write_text(static.read_text() + f"\n.change-{self.changes} {{ color: green; }}\n")
        base = self.tree / "herbarium" / "templates" / "base.html"
        base.write_text(base.read_text() + f"<!-- change {self.changes} -->\n")
        self.commit()


class Bench(Stage):
    def __init__(self, options: argparse.Namespace, work: Path):
        super().__init__("bench", work, options.image, options.profile)
        self.options = options
        self.code = Code(work)
        self.runs: dict[tuple[str, str], list[Run]] = collections.defaultdict(list)
        self.trivial: list[float] = []

    # Hosts and inventories

    def side(self, side: str) -> None:
        self.fresh_host(side)
        if side == "vivarium":
            self.inventory(side, self.vivarium_variables(), "web", "app", "db")
        else:
            self.inventory(side, self.plain_variables())

    def vivarium_variables(self) -> dict:
        return {
            "asgi_apps": [
                {
                    "name": "herbarium",
                    "source": {"git": f"file://{self.code.bare}", "version": "main"},
                    "application": "herbarium.asgi:application",
                    "settings": "herbarium.settings",
                    "vivarium_settings": False,
                    "domains": [DOMAIN],
                    "health_path": "/health/",
                    "drain_timeout": DRAIN,
                    "env": {"DEFAULT_FROM_EMAIL": f"herbarium@{DOMAIN}", "ADMINS": f"admin@{DOMAIN}"},
                    "secrets": {
                        "SECRET_KEY": "measured-and-thrown-away-" * 3,
                        "DATABASE_PASSWORD": "measured and thrown away",
                    },
                    "processes": {"worker": {"command": "python manage.py develop_photos --watch"}},
                    "timers": {"prune": {"command": "python manage.py prune_drafts", "on_calendar": "daily"}},
                }
            ],
            "python_environment": {"PIP_CACHE_DIR": f"{SHARED}/bench/pip"},
        }

    def plain_variables(self) -> dict:
        return {"repository": f"{SHARED}/bench/herbarium.git", "version": "main", "pip_cache": f"{SHARED}/bench/pip"}

    # Runs

    def step(self, side: str, step: str, title: str) -> Run:
        playbook = STEPS[step][SIDES.index(side)]
        if side == "plain":
            return self.play(side, BENCH / playbook, title, BENCH / "plain" / "ansible.cfg")
        return self.play(side, ROOT / playbook, title)

    def measure(self, step: str, side: str) -> None:
        run = self.step(side, step, step)
        self.runs[step, side].append(run)
        note = f", changed={run.changed}" if step == "no change" and run.changed else ""
        say(
            f"{step:<18} {side:<9} {run.seconds:7.1f} s  {run.modules:4} module runs{note}   (load {os.getloadavg()[0]:.1f})"
        )

    def measure_machine(self, side: str) -> None:
        """What a task takes that runs a module which does nothing."""
        seconds, playbook = [], self.work / "trivial.yml"
        for number in TRIVIAL:
            tasks: list[dict] = [{"ansible.builtin.ping": {}}] * number
            playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "become": True, "tasks": tasks}]))
            seconds.append(self.play(side, playbook, f"{number} trivial tasks").seconds)
        self.trivial.append((seconds[1] - seconds[0]) / (TRIVIAL[1] - TRIVIAL[0]))

    def compare(self) -> None:
        for _ in range(self.options.repeat):
            for side in self.options.sides:
                self.side(side)
                self.measure("first converge", side)
            self.measure_machine(self.options.sides[0])
            for side in self.options.sides:
                self.measure("no change", side)
            self.code.change()
            for side in self.options.sides:
                self.measure("code-only deploy", side)

    # Load

    def load(self, side: str, deploys: int, requests: int) -> dict:
        """Deploy again and again while visitors come; what they noticed."""
        own = side == "vivarium"

        def switch() -> tuple[str, float]:
            return self.switch(side, "herbarium") if own else ("plain", 0.0)

        times, switches = [], [switch()]
        options = ("--rate", RATE, "--sockets", SOCKETS, "--at-least", requests, "--drain", DRAIN)
        with self.visitors(side, DOMAIN, *options) as result:
            time.sleep(2)
            for number in range(1, deploys + 1):
                self.code.change()
                run = self.step(side, "code-only deploy", f"deploy {number} under load")
                times.append(run.seconds)
                switches.append(switch())
                say(f"deploy {number:>2} under load {side:<9} {run.seconds:6.1f} s")
            # The last old instance is drained while somebody watches.
            time.sleep(DRAIN + 6 if own else 3)
        self.log.write(json.dumps(result, indent=1))
        result["deploys"] = {
            "number": deploys,
            "median": round(statistics.median(times), 1),
            "max": round(max(times), 1),
        }
        result["drains"] = drains(result["sockets"]["closings"], switches)
        return result

    # Report

    def median(self, step: str, side: str) -> tuple[float, int, int] | None:
        runs = self.runs.get((step, side))
        if not runs:
            return None
        return (
            statistics.median(run.seconds for run in runs),
            int(statistics.median(run.modules for run in runs)),
            int(statistics.median(run.round_trips for run in runs)),
        )

    def table(self) -> None:
        say()
        say(f"Medians of {self.options.repeat}. Runs: module runs on the host; trips: commands and files sent to it.")
        say(
            f"{'':<18}{'vivarium':>10} {'runs':>5} {'trips':>6}{'plain':>12} {'runs':>5} {'trips':>6}{'ratio':>9}   aim"
        )
        for step in STEPS:
            own, other = self.median(step, "vivarium"), self.median(step, "plain")
            cells = f"{step:<18}"
            for side, width in ((own, 8), (other, 10)):
                cells += f"{side[0]:>{width}.1f} s {side[1]:>5} {side[2]:>6}" if side else " " * (width + 15)
            ratio = f"{other[0] / own[0]:>8.1f}x" if own and other else " " * 9
            say(f"{cells}{ratio}   {AIMS[step]}")
        trivial = statistics.median(self.trivial)
        say(f"A task that runs a trivial module takes {trivial:.2f} s here. In such tasks:")
        for side in self.options.sides:
            found = {step: median[0] / trivial for step in STEPS if (median := self.median(step, side))}
            say(f"  {side:<10}" + ", ".join(f"{step} {tasks:.0f}" for step, tasks in found.items()))


def describe(report: dict, side: str) -> None:
    latency, sockets, deploys, stored = report["latency_ms"], report["sockets"], report["deploys"], report["stored"]
    say(f"{deploys['number']} deploys under load, {side}: median {deploys['median']} s, longest {deploys['max']} s")
    say(f"  requests    {report['requests']}, {report['forms']} of them POST, in {report['seconds']} s")
    say(f"  failed      {report['failed']}")
    say(f"  latency     p50 {latency['p50']} ms, p99 {latency['p99']} ms, longest {latency['max']} ms")
    say(f"  forms       {stored['accepted']} accepted drafts, {stored['missing']} missing, {stored['twice']} twice")
    say(f"  WebSockets  {sockets['held']} held, {sockets['echoes']} echoes and {sockets['sheets']} sheets in order")
    say(f"              {sockets['closed_early']} closed early, {sockets['closed_after_drain']} after their drain")
    if side == "vivarium" and report["drains"]:
        say(
            f"              {report['drains'][0]} to {report['drains'][-1]} s after the switch; drain_timeout is {DRAIN} s"
        )
    say(f"  releases    {len(report['releases'])} answered")
    for why, times in report["failures"].items():
        say(f"  FAILED      {times} x {why}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each figure (%(default)s)")
    parser.add_argument("--deploys", type=int, default=10, help="deploys under load (%(default)s; 0: none)")
    parser.add_argument("--image", default="debian13", help="debian12 or debian13 (%(default)s)")
    parser.add_argument("--only", choices=SIDES, help="measure one side alone")
    parser.add_argument("--profile", action="store_true", help="time each task, in logs/bench.log")
    parser.add_argument(
        "--keep", action="store_true", help="leave the hosts running, and their inventories in .cache/bench"
    )
    parser.add_argument("--quick", action="store_true", help="each figure once, and only two deploys under load")
    options = parser.parse_args()
    options.sides = [options.only] if options.only else list(SIDES)
    if options.quick:
        options.repeat, options.deploys = 1, min(options.deploys, 2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = announce("bench", options.image, 20)
    reports: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        work = ROOT / ".cache" / "bench"
        shutil.rmtree(work, ignore_errors=True)
        if not options.keep:
            stack.callback(shutil.rmtree, work, ignore_errors=True)
        try:
            bench = Bench(options, work)
            bench.compare()
            if options.deploys:
                enough = REQUESTS if options.deploys >= 10 else 500
                for side in options.sides:
                    # The plain way is only there to be seen beside: two deploys are enough.
                    number = options.deploys if side == "vivarium" else min(options.deploys, 2)
                    reports[side] = bench.load(side, number, enough if side == "vivarium" else 500)
        except (BenchError, subprocess.SubprocessError) as error:
            say(f"bench: {error}")
            return 1
        finally:
            if not options.keep:
                remove_hosts()
        bench.table()
        say()
        for side, report in reports.items():
            describe(report, side)
        figures = {
            "load_before": load,
            "runs": {f"{step}, {side}": [vars(run) for run in runs] for (step, side), runs in bench.runs.items()},
            "under_load": reports,
        }
        (LOGS / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    own = reports.get("vivarium")
    if own is None:
        return 0
    switched = len(own["releases"]) > options.deploys
    if not switched:
        say(f"bench: only {len(own['releases'])} releases answered; {options.deploys + 1} should have")
    drained = all(seconds >= DRAIN for seconds in own["drains"])
    if not drained:
        say(
            f"bench: a WebSocket was closed {own['drains'][0]} s after the switch, before the drain timeout of {DRAIN} s"
        )
    return 0 if switched and drained and own["failed"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
