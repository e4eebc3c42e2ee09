"""The asgi role's input as a run of Ansible sees it: the argument spec, the filter and the sources together."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml
from ansible_collections.vivarium.server.plugins.filter.asgi_files import asgi_sandbox
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import PROGRAMS
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps import code, commands, schema, server

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = yaml.safe_load((ROOT / "roles/asgi/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def test_what_the_argument_spec_cannot_say_fits_to_it():
    described = OPTIONS["asgi_apps"]["options"]
    assert described == schema.OPTIONS
    assert set(described["source"]["options"]) == {key for keys in code.SOURCE_KEYS.values() for key in keys}
    assert described["worker_class"]["choices"] == list(server.WORKER_CLASSES)
    for key, (low, high) in schema.RANGES.items():
        assert described[key]["type"] == "int" and low <= described[key].get("default", low) <= high


def test_an_application_is_never_the_default_itself():
    """What one of them changes in its own would be everybody's."""
    for options in (schema.OPTIONS, schema.OPTIONS["hooks"]["options"], commands.KINDS["timers"]):
        filled, _sound = schema.filled({}, options, lambda _message: None)
        for key, value in filled.items():
            assert value is not options[key].get("default") or not isinstance(value, (list, dict))


def test_a_sandbox_is_the_role_s_less_what_is_allowed_and_what_the_application_says():
    table = {
        "service": {"ProtectHome": "yes", "MemoryDenyWriteExecute": "yes", "PrivateDevices": "yes"},
        "build": {"MemoryDenyWriteExecute": "no", "SystemCallFilter": "@resources"},
        "switches": {"gpu": {"PrivateDevices": "no", "DeviceAllow": ["char-drm rw", "char-kfd rw"]}},
    }
    app = {"name": "shop", "root": "/srv/shop", "sandbox_allow": ["gpu"], "sandbox": {"ProtectHome": None}}
    filters = ["SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"]
    assert asgi_sandbox(app, table) == [
        "MemoryDenyWriteExecute=yes", "PrivateDevices=no", "DeviceAllow=char-drm rw", "DeviceAllow=char-kfd rw", *filters,
        "ReadWritePaths=/var/lib/asgi-shop -/srv/shop/media",
    ]  # fmt: skip
    build = asgi_sandbox(app, table, build=True)
    assert build[0] == "MemoryDenyWriteExecute=no" and "SystemCallFilter=@resources" in build
    assert not [line for line in build if line.startswith("ReadWritePaths")]


def test_the_role_has_a_row_for_each_server_and_its_programs_where_its_code_looks():
    variables = yaml.safe_load((ROOT / "roles/asgi/vars/main.yml").read_text())
    servers = OPTIONS["asgi_apps"]["options"]["server"]["choices"]
    assert variables["__asgi_programs"] == PROGRAMS
    assert list(variables["__asgi_servers"]) == [*servers[:2], "gunicorn_asgi", *servers[2:]]


