#!/usr/bin/env python3
"""Requests per second of the collection's nginx beside one with a minimal configuration, for a file and for a page.

usage: make bench-nginx, or bench/front.py [--rounds N] [--seconds N] [--image debian12] [--keep] [--quick]

Both run on one host, with the same certificate, and answer the same two requests: a static file of the example site, and a page
that costs its application nothing (pulse/). The other nginx has minimal.conf, which is what one writes by hand to serve files and
hand on the rest. h2load (Debian's nghttp2-client) asks both in turn, round after round, so that whatever else the machine does
meets both.

The exit status is 1 if a run failed or a request was not answered with 200. How fast things were never decides.

Output of the runs: logs/bench-nginx.log. Figures: logs/bench-nginx.json.
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

from stage import BENCH, LOGS, ROOT, SHARED, BenchError, Stage, announce, call, remove_hosts, say

HOST = "front"
CONNECTIONS, WARM_UP = 16, 1
# What is asked for: whose page, where, and with which header. A browser gets the small copy of a file, where there is one.
FILE = ("herbarium.example.com", "/static/admin/js/core.js")
REQUESTS = {
    "a static file": (*FILE, "accept-encoding: identity"),
    "as a browser asks": (*FILE, "accept-encoding: gzip, deflate, br"),
    "a proxied request": ("pulse.example.com", "/", "accept-encoding: identity"),
}
SIDES = {"collection": 443, "minimal": 8443}
AIM = 5


def applications(stage: Stage) -> list[dict]:
    pulse = stage.work / "pulse"
    shutil.copytree(BENCH / "pulse", pulse, ignore=shutil.ignore_patterns("__pycache__"))
    (pulse / "build").write_text("1\n")
    # A work tree of its own: this project's git ignores the directory it lies in.
    call("git", "init", "--quiet", pulse)
    return [
        {
            "name": "pulse",
            "framework": "none",
            "source": {"path": str(pulse)},
            "application": "pulse:app",
            "lifespan": "on",
            "domains": ["pulse.example.com"],
            "health_path": "/health/",
        },
        {
            "name": "herbarium",
            "source": {"path": str(ROOT / "examples" / "herbarium")},
            "application": "herbarium.asgi:application",
            "settings": "herbarium.settings",
            "vivarium_settings": False,
            "domains": ["herbarium.example.com"],
            "health_path": "/health/",
            "env": {"DEFAULT_FROM_EMAIL": "h@example.com", "ADMINS": "admin@example.com"},
            "secrets": {"SECRET_KEY": "measured-and-thrown-away-" * 3, "DATABASE_PASSWORD": "measured and thrown away"},
        },
    ]


def set_up(stage: Stage) -> None:
    stage.fresh_host(HOST)
    variables = {
        "asgi_apps": applications(stage),
        "python_environment": {"PIP_CACHE_DIR": f"{SHARED}/bench/pip"},
    }
    stage.inventory(HOST, variables, "web", "app", "db")
    stage.play(HOST, ROOT / "site.yml", "set up")
    stage.inside(HOST, "apt-get", "install", "--yes", "--quiet", "nghttp2-client")
    call("podman", "cp", BENCH / "minimal.conf", f"{stage.containers[HOST]}:/etc/nginx/minimal.conf")
    stage.inside(HOST, "nginx", "-c", "/etc/nginx/minimal.conf")


def ask(stage: Stage, side: str, request: str, seconds: int) -> dict:
    """One round of h2load."""
    port, (domain, path, header) = SIDES[side], REQUESTS[request]
    output = stage.inside(
        HOST, "h2load", "--h1", "--threads=1", f"--clients={CONNECTIONS}", f"--duration={seconds}",
        f"--warm-up-time={WARM_UP}", f"--header={header}", f"--connect-to=127.0.0.1:{port}", f"https://{domain}:{port}{path}",
    )  # fmt: skip
    stage.log.write(f"\n=== {request}, {side}\n{output}")
    return reading(output)


def reading(output: str) -> dict:
    """What h2load says of a round: the rate, and how many requests were not answered with 200."""
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
    failed = re.findall(r"(\d+) (?:failed|errored|timeout|3xx|4xx|5xx)", output)
    if not rate or float(rate[1]) == 0 or len(failed) != 6:
        raise BenchError(f"h2load measured nothing:\n{output}")
    return {"rate": float(rate[1]), "failed": sum(int(number) for number in failed)}


def measure(stage: Stage, request: str, rounds: int, seconds: int) -> dict:
    taken: dict[str, list[dict]] = {side: [] for side in SIDES}
    for number in range(rounds):
        # Whoever is first finds the machine as the other left it: they take turns in that too.
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            taken[side].append(ask(stage, side, request, seconds))
    ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(taken["collection"], taken["minimal"], strict=True)]
    found = {side: round(statistics.median(each["rate"] for each in taken[side])) for side in SIDES}
    return {
        **found,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "failed": sum(each["failed"] for side in SIDES for each in taken[side]),
    }


def table(results: dict[str, dict]) -> None:
    say()
    say(
        f"Requests/s over TLS on {CONNECTIONS} connections. Ratio: the median of the rounds', with the least and the greatest."
    )
    say(f"{'':<19}{'collection':>11}{'minimal':>9}{'ratio':>8}   aim")
    for request, found in results.items():
        span = f"{min(found['ratios']):.2f} to {max(found['ratios']):.2f}"
        cells = f"{found['collection']:>11}{found['minimal']:>9}{found['ratio']:>8.2f}"
        say(f"{request:<19}{cells}   > {1 - AIM / 100:.2f} ({span})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each figure (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of each round (%(default)s)")
    parser.add_argument("--image", default="debian13", help="debian12 or debian13 (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the host running")
    parser.add_argument("--quick", action="store_true", help="two rounds of two seconds")
    options = parser.parse_args()
    rounds, seconds = (2, 2) if options.quick else (options.rounds, options.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    each = len(SIDES) * rounds * (seconds + WARM_UP + 1)
    load = announce("bench-nginx", options.image, 2 + len(REQUESTS) * each // 60)
    results: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        work = ROOT / ".cache" / "bench-nginx"
        shutil.rmtree(work, ignore_errors=True)
        if not options.keep:
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            stack.callback(remove_hosts)
        try:
            stage = Stage("bench-nginx", work, options.image)
            set_up(stage)
            for request in REQUESTS:
                results[request] = measure(stage, request, rounds, seconds)
        except (BenchError, subprocess.SubprocessError) as error:
            say(f"bench-nginx: {error}")
    (LOGS / "bench-nginx.json").write_text(json.dumps({"load_before": load, "results": results}, indent=1) + "\n")
    table(results)
    failed = sum(found["failed"] for found in results.values())
    if failed:
        say(f"bench-nginx: {failed} requests were not answered with 200")
    return 0 if len(results) == len(REQUESTS) and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
