"""tools/try-inventory: whose hosts are started, and how Ansible is told where they are."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool():
    loader = importlib.machinery.SourceFileLoader("try_inventory", str(ROOT / "tools" / "try-inventory"))
    specification = importlib.util.spec_from_loader("try_inventory", loader)
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module


def test_the_hosts_are_those_that_ansible_lists(tool):
    assert tool.hosts_of("  hosts (2):\n    web1.example.com\n    db1\n") == ["web1.example.com", "db1"]
    assert tool.hosts_of("  hosts (0):\n") == []


def test_a_host_has_a_name_that_a_container_can_have(tool):
    assert tool.container_name("Web_1.example.com") == "web-1-example-com"


def test_a_run_that_changes_something_is_seen(tool):
    recap = (
        "web1.example.com           : ok=9    changed=0    unreachable=0    failed=0\n"
        "db1                        : ok=19   changed=12   unreachable=0    failed=0\n"
    )
    assert tool.changed_on(recap) == ["db1"]


def test_each_host_is_reached_at_its_own_place_whatever_the_inventory_says(tool, tmp_path):
    """And by the others at the address of its container, as hostvars of another host have it."""
    (tmp_path / "hosts.yml").write_text(
        "web_servers: {hosts: {web1: {ansible_host: 192.0.2.1, ansible_port: 2222, vivarium_address: 10.0.0.1}, web2: {}}}\n"
    )
    hosts = {
        name: {"address": "127.0.0.1", "port": port, "user": "admin", "identity_file": "/key", "ip": address}
        for name, port, address in (("web1", 4001, "10.89.0.2"), ("web2", 4002, "10.89.0.3"))
    }
    (tmp_path / "variables.json").write_text(json.dumps(tool.connection(hosts)))
    (tmp_path / "play.yml").write_text(
        "- hosts: web_servers\n  gather_facts: false\n  connection: local\n  tasks:\n"
        "    - ansible.builtin.debug:\n"
        "        msg: \"{{ inventory_hostname }} {{ ansible_host }} {{ ansible_port }} {{ hostvars['web1'].vivarium_address }}"
        " {{ hostvars['web2'].vivarium_address }} end\"\n"
    )
    shown = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "play.yml", "-i", "hosts.yml", "-e", "@variables.json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "web1 127.0.0.1 4001 10.89.0.2 10.89.0.3 end" in shown
    assert "web2 127.0.0.1 4002 10.89.0.2 10.89.0.3 end" in shown