GOOD = {
    "name": "shop",
    "source": {"path": "."},
    "application": "shop.asgi:application",
    "settings": "shop.settings",
    "domains": ["shop.example.com"],
    "secrets": {"SECRET_KEY": "hunter2-key", "DATABASE_PASSWORD": "hunter2-password"},
}
CASES = {
    "good": ([{}], {}, None),
    "missing secret": ([{"secrets": {"SECRET_KEY": "hunter2-key"}}], {}, "secrets.DATABASE_PASSWORD is required and not set"),
    "wrong type": ([{"workers": "many"}], {}, "argument 'workers' is of type str"),
    "secrets that are text": ([{"secrets": "hunter2"}], {}, "argument 'secrets' is of type str"),
    "secrets that are a list": ([{"secrets": ["hunter2"]}], {}, "argument 'secrets' is of type list"),
    "a secret that is a dictionary": ([{"secrets": {"A": {"hunter2": "hunter2"}}}], {}, "secrets.A: must be text"),
    "a secret with a control character": ([{"secrets": {"A": "hunter2\a"}}], {}, "secrets.A: contains a control character"),
    "unknown key": ([{"secert": {"A": "hunter2"}}], {}, "asgi_apps.secert"),
    "unknown key of a source": ([{"source": {"path": ".", "branch": "x"}}], {}, "branch"),
    "invalid domain": ([{"domains": ["Shop.example.com"]}], {}, "domains: 'Shop.example.com' is not a lower-case domain name"),
    "duplicate name": ([{}, {"domains": ["x.example.com"]}], {}, "the name 'shop' is used more than once"),
    "unknown server": (
        [{"server": "unicorn"}], {}, "server must be one of: uvicorn, gunicorn, hypercorn, daphne, granian, got: unicorn",
    ),
    "a directory that is not there": ([{"source": {"path": "nosuch"}}], {}, "asgi_apps (shop): source.path:"),
    "a repository that is not there": ([{"source": {"git": "nosuch", "version": "v1"}}], {}, "asgi_apps (shop): source.git:"),
    "a version that is not there": (
        [{"source": {"git": str(ROOT), "version": "nosuch"}}], {}, "asgi_apps (shop): source.version: 'nosuch' is no branch",
    ),
    "an archive that is none": ([{"source": {"archive": "hosts"}}], {}, "asgi_apps (shop): source.archive:"),
    "a source of an application that is left out": (
        [{}, {"name": "blog", "domains": ["b.example.com"], "source": {"path": "nosuch"}}], {"asgi_only": "shop"}, None,
    ),
    "only an application that is not there": ([{}], {"asgi_only": "shop,blog"}, "asgi_only names blog, which is no application"),
    "a version for all git sources": (
        [{"source": {"git": str(ROOT), "version": "main"}}], {"asgi_version": "nosuch"}, "source.version: 'nosuch'",
    ),
}  # fmt: skip
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_tasks: case.yml
      loop: "{{ cases }}"
      loop_control: {loop_var: case, label: "{{ case.what }}"}
    - ansible.builtin.copy: {content: "{{ said | to_json }}", dest: "{{ inventory_dir }}/said", mode: "0600"}
"""
CASE = """
- block:
    - ansible.builtin.include_role: {name: vivarium.server.asgi, tasks_from: validate}
      vars: {asgi_apps: "{{ case.apps }}", asgi_only: "{{ case.asgi_only }}", asgi_version: "{{ case.asgi_version }}"}
    - ansible.builtin.set_fact: {said: "{{ said | default({}) | combine({case.what: none}) }}"}
  rescue:
    - ansible.builtin.set_fact: {said: "{{ said | default({}) | combine({case.what: ansible_failed_result.msg}) }}"}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of Ansible that checks all the cases, as talkative as can be."""
    place = tmp_path_factory.mktemp("role")
    (place / "hosts").write_text("localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n")
    (place / "play.yml").write_text(PLAY)
    (place / "case.yml").write_text(CASE)
    cases = [
        {"what": what, "apps": [GOOD | app for app in apps], "asgi_only": [], "asgi_version": "", **options}
        for what, (apps, options, _expected) in CASES.items()
    ]
    (place / "cases.json").write_text(json.dumps({"cases": cases}))
    result = subprocess.run(
        ["ansible-playbook", "-vvv", "--diff", "-i", place / "hosts", place / "play.yml", "-e", f"@{place / 'cases.json'}"],
        cwd=ROOT, env={**os.environ, "XDG_CACHE_HOME": str(place)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads((place / "said").read_text()), result.stdout + result.stderr


@pytest.mark.parametrize("what", CASES)
def test_a_mistake_stops_the_run_with_the_name_of_the_variable(run, what):
    said, expected = run[0][what], CASES[what][2]
    if expected is None:
        assert said is None
    else:
        assert said and expected in " ".join(said.split())
        assert "hunter2" not in said


def test_no_secret_is_told_at_any_verbosity(run):
    assert not re.findall(r".*hunter2.*", run[1])


def test_nothing_asks_the_host(run):
    """What this test itself writes at the end is all that runs there."""
    assert set(re.findall(r"Using module file \S+/(\w+)\.py", run[1])) <= {"copy", "stat", "file", "slurp"}


@pytest.mark.parametrize("inside", ["code", "repository/backend", "repository/releases/1/backend"])
@pytest.mark.parametrize("application", ["shop", "releases"])
def test_a_timer_finds_its_release_from_its_code(tmp_path, application, inside):
    """Wherever /srv leads, and whatever directories of the repository are called."""
    release = tmp_path / "disk/srv" / application / "releases/20261124-101500-1a2b3c"
    (release / inside).mkdir(parents=True)
    (tmp_path / "command").write_text('echo "$PATH"')
    words = ["sh", ROOT / "roles/asgi/files/in-release", tmp_path / "command"]
    run = subprocess.run(words, cwd=release / inside, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == f"{release}/venv/bin:/usr/bin:/bin"
