"""A release goes live on a fleet while visitors come, or it stops where the first host says no.

The tests run in their order, each begins with what the one before left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from play import PROJECT, Play, noticed, visitors, wait_until
from visitor import Visitor

DOMAIN = "herbarium.example.test"
CODE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "herbarium"
APPS = ("app1", "app2")


def live(hosts, name="herbarium"):
    return {app: hosts[app].check_output(f"basename $(readlink /srv/{name}/live)") for app in APPS}


def last_line(hosts, app, name="herbarium"):
    return json.loads(hosts[app].check_output(f"tail -n 1 /srv/{name}/deploys.log"))


def change(**files):
    """Change the code: a line at the end of a file of the package, taken away again by the next change."""
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=CODE, check=True)
    for name, line in files.items():
        path = CODE / "herbarium" / f"{name}.py"
        path.write_text(f"{path.read_text()}\n{line}\n")


@pytest.fixture(scope="module", autouse=True)
def committed():
    """What converge deployed, to come back to."""
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.test"]
    subprocess.run(["git", "add", "--all"], cwd=CODE, check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "x"], cwd=CODE, check=False)
    yield
    change()


def test_the_first_run_ends_with_certificates_that_browsers_trust(hosts, addresses):
    visitor = hosts["authority"]
    visitor.check_output(
        "curl --silent --cacert /etc/pebble/root.pem --output /tmp/root.pem https://authority:15000/roots/0"
    )
    for domain in ("herbarium.example.test", "tide.example.test"):
        page = "curl --silent --show-error --fail --cacert /tmp/root.pem --resolve %s https://%s/health/"
        visitor.check_output(page, f"{domain}:443:{addresses['web']}", domain)


def test_visitors_notice_nothing_of_a_release_on_two_hosts(hosts, tmp_path):
    before = live(hosts)
    assert len(set(before.values())) == 1
    with visitors(hosts["web"], DOMAIN, tmp_path, "--sockets", "0") as seen:
        change(urls=f"# {time.time()}")
        Play("deploy", asgi_only="herbarium").succeed()
        time.sleep(8)
    assert seen["failed"] == 0, noticed(seen)
    assert seen["requests"] >= 200 and seen["forms"] >= 20
    assert (seen["stored"]["missing"], seen["stored"]["twice"]) == (0, 0)
    after = live(hosts)
    assert len(set(after.values())) == 1 and after != before
    assert [each["id"] for each in seen["releases"]] == [before["app1"], after["app1"]]
    # One host migrates for both; they switch one after the other.
    took = {app: last_line(hosts, app)["seconds"] for app in APPS}
    assert sorted("migrate" in seconds for seconds in took.values()) == [False, True], took


def test_a_release_that_one_host_cannot_start_goes_live_on_none(hosts):
    before = live(hosts)
    change(asgi="import sys\nassert sys.version_info >= (3, 12), 'not on this host'")
    play = Play("deploy", asgi_only="herbarium").fail()
    assert play.failed_at("app2", "herbarium", "check") and "not on this host" in play.message("app2")
    assert "the release failed on another host (app2: check)" in " ".join(play.message("app1").split())
    assert live(hosts) == before
    assert last_line(hosts, "app1")["outcome"] == last_line(hosts, "app2")["outcome"] == "failed"
    assert last_line(hosts, "app1")["reason"] == "it failed on another host (app2: check)"
    for app in APPS:
        assert hosts[app].file("/srv/herbarium/deploy.lock").content_string == ""


def hook(condition):
    return {"hooks": {"before_switch": [f"python -c 'import sys; sys.exit(sys.version_info {condition} (3, 12))'"]}}


def test_a_host_that_cannot_switch_stops_those_that_have_not(hosts):
    before = live(hosts)
    change(urls="# the first host says no")
    play = Play("deploy", asgi_only="herbarium", changes=hook(">=")).fail()
    assert "the hook before_switch" in play.message("app1")
    assert "the release failed on another host (app1: switch)" in " ".join(play.message("app2").split())
    assert live(hosts) == before


def test_a_second_host_that_cannot_switch_keeps_its_release_and_the_next_run_brings_it_along(hosts, addresses):
    before = live(hosts)
    change(urls="# the second host says no")
    play = Play("deploy", asgi_only="herbarium", changes=hook("<")).fail()
    assert "the hook before_switch" in play.message("app2")
    between = live(hosts)
    assert between["app1"] != before["app1"] and between["app2"] == before["app2"]
    visitor = Visitor(hosts["db"], addresses["web"], DOMAIN)
    assert {json.loads(visitor.page("/health/"))["release"] for _ in range(8)} == set(between.values())
    Play("deploy", asgi_only="herbarium").succeed()
    assert live(hosts)["app1"] == between["app1"] and live(hosts)["app2"] > between["app1"]


def test_one_application_of_two_goes_live_alone(hosts, tmp_path):
    before = live(hosts), live(hosts, "tide")
    shutil.copytree(PROJECT / "molecule/asgi/tide", tmp_path / "tide", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tide/new.py").write_text(f"# {time.time()}\n")
    change(urls="# not yet")
    Play("deploy", asgi_only="tide", tide_source=str(tmp_path / "tide")).succeed()
    assert live(hosts) == before[0]
    assert len(set(live(hosts, "tide").values())) == 1 and live(hosts, "tide") != before[1]


def test_a_fleet_rolls_back(hosts):
    before = live(hosts, "tide")
    Play("rollback", asgi_only="tide").succeed()
    assert len(set(live(hosts, "tide").values())) == 1 and live(hosts, "tide")["app1"] < before["app1"]
    assert {last_line(hosts, app, "tide")["action"] for app in APPS} == {"rollback"}


def closed(hosts):
    return hosts["web"].run("ls /var/lib/vivarium/maintenance").stdout.split()


def test_what_maintenance_does_not_understand_is_refused_by_name_and_closes_nothing(hosts):
    for mistake, said in (
        ({"state": "On"}, "state must be on, off or status"),
        ({"state": "on", "allow": "web1"}, "allow: 'web1' is not an address"),
        ({"state": "on", "retry_after": "10m"}, "retry_after must be a number of seconds"),
        ({"state": "on", "asgi_only": "herbarium,shop"}, "asgi_only names shop, which is no application"),
    ):
        assert said in " ".join(Play("maintenance", **mistake).fail().output.split())
    assert Play("maintenance", "--check", state="on").succeed().changed("web") == 1
    assert closed(hosts) == []


def test_one_application_of_two_is_closed_after_a_restart_too(hosts, addresses):
    herbarium, tide = (Visitor(hosts["app1"], addresses["web"], name) for name in (DOMAIN, "tide.example.test"))
    Play("maintenance", state="on", asgi_only="tide").succeed()
    hosts["web"].check_output("systemctl restart nginx")
    assert (herbarium.status("/"), tide.status("/"), tide.status("/health/")) == (200, 503, 200)
    Play("maintenance", state="off").succeed()
    assert (tide.status("/"), closed(hosts)) == (200, [])


def test_visitors_of_a_maintenance_get_its_page_and_whoever_is_let_in_works(hosts, addresses, tmp_path):
    insider, outsider = (Visitor(hosts[name], addresses["web"], DOMAIN) for name in ("db", "app1"))
    pid = hosts["web"].check_output("systemctl show --property MainPID --value nginx")
    workers = hosts["web"].check_output("pgrep --parent %s", pid)
    wanted = {"state": "on", "asgi_only": "herbarium", "allow": addresses["db"], "retry_after": 600}
    with visitors(hosts["web"], DOMAIN, tmp_path, "--sockets", "6") as seen:
        time.sleep(3)
        play = Play("maintenance", **wanted).succeed()
        assert "herbarium: closed for maintenance since" in play.output and closed(hosts) == ["herbarium"]
        assert Play("maintenance", **wanted).succeed().changed("web") == 0
        page = outsider.curl("/", "--include").stdout
        assert page.startswith("HTTP/2 503") and "retry-after: 600" in page and "We are working on this site" in page
        assert json.loads(outsider.page("/health/"))["status"] == "ok"
        assert insider.status("/") == 200
        # It is the first thing that status has to say, of a host on which no application runs.
        said = Play("status").succeed().output
        assert said.index("herbarium: closed for maintenance since") < said.index("TASK [Report]")
        # Neither ends it nor is stopped by it; what restarts the web server does not either.
        change(urls=f"# {time.time()}")
        Play("deploy", asgi_only="herbarium").succeed()
        assert Play("site").succeed().changed("web") == 0
        assert outsider.status("/") == 503 and insider.status("/") == 200
        assert hosts["web"].check_output("pgrep --parent %s", pid) == workers
        Play("maintenance", state="off").succeed()
        assert Play("maintenance", state="off").succeed().changed("web") == 0
        assert outsider.status("/") == 200 and closed(hosts) == []
        time.sleep(4)
    assert seen["requests"] > 200 and (seen["stored"]["missing"], seen["stored"]["twice"]) == (0, 0)
    # Each had its answer; a WebSocket was told to come back (1012, 1001), and could not, until the end.
    left = [why for why in seen["failures"] if not re.search(r"answered 503$|closed early, .*\b(1012|1001)\b", why)]
    assert left == [] and seen["sockets"]["opened"] >= 2 * seen["sockets"]["held"], noticed(seen)


@contextlib.contextmanager
def off_the_net(host):
    """A host that nobody reaches, as one that is down, also where a connection was kept; with the same address afterwards."""
    gateway = host.check_output("ip -4 route show default").split()[2]
    host.check_output("ip link set eth0 down")
    try:
        yield
    finally:
        host.check_output("ip link set eth0 up && ip route replace default via %s dev eth0", gateway)


def test_a_host_that_is_down_is_left_out_where_it_is_named_and_brought_along_by_the_next_run(hosts, addresses):
    before = live(hosts)
    visitor = Visitor(hosts["db"], addresses["web"], DOMAIN)

    def releases():
        return {json.loads(visitor.page("/health/"))["release"] for _ in range(8)}

    change(urls="# one host is down")
    known = {"fleet_addresses": addresses}
    with off_the_net(hosts["app2"]):
        said = " ".join(Play("deploy").fail().output.split())
        assert "address of host 'app2' is not known" in said and "-e skip_unreachable=app2 leaves it out" in said, said
        said = " ".join(Play("deploy", skip_unreachable="app2").fail().output.split())
        assert "say vivarium_address for it in the inventory" in said, said
        said = " ".join(Play("deploy", skip_unreachable="db,app2", **known).fail().output.split())
        assert "names db, a database server" in said, said
        assert live(hosts) == before
        play = Play("deploy", skip_unreachable="app2", **known).succeed()
        assert "app2 was left out (skip_unreachable)" in play.output and "unreachable=1" not in play.output
        after = live(hosts)
        assert after["app1"] != before["app1"] and after["app2"] == before["app2"]
        assert releases() == {after["app1"]}
        # The others go on knowing it.
        play = Play("site", skip_unreachable="app2", **known).succeed()
        assert "app2 was left out (skip_unreachable)" in play.output
        assert [play.changed(name) for name in ("web", "app1", "db")] == [0, 0, 0], play.output
    play = Play("deploy", **known).succeed()
    assert "was left out" not in play.output
    assert live(hosts)["app1"] == after["app1"] and live(hosts)["app2"] > after["app1"]
    wait_until(lambda: releases() == set(live(hosts).values()))
    play = Play("site").succeed()
    assert [play.changed(name) for name in ("web", *APPS, "db")] == [0, 0, 0, 0], play.output
