"""The same application with each of the servers: what it sees, what it can do, how it ends and comes back."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from play import wait_until

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = PROJECT / "molecule/servers"
SERVERS = yaml.safe_load((PROJECT / "roles/asgi/vars/main.yml").read_text())["__asgi_servers"]
# Applications are named after the rows of the role's table.
each_server = pytest.mark.parametrize("name", SERVERS)


def client(host, name, question, user="www-data"):
    """Ask an application through its socket, in its own process, as nginx does."""
    command = ["podman", "exec", "-i", host.backend.name, "runuser", "-u", user, "--", "python3", "-c"]
    code = (SCENARIO / "client.py").read_text()
    return subprocess.Popen(
        [*command, code, name, question],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(host, name, question):
    process = client(host, name, question)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output)


def unit(host, name):
    return f"{name}@{host.check_output(f'basename $(readlink /srv/{name}/live)')}.service"


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
def test_a_request_is_the_same_to_an_application_whichever_server_took_it(host, name):
    """Wagtail asks Django for the port; others build addresses of what the scope says."""
    seen = ask(host, name, "request")
    domain = f"{name.replace('_', '-')}.example.test"
    about = {
        "type": "http", "scheme": "https", "server": [domain, 443], "client": ["192.0.2.7", 0], "root_path": "", "method": "GET",
        "http_version": "1.1", "path": "/request", "raw_path": "/request", "query_string": "a=%2F&b", "asgi": "3.0",
    }  # fmt: skip
    assert {key: seen[key] for key in about} == about
    assert seen["django"]["port"] == "443" and seen["django"]["url"] == f"https://{domain}/django/"


# Those whose release can be started a second time beside itself like this.
@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "hypercorn", "granian"])
def test_below_a_path_an_application_is_told_so_whichever_server_took_the_request(host, name):
    """The live release once more, as an application with a path runs: one more word in its environment."""
    release, place = host.check_output(f"realpath /srv/{name}/live"), f"/tmp/below-{name}"
    run = f"runuser -u {name} --"
    host.check_output(f"{run} mkdir -p {place}/run")
    script = (
        f"set -a; . {release}/env; set +a; cd {release}/code; export PATH={release}/venv/bin:/usr/bin:/bin"
        f" RUNTIME_DIRECTORY={place}/run VIVARIUM_ROOT_PATH=/below;"
        f" exec /usr/sbin/{run} systemd-socket-activate --listen={place}/socket"
        " -E PATH -E PYTHONPATH -E RELEASE -E RUNTIME_DIRECTORY -E VIVARIUM_ROOT_PATH"
        f" sh -c '{host.check_output(f'grep ^exec {release}/serve')}'"
    )
    unit = f"below-{name}"
    host.check_output(f"systemd-run --quiet --unit {unit} sh -c {shlex.quote(script)}")
    asked = f"{run} curl --silent --show-error --max-time 60 --retry 20 --retry-delay 1 --retry-all-errors"
    asked += f" --unix-socket {place}/socket"
    try:
        headers = "--header 'X-Forwarded-Proto: https' --header 'X-Forwarded-For: 192.0.2.7'"
        seen = json.loads(host.check_output(f"{asked} {headers} http://shore.test/below/django/"))
    finally:
        host.run(f"systemctl stop {unit}; rm -r {place}")
    assert (seen["script_name"], seen["link"]) == ("/below", "/below/django/")
    assert seen["url"] == "https://shore.test/below/django/"


@each_server
def test_an_event_does_not_wait_for_the_next_one(host, name):
    domain = f"{name.replace('_', '-')}.example.test"
    first = host.run(
        f"timeout 30 curl --silent --insecure --no-buffer --resolve {domain}:443:127.0.0.1 https://{domain}/events | head -1"
    )
    assert first.stdout.strip() == "data: the first", first


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
    """One process alone would always take two seconds or more; Granian's may share the connections out unevenly once."""
    tries = []
    while not tries or (len(tries) < 5 and not (len(tries[-1]["pids"]) == 2 and tries[-1]["seconds"] < 1.8)):
        tries.append(ask(host, name, "blocking"))
    assert len(tries[-1]["pids"]) == 2 and tries[-1]["seconds"] < 1.8, tries


