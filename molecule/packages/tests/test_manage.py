"""The command NAME-manage on the host, for programs and for a person at a terminal, and the playbook that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from play import wait_until
from terminal import Terminal

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
PHRASE = "a long enough phrase 42"


def commands(host):
    """The commands of the application that run now."""
    return host.run("systemctl list-units --no-legend --plain 'records.run-*'").stdout.split("\n")[:-1]


def test_output_and_exit_codes_come_through(host):
    run = host.run(
        "records-manage shell --no-imports --command %s", "import sys; print(1); print(2, file=sys.stderr); sys.exit(7)"
    )
    assert (run.rc, run.stdout, run.stderr) == (7, "1\n", "2\n")
    assert host.run("records-manage nosuchcommand").rc == 1


def test_data_goes_out_and_in_through_pipes(host):
    host.check_output(
        "records-manage shell --command %s",
        "from django.contrib.auth.models import Group as G; G.objects.get_or_create(name='swans')",
    )
    host.check_output("records-manage dumpdata auth.group > /root/groups.json")
    groups = [each["fields"]["name"] for each in json.loads(host.file("/root/groups.json").content_string)]
    assert "swans" in groups
    assert f"Installed {len(groups)} object" in host.check_output(
        "records-manage loaddata --format=json - < /root/groups.json"
    )
    assert f"Installed {len(groups)} object" in host.check_output(
        "cat /root/groups.json | records-manage loaddata --format=json -"
    )
    assert host.run("echo 'raise SystemExit(9)' | records-manage shell").rc == 9


def test_a_person_is_asked_and_nothing_shows_a_password(host):
    with Terminal(
        host,
        "records-manage",
        "createsuperuser",
        "--username",
        f"grace{time.time():.0f}",
        "--email",
        "grace@example.test",
    ) as terminal:
        for question in ("Password: ", "Password (again): "):
            terminal.until(question)
            terminal.type(f"{PHRASE}\r")
        terminal.until("Superuser created successfully.")
        assert PHRASE not in terminal.seen
        assert terminal.ends() == 0


def test_ctrl_c_interrupts_what_runs_and_the_shell_stays(host):
    with Terminal(host, "records-manage", "shell", "--no-imports") as terminal:
        terminal.until(">>> ")
        terminal.type("import os, time; os.isatty(0), os.environ['TERM']\r")
        terminal.until("(True, '")
        terminal.until(">>> ")
        terminal.type("time.sleep(300)\r")
        time.sleep(1)
        terminal.type("\x03")
        terminal.until("KeyboardInterrupt")
        terminal.until(">>> ")
        terminal.type("raise SystemExit(5)\r")
        assert terminal.ends() == 5


WAITING = (
    "records-manage",
    "shell",
    "--no-imports",
    "--command",
    "import time; print('I wait', flush=True); time.sleep(600)",
)


def test_a_command_ends_with_its_terminal(host):
    with Terminal(host, *WAITING) as terminal:
        terminal.until("I wait")
        assert len(commands(host)) == 1
        # What a lost connection does to the programs at its terminal.
        host.check_output("pkill -HUP --oldest --full '^/bin/sh /usr/local/lib/asgi/records-run live'")
        assert terminal.ends() != 0
    wait_until(lambda: commands(host) == [])
    assert host.run("pgrep --full '^python -m django shell'").rc == 1


def test_a_command_ends_with_the_program_that_started_it(host):
    process = subprocess.Popen(
        ["podman", "exec", host.backend.name, *WAITING], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "I wait\n"
    host.check_output("pkill -TERM --oldest --full '^/bin/sh /usr/local/lib/asgi/records-run live'")
    assert process.wait(timeout=300) == 143
    assert commands(host) == []
    assert host.run("pgrep --full '^python -m django shell'").rc == 1


def manage(*options, **variables):
    command = [
        "ansible-playbook",
        "-i",
        INVENTORY,
        PROJECT / "playbooks/manage.yml",
        *options,
        "-e",
        json.dumps(variables),
    ]
    return subprocess.run(
        [str(word) for word in command],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def names(hosts):
    def ask():
        script = "from django.contrib.auth.models import Group as G; print('names', *G.objects.values_list('name', flat=True))"
        found = {name: host.check_output("records-manage shell --command %s", script) for name, host in hosts.items()}
        return {name: output.split("names", 1)[1].split() for name, output in found.items()}

    return ask


GEESE = "from django.contrib.auth.models import Group as G; G.objects.get_or_create(name='geese'); print('done')"


def test_the_playbook_runs_it_on_one_host_and_shows_what_it_says(hosts, names):
    run = manage("-vvv", manage_app="records", manage_command="shell --no-imports", manage_input=GEESE)
    assert run.returncode == 0 and "- done" in run.stdout, run.stdout + run.stderr
    assert sorted("geese" in found for found in names().values()) == [False, True]
    assert "geese" not in run.stdout, "what a command is given may be secret"
    for host in hosts.values():
        assert "geese" not in host.run("journalctl --no-pager").stdout


def test_the_playbook_fails_if_the_command_does():
    run = manage(manage_app="records", manage_command="loaddata 'no such file'")
    assert run.returncode != 0 and "no such file" in run.stdout, run.stdout


def test_check_mode_runs_only_what_changes_nothing(names):
    before = names()
    run = manage("--check", manage_app="records", manage_command="shell --no-imports", manage_input=GEESE)
    assert run.returncode == 0 and "Without --check this would run on" in run.stdout, run.stdout
    assert names() == before
    run = manage("--check", manage_command="showmigrations auth")
    assert run.returncode == 0 and "[X] 0001_initial" in run.stdout, run.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"manage_app": "birds", "manage_command": "check"}, "Say for which application: -e manage_app=records"),
        ({"manage_app": "records"}, "Say what to run"),
    ],
)
def test_the_playbook_stops_where_it_is_not_clear_what_is_meant(variables, message):
    run = manage(**variables)
    assert run.returncode != 0 and message in " ".join(run.stdout.split()), run.stdout
