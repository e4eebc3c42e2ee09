"""The same application with each of the servers: what it sees, what it can do, how it ends and comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = PROJECT / "molecule/servers"
SERVERS = yaml.safe_load((PROJECT / "roles/asgi/vars/main.yml").read_text())["__asgi_servers"]
# Applications are named after the rows of the role's table.
each_server = pytest.mark.parametrize("name", SERVERS)


def client(host, name, question, user="www-data"):
    """Ask an application through its socket, in its own process, as nginx does."""
    command = ["podman", "exec", "-i", host.backend.name, "runuser", "-u", user, "--", "python3", "-c"]
    code = (SCENARIO / "client.py").read_text()
    return subprocess.Popen([*command, code, name, question], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask(host, name, question):
    process = client(host, name, question)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


def unit(host, name):
    return f"{name}@{host.check_output(f'basename $(readlink /srv/{name}/live)')}.service"


def wait_until(question, seconds=60):
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, question
        time.sleep(0.2)
    return answer


def curl(host, name, path, user="www-data", options=""):
    domain = f"{name.replace('_', '-')}.example.test"
    return host.run(
        f"runuser -u {user} -- curl --silent --show-error --max-time 20 {options} --unix-socket /srv/{name}/live/socket"
        f" 'http://{domain}{path}'"
    )


@each_server
def test_scheme_and_visitor_are_what_nginx_says(host, name):
    seen = ask(host, name, "request")
    assert (seen["scheme"], seen["client"][0], seen["root_path"]) == ("https", "192.0.2.7", "")
    domain = f"{name.replace('_', '-')}.example.test"
    assert seen["headers"]["host"] == domain
    assert seen["django"]["host"] == domain and seen["django"]["address"] == "192.0.2.7"
    assert seen["django"]["body"] == "body"


@each_server
def test_a_visitor_cannot_pretend_to_be_another(host, name):
    """Through nginx, with every header that some server or framework believes."""
    domain = f"{name.replace('_', '-')}.example.test"
    lies = " ".join(
        f"--header '{header}'"
        for header in (
            "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: http", "X-Forwarded-Host: evil.test", "X-Real-IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6;proto=http;host=evil.test", "Daphne-Root-Path: /evil", "X-Forwarded-Port: 6666",
            "X-Forwarded-Prefix: /evil", "X-Script-Name: /evil",
        )
    )  # fmt: skip
    run = host.run(
        f"curl --silent --show-error --insecure --max-time 20 {lies} --resolve {domain}:443:127.0.0.1 https://{domain}/request"
    )
    seen = json.loads(run.stdout)
    assert (seen["scheme"], seen["client"][0], seen["root_path"]) == ("https", "127.0.0.1", "")
    assert seen["headers"]["host"] == domain and "evil" not in run.stdout and "6.6.6.6" not in run.stdout


@each_server
def test_nobody_else_connects(host, name):
    for stranger in ("nobody", "admin", "uvicorn" if name != "uvicorn" else "daphne"):
        assert curl(host, name, "/", stranger).rc == 7
    assert curl(host, name, "/").rc == 0


@each_server
def test_workers_are_really_parallel(host, name):
    """Alone it would take two seconds."""
    seen = ask(host, name, "blocking")
    assert len(seen["pids"]) == 2 and seen["seconds"] < 1.8, seen


@each_server
def test_websockets(host, name):
    one, two = ask(host, name, "websocket")
    assert (one["text"], two["text"], one["scheme"], one["client"]) == ("one", "two", "wss", "192.0.2.7")


@each_server
def test_the_application_was_told_of_its_life_where_it_wants_to(host, name):
    started = ask(host, name, "request")["started"]
    expected = [f"lifespan.startup {pid}" for pid in ask(host, name, "pids")]
    if host.backend.name.endswith("debian12"):
        assert len(started) == 1 and started[0] in expected
    else:
        assert started == []


@each_server
def test_the_sandbox(host, name):
    output = host.check_output(f"systemd-analyze security --no-pager {unit(host, name)}")
    score = float(re.search(r"exposure level for \S+: ([0-9.]+)", output)[1])
    found = json.loads(curl(host, name, "/attempts").stdout)
    through = {attempt for attempt, error in found.items() if error is None}
    own = {
        "write its state", "write its uploads", "write its runtime directory", "write its /tmp", "run a program", "open a socket",
    }  # fmt: skip
    if name != "gunicorn_asgi":
        assert score <= 1.3 and through == own
    else:
        # It asked for all the switches.
        more = {"map memory that is writable and executable", "open a netlink socket", "make a namespace"}
        assert through == own | more and score < 3
    assert len(found) >= 25


@each_server
def test_a_killed_worker_and_a_killed_server_come_back(host, name):
    this = unit(host, name)
    before = wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and pids)
    host.check_output(f"kill -9 {before[0]}")
    wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and before[0] not in pids)
    main = host.check_output(f"systemctl show --property=MainPID --value {this}")
    host.check_output(f"kill -9 {main}")
    wait_until(lambda: host.check_output(f"systemctl show --property=MainPID --value {this}") not in (main, "0"))
    wait_until(lambda: curl(host, name, "/").rc == 0)
    after = wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and pids)
    assert not set(after) & set(before)


@each_server
def test_an_end_loses_nothing(host, name):
    this = unit(host, name)
    process = client(host, name, "stop")
    assert process.stdout.readline() == "held\n", process.stderr.read()
    begun = time.monotonic()
    host.check_output(f"systemctl stop {this}")
    took = time.monotonic() - begun
    *bodies, (code, seconds) = sorted(
        json.loads(process.communicate(timeout=60)[0]), key=lambda item: isinstance(item, list)
    )
    assert sorted(bodies) == ["", "", "form", "form"]
    assert code == SERVERS[name]["close_code"] and seconds < 3
    assert 0.5 < took < 15
    result = host.check_output(f"systemctl show --property=Result --value {this}")
    goodbyes = host.check_output(f"journalctl --unit {this} --output cat").count("the shore says goodbye")
    host.check_output(f"systemctl start {this}")
    assert result == "success"
    assert goodbyes >= 2 or not host.backend.name.endswith("debian12")
    wait_until(lambda: curl(host, name, "/").rc == 0)