def test_an_idle_connection_is_nginxs_to_close(host):
    """Which it does after five seconds: a server that is faster may lose the next request."""
    processes = {name: client(host, name, "idle") for name in SERVERS}
    for name, process in processes.items():
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, f"{name}: {errors}"
        first, second = json.loads(output)
        assert first == second


@each_server
def test_websockets(host, name):
    one, two = ask(host, name, "websocket")
    assert (one["text"], two["text"], one["scheme"], one["client"]) == ("one", "two", "wss", "192.0.2.7")


def test_options_reach_the_server(host):
    """Daphne is told to take no message of more than 100 bytes, and drops who sends one."""
    assert ask(host, "uvicorn", "large") and not ask(host, "daphne", "large")


@each_server
def test_an_access_log_is_written_where_it_was_asked_for_and_names_the_visitor(host, name):
    curl(host, name, "/request?logged", options="--header 'X-Forwarded-For: 192.0.2.99'")
    lines = host.run(f"journalctl --unit {unit(host, name)} --output cat --grep 'GET /request'").stdout.splitlines()
    if name in ("gunicorn_asgi", "hypercorn", "daphne"):
        assert any("192.0.2.99" in line for line in lines)
    else:
        assert lines == []


@each_server
def test_the_application_was_told_of_its_life_where_it_wants_to(host, name):
    seen = ask(host, name, "request")
    expected = [f"lifespan.startup {seen['pid']}"] if host.backend.name.endswith("debian12") else []
    assert seen["started"] == expected


@each_server
def test_the_sandbox(host, name):
    output = host.check_output(f"systemd-analyze security --no-pager {unit(host, name)}")
    score = float(re.search(r"exposure level for \S+: ([0-9.]+)", output)[1])
    found = json.loads(curl(host, name, "/attempts").stdout)
    through = {attempt for attempt, error in found.items() if error is None}
    own = {
        "write its state", "write its uploads", "write its /tmp", "run a program", "open a socket",
    }  # fmt: skip
    if name != "gunicorn_asgi":
        assert score <= 1.3 and through == own
    else:
        # It asked for all the switches.
        more = {"map memory that is writable and executable", "open a netlink socket", "make a namespace"}
        assert through == own | more and score < 3
    assert len(found) >= 25


SWITCHES = """
import json, os, socket
attempts = {
    "programs: look at the machine": lambda: open("/proc/meminfo").close(),
    "programs: choose a processor": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "programs: be nice": lambda: os.nice(1),
    "netlink": socket.if_nameindex,
}
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = True
    except OSError:
        found[name] = False
print(json.dumps([found, os.stat("/dev").st_dev]))
"""


def test_each_switch_lets_through_what_it_says_and_nothing_does_without(host):
    """jit and namespaces are among the questions to the sandbox above; this host has no graphics."""
    devices = int(host.check_output("stat --format %d /dev"))
    for name, allowed in (("gunicorn_asgi", True), ("uvicorn", False)):
        run = host.run(f"/usr/local/lib/asgi/{name}-run live -- python -c %s", SWITCHES)
        found, seen = json.loads(run.stdout)
        assert set(found.values()) == {allowed}, found
        assert (seen == devices) is allowed  # gpu: the machine's devices


def test_a_path_more_is_writable_where_it_was_asked_for(host):
    host.check_output("mkdir -p /srv/shared; chmod 0777 /srv/shared")
    code = "open('/srv/shared/written', 'w').write('x')"
    assert host.run(f'/usr/local/lib/asgi/gunicorn_asgi-run live -- python -c "{code}"').rc == 0
    host.check_output("rm /srv/shared/written")
    assert (
        "Read-only file system" in host.run(f'/usr/local/lib/asgi/uvicorn-run live -- python -c "{code}" 2>&1').stdout
    )


@each_server
def test_a_killed_worker_and_a_killed_server_come_back(host, name):
    this = unit(host, name)
    before = wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and pids)
    host.check_output(f"kill -9 {before[0]}")
    wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and before[0] not in pids)
    # The main process, and where that is a parent of ours, the server's own below it.
    kills = ["kill -9 $(systemctl show --property=MainPID --value %s)"]
    if name in ("gunicorn", "gunicorn_asgi", "granian"):
        kills.append("kill -9 $(pgrep --parent $(systemctl show --property=MainPID --value %s))")
    for kill in kills:
        before = wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and pids)
        main = host.check_output(f"systemctl show --property=MainPID --value {this}")
        host.check_output(kill % this)
        wait_until(
            lambda main=main: host.check_output(f"systemctl show --property=MainPID --value {this}") not in (main, "0")
        )
        # Whoever comes while it starts waits in the socket.
        assert curl(host, name, "/").rc == 0
        after = wait_until(lambda: len(pids := ask(host, name, "pids")) == 2 and pids)
        assert not set(after) & set(before)


