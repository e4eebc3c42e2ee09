#!/usr/bin/env python3
"""Deploy again and again under load, with each ASGI server, and count what visitors noticed.

usage: make bench-releases, or bench/releases.py [--servers uvicorn,daphne] [--deploys N] [--in-a-row] [--image debian12] [--keep]
       [--quick]

Visitors come through nginx over TLS: pages and forms on connections that stay open and on new ones, GET and POST requests that
take 0.3 s, and WebSockets that send numbered messages. With each server they come for a while in quiet, then while a release is
deployed, then until the one before is drained and its WebSockets are back, and again. With --in-a-row deploy follows deploy, so
that each runs while the releases of the three before it are drained.

The exit status is 1 if a run failed, a request failed, a WebSocket was closed before drain_timeout, or a build did not answer
after its deploy. How long things took never decides; it is reported beside its aim.

Output of the runs: logs/bench-releases.log. Figures: logs/bench-releases.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time

from pulse_stage import DOMAIN, DRAIN, HOST, PulseStage
from stage import LOGS, ROOT, BenchError, announce, drains, remove_hosts, say

SERVERS = ("uvicorn", "gunicorn", "hypercorn", "daphne", "granian")
# Two cores hold the visitors, nginx, the server, and the controller as well: at this rate they have room, so that a quantile says
# something about releases and not about a queue. Requests of 0.3 s and the sockets' messages come on top.
RATE, SLOW, SOCKETS, WORKERS = 60, 4, 50, 2
# Seconds in quiet before each deploy; in a row, half of all before the first and half after the last.
QUIET = 5
# A drained WebSocket's visitor is back by then, after the end of its drain (seconds).
BACK = 6
AIM = 1.5


def p99(samples: list[tuple[float, float]], windows: list[tuple[float, float]]) -> float | None:
    """The 99th percentile, in ms, of the answers that came in one of the windows of time."""
    times = sorted(took for at, took in samples if any(begin <= at <= end for begin, end in windows))
    return round(times[int(len(times) * 0.99)], 1) if len(times) >= 100 else None


def passed(seconds: float) -> tuple[float, float]:
    """Let time pass; returns from when to when it did."""
    begun = time.time()
    time.sleep(seconds)
    return begun, time.time()


def measure(stage: PulseStage, server: str, deploys: int, in_a_row: bool) -> dict:
    stage.settle(server)
    # What an instance of the server before still held is gone.
    time.sleep(DRAIN + 3)
    runs, switches = [], [stage.switch(HOST, "pulse")]
    calm, during, draining = [], [], []
    options = ("--site", "pulse", "--rate", RATE, "--slow", SLOW, "--sockets", SOCKETS, "--drain", DRAIN, "--samples")
    with stage.visitors(HOST, DOMAIN, *options) as report:
        # The first second is that of handshakes.
        time.sleep(3)
        if in_a_row:
            calm.append(passed(QUIET * deploys / 2))
        for number in range(1, deploys + 1):
            if not in_a_row:
                calm.append(passed(QUIET))
            begun = time.time()
            run = stage.deploy(f"{server}, deploy {number}")
            runs.append(run)
            during.append((begun, time.time()))
            switches.append(stage.switch(HOST, "pulse"))
            say(f"  {server:<10} deploy {number:>2} of {deploys} {run.seconds:6.1f} s")
            if not in_a_row or number == deploys:
                draining.append(passed(DRAIN + BACK))
        if in_a_row:
            calm.append(passed(QUIET * deploys / 2))
    samples, answered = report.pop("samples"), {release["id"] for release in report["releases"]}
    return {
        **report,
        "deploys": deploys,
        "seconds_per_deploy": round(statistics.median(run.seconds for run in runs), 1),
        "p99_quiet": p99(samples, calm),
        "p99_deploys": p99(samples, during),
        "p99_drains": p99(samples, draining),
        # How long after the switch each WebSocket was closed, by the host's own record of the switch.
        "drains": drains(report["sockets"]["closings"], switches),
        "silent": [release for release, _ in switches if release not in answered],
    }


def losses(result: dict) -> list[str]:
    """What visitors noticed, or would have."""
    found = [f"{times} x {why}" for why, times in result["failures"].items()]
    early = [seconds for seconds in result["drains"] if seconds < DRAIN]
    if early:
        found.append(f"{len(early)} WebSockets closed before drain_timeout, the first {early[0]} s after the switch")
    if result["silent"]:
        found.append(f"nobody saw an answer of {', '.join(result['silent'])}")
    if not result["drains"]:
        found.append("no WebSocket was drained: nothing was proven about them")
    return found


def table(results: dict[str, dict]) -> None:
    say()
    say(
        f"{RATE} requests/s and {SLOW} visitors who always wait for an answer of 0.3 s, {SOCKETS} WebSockets, {WORKERS} workers,"
        f" drain_timeout {DRAIN} s. p99: of all but the slow answers, in ms."
    )
    say(
        f"{'server':<11}{'deploys':>8}{'requests':>10}{'POST':>7}{'failed':>8}{'closed early':>14}{'drained after':>16}"
        f"{'p99 quiet':>11}{'deploys':>9}{'ratio':>7}{'drains':>8}{'ratio':>7}{'s/deploy':>10}"
    )
    for server, result in results.items():
        quiet, busy, draining = result["p99_quiet"], result["p99_deploys"], result["p99_drains"]
        after = result["drains"]
        early = max(result["sockets"]["closed_early"], sum(1 for seconds in after if seconds < DRAIN))
        ratio, ratio_after = (f"{time / quiet:.2f}" if quiet and time else "-" for time in (busy, draining))
        drained = f"{after[0]}-{after[-1]} s" if after else "-"
        posts = result["forms"] + result["slow"]["answered"] // 2
        say(
            f"{server:<11}{result['deploys']:>8}{result['requests']:>10}{posts:>7}{result['failed']:>8}{early:>14}{drained:>16}"
            f"{quiet or '-':>11}{busy or '-':>9}{ratio:>7}{draining or '-':>8}{ratio_after:>7}{result['seconds_per_deploy']:>10}"
        )
    drained, ratio = f">= {DRAIN} s", f"<= {AIM}"
    say(f"{'aim':<11}{'':>8}{'':>10}{'':>7}{'0':>8}{'0':>14}{drained:>16}{'':>11}{'':>9}{ratio:>7}{'':>8}{ratio:>7}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(SERVERS), help="which, with commas between (all)")
    parser.add_argument("--deploys", type=int, default=20, help="deploys with each server (%(default)s)")
    parser.add_argument("--image", default="debian13", help="debian12 or debian13 (%(default)s)")
    parser.add_argument(
        "--keep", action="store_true", help="leave the host running, and its inventory in .cache/bench-releases"
    )
    parser.add_argument("--in-a-row", action="store_true", help="deploy without a pause, while releases are drained")
    parser.add_argument("--quick", action="store_true", help="three deploys with each server")
    options = parser.parse_args()
    servers = options.servers.split(",")
    if unknown := sorted(set(servers) - set(SERVERS)):
        parser.error(f"no such server: {', '.join(unknown)} (there are: {', '.join(SERVERS)})")
    deploys = min(options.deploys, 3) if options.quick else options.deploys
    # With its quiet time, and the time of its drain.
    each = QUIET + 4 + (0 if options.in_a_row else DRAIN + BACK)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = announce("bench-releases", options.image, 1 + len(servers) * (40 + deploys * each) // 60)
    results: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        work = ROOT / ".cache" / "bench-releases"
        shutil.rmtree(work, ignore_errors=True)
        if not options.keep:
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            stack.callback(remove_hosts)
        try:
            stage = PulseStage("bench-releases", work, options.image, WORKERS)
            for server in servers:
                results[server] = measure(stage, server, deploys, options.in_a_row)
                stage.log.write(json.dumps(results[server], indent=1))
        except (BenchError, subprocess.SubprocessError) as error:
            say(f"bench-releases: {error}")
    (LOGS / "bench-releases.json").write_text(json.dumps({"load_before": load, "servers": results}, indent=1) + "\n")
    table(results)
    lost = {server: losses(result) for server, result in results.items()}
    for server, found in lost.items():
        for what in found:
            say(f"LOST  {server}: {what}")
    return 0 if list(results) == servers and not any(lost.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
