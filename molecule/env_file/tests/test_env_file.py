"""The role env_file: values arrive, secrets stay where they belong."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
HOSTILE = json.loads((SCENARIO / "values.json").read_text())
EXPECTED = HOSTILE | {
    "DEBUG": "False",
    "WORKERS": "2",
    "HOSTS": "a.example.com,b.example.com",
    "TOKEN": "the-first-token",
}
DUMP = "/usr/bin/python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"


def converge(token):
    """Run the scenario's playbook with another secret, as talkative as it gets."""
    command = [
        "ansible-playbook",
        "-i",
        os.environ["MOLECULE_INVENTORY_FILE"],
        "--diff",
        "-vvvv",
        str(SCENARIO / "converge.yml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"TEST_TOKEN": token})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def environment_of_a_service(host):
    unit = f"systemd-run --wait --pipe --quiet --collect -p EnvironmentFile=/etc/shop.env -p User=nobody {DUMP}"
    return json.loads(host.check_output(unit))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_service_gets_every_value_unchanged(environment_of_a_service, name):
    assert environment_of_a_service[name] == EXPECTED[name]


def test_a_shell_gets_every_value_unchanged(host):
    found = json.loads(host.check_output(f"sh -euc 'set -a; . /etc/shop.env; exec \"$@\"' sh {DUMP}"))
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED


def test_nobody_else_can_read_the_file(host):
    refused = host.run("runuser -u nobody -- cat /etc/shop.env")
    assert refused.rc != 0
    assert "Permission denied" in refused.stderr


def test_a_secret_appears_nowhere_but_in_the_file(hosts):
    code, output = converge("the-second-token")
    assert code == 0, output
    assert output.count("changed=1") == len(hosts)
    assert "shop would be restarted" in output
    assert "/etc/shop.env" in output
    for host in hosts.values():
        assert "the-second-token" in host.check_output("cat /etc/shop.env")
        journal = host.check_output("journalctl --no-pager --output=export")
        assert "vivarium.server.files" in journal, "modules do not report to the journal here: the test proves nothing"
        for token in ("the-first-token", "the-second-token"):
            assert token not in journal
            assert token not in output
            assert host.run(f"grep -rIl --exclude-dir=proc {token} /etc /tmp /var/tmp /var/log /root /home").stdout.split() in (
                [], ["/etc/shop.env"]
            )  # fmt: skip


def test_a_secret_that_cannot_arrive_is_refused_by_name(hosts):
    code, output = converge("a-third-token\x1b")
    assert code != 0
    assert "TOKEN" in output
    assert "a-third-token" not in output
    for host in hosts.values():
        assert "a-third-token" not in host.check_output("cat /etc/shop.env")


def test_the_first_token_is_back(hosts):
    assert converge("the-first-token")[0] == 0
    assert "the-first-token" in hosts["debian12"].check_output("cat /etc/shop.env")
