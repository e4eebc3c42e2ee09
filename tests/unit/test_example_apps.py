"""The inventories of examples/apps, without a host: they are understood, and as short as is promised."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from ansible_collections.vivarium.server.plugins.filter.asgi_apps import asgi_apps
from ansible_collections.vivarium.server.plugins.filter.wiring import wiring

ROOT = pathlib.Path(__file__).resolve().parents[2]
APPS = ROOT / "examples" / "apps"
INVENTORIES = sorted(APPS.glob("*/inventory.yml"))
HOST = "server1.example.com"


@pytest.fixture
def tool(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("try_apps", str(ROOT / "tools" / "try-apps"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("try_apps", loader))
    monkeypatch.setitem(sys.modules, "try_apps", module)
    loader.exec_module(module)
    return module


def variables(path):
    """The variables of an inventory, with a made-up value for each that Vault would have."""
    text = re.sub(r'"\{\{ vault_\w+ \}\}"', "x7Kq" * 15, path.read_text())
    assert "{{" not in text
    return yaml.safe_load(text)["all"]


def test_each_is_tried(tool):
    assert len(INVENTORIES) >= 6
    assert [path.parent.name for path in INVENTORIES] == sorted(tool.KNOWN)
    assert {path.parent for path in INVENTORIES} == {path for path in APPS.iterdir() if path.is_dir()}


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.parent.name)
def test_an_inventory_is_understood(path):
    inventory = variables(path)
    (application,) = asgi_apps(inventory["vars"]["asgi_apps"])
    groups = {name: list(group["hosts"]) for name, group in inventory["children"].items()}
    assert set(groups) <= {"web_servers", "app_servers", "db_servers"}
    derived = wiring(inventory["vars"]["asgi_apps"], HOST, groups, {HOST: inventory["vars"]})
    assert [site["name"] for site in derived["nginx_sites"]] == [application["name"]]
    # Of the roles' inputs there is no other than these; a name that no role has would count for nothing.
    assert set(inventory["vars"]) <= {"asgi_apps", "python_packages", "python_versions"}


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.parent.name)
def test_an_inventory_is_short(path, tool):
    assert 8 < tool.lines_of(path) <= 25
    assert max(len(line) for line in path.read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", sorted(APPS.glob("*/make")), ids=lambda path: path.parent.name)
def test_what_makes_a_project_is_a_program(path):
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", path], capture_output=True, check=False).stderr == b""
