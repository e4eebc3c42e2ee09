#!/usr/bin/env python3
"""Requests per second of each ASGI server, through nginx over TLS and directly on its socket.

usage: make bench-servers, or bench/servers.py [--servers uvicorn,daphne] [--rounds N] [--image debian12] [--keep] [--quick]

One program asks both, h2load (Debian's nghttp2-client), on the test host itself: it speaks HTTP/1.1 over TLS to nginx and over
the unix socket to the server, on as many connections each. Rounds alternate, so that whatever else the machine does meets both.
The server has one worker: it fills one core, and nginx and h2load share the other, where both would take from several workers.

The exit status is 1 if a run failed or a request was not answered with 200. How fast things were never decides.

Output of the runs: logs/bench-servers.log. Figures: logs/bench-servers.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

from pulse_stage import DOMAIN, DRAIN, HOST, PulseStage
from releases import SERVERS
from stage import LOGS, ROOT, BenchError, announce, remove_hosts, say

CONNECTIONS, WARM_UP = 16, 1
# What is asked for: an answer that costs the application nothing, and one that costs about as much as a small view of Django. The
# first tells what nginx can hand on at most, with TLS and on the core that it shares; the aim is for the second.
PATHS = {"nothing": "/", "a view": "/view/"}
WAYS = ("nginx", "direct")
AIM = 15
LOG = "/tmp/h2load"


def ask(stage: PulseStage, path: str, way: str, seconds: int) -> dict:
    """One round of h2load."""
    if way == "nginx":
        words = ("--connect-to=127.0.0.1:443", f"https://{DOMAIN}{path}")
    else:
        words = ("--base-uri=unix:/srv/pulse/live/socket", f"http://{DOMAIN}{path}")
    stage.inside(HOST, "rm", "-f", LOG)
    output = stage.inside(
        HOST, "h2load", "--h1", "--threads=1", f"--clients={CONNECTIONS}", f"--duration={seconds}",
        f"--warm-up-time={WARM_UP}", f"--log-file={LOG}", *words,
    )  # fmt: skip
    stage.log.write(output)
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
    answers = [line.split() for line in stage.inside(HOST, "cat", LOG).splitlines()]
    # Its own count: a request that was under way when time was up stands in the log too.
    failed = re.findall(r"(\d+) (?:failed|errored|timeout|3xx|4xx|5xx)", output)
    if not rate or len(failed) != 6:
        raise BenchError(f"h2load measured nothing:\n{output}")
    return {
        "rate": float(rate[1]),
        "took": [int(took) / 1000 for _begun, status, took in answers if status == "200"],
        "failed": sum(int(number) for number in failed),
    }


def measure(stage: PulseStage, server: str, rounds: int, seconds: int) -> dict:
    """Each page both ways, round after round: medians of the rates, and the 99th percentile of all answers."""
    stage.settle(server)
    # The instance of the server before is gone.
    time.sleep(DRAIN + 3)
    found: dict[str, dict] = {}
    for page, path in PATHS.items():
        taken: dict[str, list[dict]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                taken[way].append(ask(stage, path, way, seconds))
        found[page] = {
            way: {
                "rate": round(statistics.median(each["rate"] for each in taken[way])),
                "p99": round(
                    statistics.quantiles((took for each in taken[way] for took in each["took"]), n=100)[98], 1
                ),
                "failed": sum(each["failed"] for each in taken[way]),
            }
            for way in WAYS
        }
        found[page]["cost"] = round(100 * (1 - found[page]["nginx"]["rate"] / found[page]["direct"]["rate"]), 1)
        cells = ", ".join(f"{way} {found[page][way]['rate']}/s" for way in WAYS)
        say(f"  {server:<10} {page:<8} {cells}")
    return found


def table(results: dict[str, dict]) -> None:
    say()
    say(
        f"One worker, {CONNECTIONS} connections, requests/s and p99 in ms. Cost: how many percent fewer requests through nginx."
    )
    say(f"{'server':<11}{'answer':<9}{'nginx':>8}{'p99':>8}{'direct':>9}{'p99':>8}{'cost':>8}   aim")
    for server, pages in results.items():
        for page, found in pages.items():
            nginx, direct = found["nginx"], found["direct"]
            say(
                f"{server:<11}{page:<9}{nginx['rate']:>8}{nginx['p99']:>8}{direct['rate']:>9}{direct['p99']:>8}"
                f"{found['cost']:>7}%" + (f"   < {AIM}%" if page == "a view" else "")
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(SERVERS), help="which, with commas between (all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each figure (%(default)s)")
    parser.add_argument("--seconds", type=int, default=8, help="seconds of each round (%(default)s)")
    parser.add_argument("--image", default="debian13", help="debian12 or debian13 (%(default)s)")
    parser.add_argument(
        "--keep", action="store_true", help="leave the host running, and its inventory in .cache/bench-servers"
    )
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    options = parser.parse_args()
    servers = options.servers.split(",")
    if unknown := sorted(set(servers) - set(SERVERS)):
        parser.error(f"no such server: {', '.join(unknown)} (there are: {', '.join(SERVERS)})")
    rounds, seconds = (1, 2) if options.quick else (options.rounds, options.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    each = len(PATHS) * len(WAYS) * rounds * (seconds + WARM_UP + 1) + 25
    load = announce("bench-servers", options.image, 2 + len(servers) * each // 60)
    results: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        work = ROOT / ".cache" / "bench-servers"
        shutil.rmtree(work, ignore_errors=True)
        if not options.keep:
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            stack.callback(remove_hosts)
        try:
            stage = PulseStage("bench-servers", work, options.image, workers=1)
            for server in servers:
                if server == servers[0]:
                    stage.settle(server)
                    stage.inside(HOST, "apt-get", "install", "--yes", "--quiet", "nghttp2-client")
                results[server] = measure(stage, server, rounds, seconds)
        except (BenchError, subprocess.SubprocessError) as error:
            say(f"bench-servers: {error}")
    (LOGS / "bench-servers.json").write_text(json.dumps({"load_before": load, "servers": results}, indent=1) + "\n")
    table(results)
    failed = sum(found[way]["failed"] for pages in results.values() for found in pages.values() for way in WAYS)
    if failed:
        say(f"bench-servers: {failed} requests were not answered with 200")
    return 0 if list(results) == servers and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
