"""Fixtures every scenario's tests share.

host        one test host; a test that takes it runs once on each host of the scenario
hosts       all of them by name, for tests of how they talk to each other: hosts["web"].run(...)
addresses   their addresses in the scenario's network, by name

A test for some hosts only: @pytest.mark.on("debian13") or @pytest.mark.on(group="db_servers"). When a test fails, what
the journal of its hosts said and which units have failed is printed below the failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import testinfra
import yaml
from shell import Shell


def _scenario() -> tuple[dict[str, dict], dict[str, set[str]]]:
    """The hosts that Molecule made, and each group's members."""
    instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    inventory = yaml.safe_load(Path(os.environ["MOLECULE_INVENTORY_FILE"]).read_text())

    def members(group: dict) -> set[str]:
        below = (members(child or {}) for child in (group.get("children") or {}).values())
        return set(group.get("hosts") or {}).union(*below)

    return {each["instance"]: each for each in instances}, {name: members(group) for name, group in inventory.items()}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on(*names, group=None): run this test only on these hosts of the scenario")
    if "MOLECULE_INSTANCE_CONFIG" not in os.environ:
        raise pytest.UsageError("these tests need a scenario's hosts: make scenario S=NAME")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" not in metafunc.fixturenames:
        return
    instances, groups = _scenario()
    chosen = list(instances)
    for mark in metafunc.definition.iter_markers("on"):
        wanted = set(mark.args) | (groups.get(mark.kwargs["group"], set()) if "group" in mark.kwargs else set())
        if not wanted & set(instances):
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: no host of the scenario is meant by {mark}")
        chosen = [name for name in chosen if name in wanted]
    metafunc.parametrize("host", chosen, indirect=True, scope="session")


def _reach(container: str) -> testinfra.host.Host:
    backend = Shell(container)
    host = testinfra.host.Host(backend)
    backend.set_host(host)
    return host


@pytest.fixture(scope="session")
def hosts() -> dict[str, testinfra.host.Host]:
    return {name: _reach(each["container"]) for name, each in _scenario()[0].items()}


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, hosts: dict[str, testinfra.host.Host]) -> testinfra.host.Host:
    return hosts[request.param]


@pytest.fixture(scope="session")
def addresses() -> dict[str, str]:
    return {name: each["ip"] for name, each in _scenario()[0].items()}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = (yield).get_result()
    if not report.failed:
        return
    known = getattr(item, "funcargs", {})
    concerned = {"host": known["host"]} if "host" in known else known.get("hosts", {})
    for name, each in concerned.items():
        title = item.callspec.params["host"] if name == "host" else name
        for command in ("systemctl list-units --failed --no-legend --plain", "journalctl --no-pager --lines 50"):
            try:
                output = each.run(command).stdout.strip()
            except Exception as error:  # a host that is gone must not hide the failure itself
                output = repr(error)
            report.sections.append((f"{title}: {command}", output or "(nothing)"))
