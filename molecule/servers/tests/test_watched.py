"""What the watch over a new release takes for a failure, with each server, and who is told of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from play import Play, wait_until

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = PROJECT / "molecule/servers"
SERVERS = yaml.safe_load((PROJECT / "roles/asgi/vars/main.yml").read_text())["__asgi_servers"]
# How each server is told to start its workers anew every now and then. Daphne is not; Granian takes no less than a minute.
RECYCLED = {
    "uvicorn": ["--limit-max-requests", "30"],
    "gunicorn": ["--max-requests", "60", "--max-requests-jitter", "10"],
    "gunicorn_asgi": ["--max-requests", "60", "--max-requests-jitter", "10"],
    "hypercorn": ["--max-requests", "60"],
    "granian": ["--workers-lifetime", "60"],
}
SETTLE = 900
# Asks the applications for their processes, and tells of each new one.
ASKER = """
import http.client, json, socket, sys, threading, time
over, seen = threading.Event(), {name: [] for name in sys.argv[1:]}
def ask(name):
    while not over.wait(0.05):
        try:
            connection = http.client.HTTPConnection(f"{name.replace('_', '-')}.example.test")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20)
            connection.sock.connect(f"/srv/{name}/live/socket")
            connection.request("GET", "/", headers={"X-Forwarded-Proto": "https", "Connection": "close"})
            pid = json.loads(connection.getresponse().read())["pid"]
            if pid not in seen[name]:
                seen[name].append(pid)
                print(name, pid, flush=True)
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the server's own affair
threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in seen]
for thread in threads:
    thread.start()
over.wait(150)
"""


def log(host, name):
    return [json.loads(line) for line in host.check_output(f"cat /srv/{name}/deploys.log").splitlines()]


def release(host, name):
    return host.check_output(f"basename $(readlink /srv/{name}/live)")


def kill_worker(host, name):
    """Kill the one that answers, and not one that its server has end just then: that one would rightly be no failure."""
    domain = f"{name.replace('_', '-')}.example.test"
    curl = f"curl --silent --fail --max-time 60 --unix-socket /srv/{name}/live/socket http://{domain}/"
    run = f"/run/asgi-{name}-{release(host, name)}"

    def killed():
        answer = host.run(f"runuser -u www-data -- {curl}")
        if answer.rc:
            return False
        pid = json.loads(answer.stdout)["pid"]
        # Nobody asks any longer: one that has had its last request is gone by then, or has left word.
        return host.run(f"sleep 2 && test -d {run} && test ! -e {run}/ended-{pid} && kill -9 {pid}").rc == 0

    return wait_until(killed)


@pytest.fixture(scope="module")
def alone(addresses, tmp_path_factory):
    """The options of a run that leaves the other host out, whose address the inventory says then."""
    inventory = tmp_path_factory.mktemp("inventory") / "hosts.ini"
    inventory.write_text("".join(f"{name} vivarium_address={address}\n" for name, address in addresses.items()))
    return ("--limit", "debian13", "-i", str(inventory))


@pytest.fixture(scope="module")
def story(hosts, alone):
    """New releases whose workers are recycled under load; later a worker of each is killed."""
    host, told = hosts["debian13"], {"seen": {name: set() for name in SERVERS}}
    told["before"] = {name: release(host, name) for name in SERVERS}
    changes = {name: {"server_options": RECYCLED.get(name, []), "settle_time": SETTLE} for name in SERVERS}
    Play("deploy", *alone, changes=changes, asgi_force=True).succeed()
    told["deployed"] = {name: release(host, name) for name in SERVERS}
    asker = subprocess.Popen(
        ["podman", "exec", "-i", host.backend.name, "runuser", "-u", "www-data", "--", "python3", "-c", ASKER, *SERVERS],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # At first two workers of each.
        while any(len(told["seen"][name]) < (4 if name in RECYCLED else 2) for name in SERVERS):
            line = asker.stdout.readline()
            if not line:
                break  # what was seen by then has to do
            name, pid = line.split()
            told["seen"][name].add(pid)
    finally:
        asker.kill()
    told["live"] = {name: release(host, name) for name in SERVERS}
    told["log"] = {name: log(host, name)[-1] for name in SERVERS}
    told["killed"] = {name: kill_worker(host, name) for name in SERVERS}
    return told


def test_workers_that_their_server_has_end_are_no_failure(story):
    assert story["live"] == story["deployed"], {name: entry["reason"] for name, entry in story["log"].items()}
    assert {entry["action"] for entry in story["log"].values()} == {"deploy"}
    assert all(len(story["seen"][name]) >= 4 for name in RECYCLED), story["seen"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_worker_that_is_killed_is_one_and_the_next_run_and_status_tell(hosts, story, name):
    host = hosts["debian13"]
    assert story["killed"][name] and story["deployed"][name] != story["before"][name]
    wait_until(lambda: release(host, name) == story["before"][name])
    returned = wait_until(lambda: (entry := log(host, name)[-1])["action"] == "return" and entry)
    unit = f"{name}@{story['deployed'][name]}.service"
    assert returned["reason"].startswith(unit) and not returned["reason"].endswith(":")


def test_the_next_run_and_status_tell_of_it_first(hosts, story, alone):
    for name in SERVERS:
        wait_until(lambda name=name: log(hosts["debian13"], name)[-1]["action"] == "return")
    run = Play("deploy", *alone, "--check").succeed().output
    status = Play("status", *alone).succeed().output
    for name in SERVERS:
        told = f"release {story['deployed'][name]}"
        assert told in run and "did not stay up, and requests went back to" in run
        assert told in status and "Its last lines" not in status


def test_a_first_release_whose_process_falls_over_is_not_good(hosts, alone):
    host = hosts["debian13"]
    command = """python -c 'import sys, time; time.sleep(4); sys.exit("I fall over")'"""
    newcomer = {
        "name": "newcomer", "domains": ["newcomer.example.test"], "settle_time": 15,
        "processes": {"worker": {"command": command}},
    }  # fmt: skip
    play = Play("site", *alone, newcomers=[newcomer], asgi_wait=True).fail()
    assert "newcomer-worker@" in play.message("debian13") and "I fall over" in play.message("debian13")
    record = json.loads(host.check_output("cat /srv/newcomer/live/release.json"))
    assert (record["state"], record["step"]) == ("bad", "settle")
    entry = log(host, "newcomer")[-1]
    assert (entry["action"], entry["outcome"]) == ("watch", "failed") and "I fall over" in entry["reason"]
    again = Play("deploy", *alone, "--check", newcomers=[newcomer], asgi_only="newcomer").succeed().output
    assert "there was none to go back to, so it is still live" in again and "I fall over" in again