def test_a_worker_that_hangs_is_ended_and_one_that_is_busy_is_not(host):
    """Busy workers answer one request after the other, each of which keeps the event loop from anything else."""
    before = {
        name: wait_until(lambda name=name: len(pids := ask(host, name, "pids")) == 2 and pids) for name in SERVERS
    }
    for question in ("busy", "hang"):
        processes = {name: client(host, name, question) for name in SERVERS}
        for name, process in processes.items():
            output, errors = process.communicate(timeout=300)
            assert process.returncode == 0, f"{name}: {errors}"
            if question == "busy":
                assert set(json.loads(output)) == set(before[name]), name
            else:
                assert json.loads(output) is False, f"{name} answered"
    for name in SERVERS:
        after = wait_until(lambda name=name: len(pids := ask(host, name, "pids")) == 2 and pids)
        assert len(set(after) & set(before[name])) == 1, name
        log = host.check_output(f"journalctl --unit {unit(host, name)} --output cat --since -5min")
        assert "most recent call first" in log and "in block" in log, name


@each_server
def test_an_end_loses_nothing(host, name):
    this = unit(host, name)
    process = client(host, name, "stop")
    assert process.stdout.readline() == "held\n", process.stderr.read()
    begun = time.monotonic()
    host.check_output(f"systemctl stop {this}")
    took = time.monotonic() - begun
    *bodies, (code, seconds) = sorted(
        json.loads(process.communicate(timeout=300)[0]), key=lambda item: isinstance(item, list)
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


def test_another_server_goes_live_without_a_loss_and_a_dangerous_one_does_not(hosts, tmp_path):
    """One deploy: uvicorn gets another server and more workers; the project of daphne locks an unsafe one."""
    with tarfile.open(tmp_path / "old.tar.gz", "w:gz") as archive:
        for path in (PROJECT / "molecule/asgi/tide/tide.py", SCENARIO / "shore/shore.py"):
            archive.add(path, path.name)
        (tmp_path / "requirements.txt").write_text("Django>=5.2,<6.2\ndaphne==4.1.2\n")
        archive.add(tmp_path / "requirements.txt", "requirements.txt")
    changes = {
        "uvicorn": {"server": "hypercorn", "workers": 3},
        "daphne": {"source": {"archive": str(tmp_path / "old.tar.gz")}},
    }
    before = {name: [unit(host, "uvicorn"), unit(host, "daphne")] for name, host in hosts.items()}
    visitors = {name: client(host, "uvicorn", "load") for name, host in hosts.items()}
    assert all(process.stdout.readline() == "started\n" for process in visitors.values())
    play = subprocess.run(
        [
            "ansible-playbook", "-i", Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent, PROJECT / "playbooks/deploy.yml",
            "-e", json.dumps({"changes": changes, "asgi_only": "uvicorn,daphne"}),
        ],
        cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    message = " ".join(play.stdout.split())
    assert play.returncode != 0
    assert message.count("the project locks daphne 4.1.2; server daphne needs daphne 4.2.2 or newer") >= 2, play.stdout
    for name, host in hosts.items():
        wait_until(
            lambda host=host, old=before[name][0]: host.run(f"systemctl is-active {old}").stdout.strip() == "inactive"
        )
        seen = json.loads(visitors[name].communicate(timeout=300)[0])
        assert seen["failures"] == [] and seen["requests"] > 100, seen
        assert seen["servers"] == [None, "hypercorn-h11"] and len(seen["releases"]) == 2
        assert seen["closed"][0] == SERVERS["uvicorn"]["close_code"]
        assert len(wait_until(lambda host=host: len(pids := ask(host, "uvicorn", "pids")) == 3 and pids)) == 3
        assert unit(host, "uvicorn") != before[name][0] and unit(host, "daphne") == before[name][1]
        assert curl(host, "daphne", "/").rc == 0
