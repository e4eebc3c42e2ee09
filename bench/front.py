#!/usr/bin/env python3
"""Requests per second of the collection's nginx beside one with a minimal configuration, for a file and for a page.

usage: make bench-nginx, or bench/front.py [--rounds N] [--requests N] [--image debian12] [--keep] [--quick]

Both run on one host, with the same certificate, and answer the same two requests: a static file of the example site, and a page
that costs its application nothing (pulse/). The other nginx has minimal.conf, which is what one writes by hand to serve files and
hand on the rest. h2load (Debian's nghttp2-client) asks both in turn, round after round, so that whatever else the machine does
meets both. The kernel tells what nginx's workers took of a processor meanwhile, which a busy machine changes less than the rate.

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
CONNECTIONS, WARM_UP = 16, 1000
PUBLIC = "/srv/herbarium/live/public"
# What is asked for: whose page, where ("*": as pages name it, with its hash), and with which header. A browser gets the small
# copy of a file, where there is one.
DOMAIN, PLAIN, BROWSER = "herbarium.example.com", "accept-encoding: identity", "accept-encoding: gzip, deflate, br"
REQUESTS = {
    "a static file": (DOMAIN, "/static/admin/js/core.*.js", PLAIN),
    "as a browser asks": (DOMAIN, "/static/admin/js/core.*.js", BROWSER),
    "without a hash": (DOMAIN, "/static/admin/js/core.js", PLAIN),
    "a proxied request": ("pulse.example.com", "/", PLAIN),
}
SIDES = {"collection": 443, "minimal": 8443}
MAIN_PROCESS = {"collection": "/run/nginx.pid", "minimal": "/run/nginx-minimal.pid"}
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


def named(stage: Stage, path: str) -> str:
    """A path as pages name it."""
    if "*" not in path:
        return path
    (name,) = stage.inside(HOST, "sh", "-c", f"cd {PUBLIC} && ls -d {path.removeprefix('/static/')}").split()
    return f"/static/{name}"


def processor(stage: Stage, side: str) -> int:
    """What nginx's workers have had of a processor (ns)."""
    command = f"main=$(cat {MAIN_PROCESS[side]}); for pid in $(cat /proc/$main/task/$main/children)"
    command += "; do cat /proc/$pid/schedstat; done"
    return sum(int(line.split()[0]) for line in stage.inside(HOST, "sh", "-c", command).splitlines())


def ask(stage: Stage, side: str, request: str, number: int) -> dict:
    """One round of h2load."""
    port, (domain, path, header) = SIDES[side], REQUESTS[request]
    before = processor(stage, side)
    output = stage.inside(
        HOST, "h2load", "--h1", "--threads=1", f"--clients={CONNECTIONS}", f"--requests={number}", f"--header={header}",
        f"--connect-to=127.0.0.1:{port}", f"https://{domain}:{port}{named(stage, path)}",
    )  # fmt: skip
    took = processor(stage, side) - before
    stage.log.write(f"\n=== {request}, {side}, {took} ns\n{output}")
    return {**reading(output), "us": took / number / 1000}


def reading(output: str) -> dict:
    """What h2load says of a round: the rate, and how many requests were not answered with 200."""
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
    failed = re.findall(r"(\d+) (?:failed|errored|timeout|3xx|4xx|5xx)", output)
    if not rate or float(rate[1]) == 0 or len(failed) != 6:
        raise BenchError(f"h2load measured nothing:\n{output}")
    return {"rate": float(rate[1]), "failed": sum(int(number) for number in failed)}


def measure(stage: Stage, request: str, rounds: int, number: int) -> dict:
    taken: dict[str, list[dict]] = {side: [] for side in SIDES}
    for side in SIDES:
        ask(stage, side, request, WARM_UP)
    for turn in range(rounds):
        # Whoever is first finds the machine as the other left it: they take turns in that too.
        for side in SIDES if turn % 2 == 0 else reversed(SIDES):
            taken[side].append(ask(stage, side, request, number))
    ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(taken["collection"], taken["minimal"], strict=True)]
    return {
        **{side: round(statistics.median(each["rate"] for each in taken[side])) for side in SIDES},
        "us": {side: round(statistics.median(each["us"] for each in taken[side]), 1) for side in SIDES},
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "failed": sum(each["failed"] for side in SIDES for each in taken[side]),
    }


def table(results: dict[str, dict]) -> None:
    say()
    say(f"Requests/s over TLS on {CONNECTIONS} connections, and µs that nginx's workers took for one.")
    say("Ratio: the median of the rounds', with the least and the greatest.")
    say(f"{'':<19}{'collection':>11}{'minimal':>9}{'ratio':>8}   {'aim':<22}{'µs':>5}{'minimal':>9}")
    for request, found in results.items():
        aim = f"> {1 - AIM / 100:.2f} ({min(found['ratios']):.2f} to {max(found['ratios']):.2f})"
        cells = f"{found['collection']:>11}{found['minimal']:>9}{found['ratio']:>8.2f}"
        say(f"{request:<19}{cells}   {aim:<22}{found['us']['collection']:>5}{found['us']['minimal']:>9}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each figure (%(default)s)")
    parser.add_argument("--requests", type=int, default=50000, help="requests of each round (%(default)s)")
    parser.add_argument("--image", default="debian13", help="debian12 or debian13 (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the host running")
    parser.add_argument("--quick", action="store_true", help="two rounds of 10000 requests")
    options = parser.parse_args()
    rounds, number = (2, 10000) if options.quick else (options.rounds, options.requests)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # About ten thousand requests in a second.
    each = len(SIDES) * rounds * (number // 10000 + 1)
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
                results[request] = measure(stage, request, rounds, number)
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
