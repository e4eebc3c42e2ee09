"""What an application that the role put live can do, and what it cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from play import wait_until

SCENARIO = Path(__file__).resolve().parents[1]
SETTINGS = yaml.safe_load((SCENARIO / "inventory/group_vars/all.yml").read_text())
TOKEN = "hunter2-nobody-may-see-this"
HOSTILE = json.loads((SCENARIO.parent / "env_file/values.json").read_text())

ALLOWED = {
    "write its state", "write its uploads", "write its /tmp", "run a program", "open a socket",
}  # fmt: skip


def ask(host, name, path, user="www-data"):
    run = host.run(
        f"runuser -u {user} -- curl --silent --show-error --max-time 20 --header 'X-Forwarded-Proto: https'"
        f" --unix-socket /srv/{name}/live/socket 'http://{name}.example.test{path}'"
    )
    return json.loads(run.stdout) if run.rc == 0 else run.stderr


@pytest.mark.parametrize("name", ["tide", "pond"])
def test_nginx_alone_reaches_the_socket(host, name):
    assert isinstance(ask(host, name, "/"), dict)
    for stranger in ("nobody", "admin", "pond" if name == "tide" else "tide"):
        assert "Couldn't connect" in ask(host, name, "/", stranger) or "Failed to connect" in ask(
            host, name, "/", stranger
        )


def test_the_scheme_and_the_address_of_the_visitor_come_through(host):
    run = host.run(
        "runuser -u www-data -- curl --silent --header 'X-Forwarded-Proto: https' --header 'X-Forwarded-For: 192.0.2.7'"
        " --unix-socket /srv/tide/live/socket http://tide.example.test/"
    )
    answer = json.loads(run.stdout)
    assert answer["scheme"] == "https" and answer["client"][0] == "192.0.2.7"


def test_the_sandbox_lets_through_what_is_its_own(host):
    host.run("touch /tmp/of-another")
    found = ask(host, "tide", "/attempts")
    assert {name for name, error in found.items() if error is None} == ALLOWED
    assert len(found) >= 25


def test_without_the_sandbox_the_same_attempts_succeed(host):
    """A path that is not there would be refused as well, and prove nothing."""
    script = (
        "import json, tide; print(json.dumps({n: repr(e) for n, a in tide.ATTEMPTS.items()"
        " for e in [tide.error_of(a)] if e and n.split()[0] in ('see', 'read', 'write', 'make', 'replace', 'map')}))"
    )
    run = host.run(
        "systemd-run --wait --pipe --quiet --collect --property=PrivateMounts=yes --working-directory=/srv/tide/live/code"
        " --setenv=HOME=/var/lib/asgi-tide /srv/tide/live/venv/bin/python -B -c %s; "
        "find /srv /etc /var /run /tmp -xdev \\( -name .attempt -o -name .live \\) -delete; rm -f /tmp/suid",
        script,
    )
    assert json.loads(run.stdout) == {}


def test_the_score_of_systemds_own_audit(host):
    live = host.check_output("basename $(readlink /srv/tide/live)")
    for unit in (f"tide@{live}.service", f"tide-worker@{live}.service", "tide-tick.service"):
        output = host.check_output(f"systemd-analyze security --no-pager {unit}")
        assert float(re.search(r"exposure level for \S+: ([0-9.]+)", output)[1]) <= 1.3, output


def test_the_environment_arrives_whatever_is_in_it(host):
    found = ask(host, "tide", "/environment")
    assert {name: found.get(name) for name in HOSTILE} == HOSTILE
    assert found["TOKEN"] == TOKEN and found["GREETING"] == "hello"
    assert found["RELEASE"] == host.check_output("basename $(readlink /srv/tide/live)")


def test_secrets_are_nowhere_but_in_the_environment_file(host):
    live = host.check_output("readlink -f /srv/tide/live")
    assert host.file(f"{live}/env").mode == 0o600 and host.file(f"{live}/env").user == "root"
    assert TOKEN in host.file(f"{live}/env").content_string
    for reader in ("nobody", "www-data", "tide"):
        assert host.run(f"runuser -u {reader} -- cat {live}/env").rc != 0
    for command in (
        "ps axeww",
        "systemctl show 'tide*' 'pond*'",
        "systemctl cat 'tide@*'",
        "cat /srv/*/releases/*/serve",
    ):
        assert "hunter2" not in host.run(f"runuser -u nobody -- {command}").stdout
    for place in (
        "journalctl --no-pager",
        "ps axww",
        "grep -r hunter2 /etc /run /usr/local /var/log /tmp /var/tmp /root /home",
    ):
        assert "hunter2" not in host.run(place).stdout, place
    holders = host.run("grep -rlI hunter2 /srv /var/lib").stdout.split()
    assert all(re.fullmatch(r"/srv/(tide|pond)/releases/[0-9a-f-]+/env", path) for path in holders), holders


def test_nobody_but_root_changes_what_runs(host):
    wrong = host.run(
        "find -L /srv/tide/live/ /srv/pond/live/ \\( -not -user root -or -perm /022 \\) -not -type s -not -type l -print"
    )
    assert wrong.stdout == "" and wrong.rc == 0


def test_uploads_are_for_the_application_and_nginx(host):
    media = host.file("/srv/pond/media")
    assert (media.user, media.group, media.mode) == ("pond", "www-data", 0o2750)
    assert host.run("runuser -u tide -- ls /srv/pond/media").rc != 0


def test_django_is_there_with_its_database_and_its_static_files(host):
    answer = ask(host, "pond", "/")
    assert answer["ducks"] == 1
    assert re.fullmatch(r"/static/pond/site\.[0-9a-f]{12}\.css", answer["style"])
    assert host.run(f"runuser -u www-data -- cat /srv/pond{answer['style']}").stdout == "body { color: green }\n"


def test_manage_runs_like_the_service(host):
    assert host.run("pond-manage showmigrations pond").stdout.splitlines() == ["pond", " [X] 0001_initial"]
    shell = "import os, getpass; print(getpass.getuser(), 'SECRET_KEY' in os.environ, os.access('/srv/pond/live/code', os.W_OK))"
    assert host.run("pond-manage shell --no-imports --command %s", shell).stdout.split() == ["pond", "True", "False"]
    assert host.run("pond-manage nosuchcommand").rc == 1


def test_a_process_runs_and_gets_its_words_as_they_are(host):
    live = host.check_output("basename $(readlink /srv/tide/live)")
    assert json.loads(host.file("/var/lib/asgi-tide/worker").content_string) == [live, "two words", "100%", "$HOME"]
    assert host.service(f"tide-worker@{live}").is_running


def test_a_timer_runs_its_command(host):
    assert host.run("systemctl list-timers --no-legend tide-tick.timer").stdout.strip()
    host.run("systemctl start tide-tick.service")
    live = host.check_output("basename $(readlink /srv/tide/live)")
    assert json.loads(host.file("/var/lib/asgi-tide/tick").content_string) == [live]


def test_many_connections_fit(host):
    pid = ask(host, "tide", "/")["pid"]
    limit = host.check_output(f"grep 'open files' /proc/{pid}/limits").split()[3]
    assert int(limit) >= 16384  # a test host may not have more; elsewhere 65536


def test_a_killed_server_comes_back(host):
    before = ask(host, "tide", "/")
    unit = f"tide@{before['release']}.service"
    main = f"systemctl show --property=MainPID --value {unit}"
    killed = host.check_output(main)
    host.check_output(f"kill -9 {killed}")
    # Its workers may answer until systemd knows.
    wait_until(lambda: host.check_output(main) not in (killed, "0"))
    assert host.run(
        "for i in $(seq 100); do runuser -u www-data -- curl --silent --unix-socket /srv/tide/live/socket"
        " http://tide.example.test/ && exit; sleep 0.1; done; exit 1"
    ).succeeded
    after = ask(host, "tide", "/")
    assert after["release"] == before["release"] and after["pid"] != before["pid"]
