"""The collection as users get it: built, installed, its playbooks run by name; and a clone, as it is."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command, cwd, **environment):
    process = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = process.stdout + process.stderr
    assert process.returncode == 0 and "[DEPRECATION WARNING]" not in said, said
    return process.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory into which the collection's archive was installed."""
    place = tmp_path_factory.mktemp("collection")
    run("ansible-galaxy", "collection", "build", "--output-path", str(place), cwd=ROOT)
    (place / "ansible.cfg").write_text("")
    (archive,) = place.glob("vivarium-server-*.tar.gz")
    run(
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "--no-deps",
        "--force",
        "--collections-path",
        str(place),
        str(archive),
        cwd=place,
        ANSIBLE_CONFIG=str(place / "ansible.cfg"),
    )
    return place


def collection_paths(place):
    """The installed collection first, then what this environment has of its dependencies."""
    return {
        "ANSIBLE_COLLECTIONS_PATH": f"{place}:{os.environ.get('ANSIBLE_COLLECTIONS_PATH', '')}",
        "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
    }


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")))
def test_an_installed_playbook_runs_by_name(installed, playbook):
    run(
        "ansible-playbook",
        f"vivarium.server.{playbook}",
        "-i",
        str(ROOT / "inventories/prod"),
        "--syntax-check",
        cwd=installed,
        **collection_paths(installed),
    )


def test_the_archive_holds_what_users_need_and_nothing_else(installed):
    inside = {path.name for path in (installed / "ansible_collections/vivarium/server").iterdir()}
    assert {"README.md", "LICENSE", "meta", "playbooks", "plugins", "roles"} <= inside
    assert not inside & {".git", ".venv", ".collections", "molecule", "tools", "logs", "bench", "Makefile"}
    # What ansible-test is told, for whoever tests the archive.
    assert {path.name for path in (installed / "ansible_collections/vivarium/server/tests").iterdir()} == {
        "config.yml",
        "sanity",
    }


def test_a_clone_runs_without_a_step_in_between():
    run(
        "ansible-playbook",
        "site.yml",
        "-i",
        "inventories/prod",
        "--syntax-check",
        cwd=ROOT,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
    )


def plugins_of(kind):
    """What a playbook can call: modules by their files, filters and tests by what their files offer."""
    files = list((ROOT / "plugins" / kind).glob("*.py"))
    if kind in ("modules", "lookup"):
        return {path.stem for path in files}
    modules = [
        importlib.import_module(f"ansible_collections.vivarium.server.plugins.{kind}.{path.stem}") for path in files
    ]
    classes = [getattr(module, f"{kind.capitalize()}Module", None) for module in modules]
    return {name for one in classes if one for name in getattr(one(), f"{kind}s")()}


@pytest.mark.parametrize("kind", ["modules", "filter", "test", "lookup"])
def test_a_plugin_is_documented(kind):
    """Each with a text of its own, not with that of the file in which it lies."""
    names = sorted(plugins_of(kind))
    asked = [f"vivarium.server.{name}" for name in names]
    words = ["ansible-doc", "-t", kind.removesuffix("s"), "--json", *asked]
    shown = json.loads(run(*words, cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")))
    key = "module" if kind == "modules" else "name"
    assert names and {name: found["doc"].get(key) for name, found in shown.items()} == dict(
        zip(asked, names, strict=True)
    )


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_a_roles_inputs_are_described_as_they_are(role):
    """Every input has a default or is required, every default is described, and both say the same."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text()) or {}
    options = specs["main"].get("options", {})
    assert specs["validate"].get("options", {}) == options
    assert set(defaults) <= set(options), "defaults that are not described"
    for name, option in options.items():
        assert name.startswith(f"{role}_")
        assert name in defaults or option.get("required") or "default" not in option, (
            f"{name} is described but has no default"
        )
        derived = isinstance(defaults.get(name), str) and "{{" in defaults[name]
        if "default" in option and not derived:
            assert option["default"] == defaults[name], name


def test_what_the_changelog_is_made_of_has_sections_that_its_tool_knows():
    """antsibull-changelog would leave out one that it does not know. Right after a release there are no fragments."""
    sections = {name for name, _title in yaml.safe_load((ROOT / "changelogs/config.yaml").read_text())["sections"]}
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    found = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "changelogs/fragments").glob("*.yml")}
    found[version] = releases[version]["changes"]
    for name, content in found.items():
        assert content and set(content) <= {*sections, "release_summary", "trivial"}, name
        assert all(isinstance(entry, str) for section in set(content) & sections for entry in content[section]), name


def test_the_page_on_how_it_is_built_names_what_is_there():
    """Paths as they are; a bare name of a file is one that lies somewhere in the tree."""
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`([\w./-]+\.(?:py|yml|j2)|[\w-]+(?:/[\w.-]+)+/?)`", text))
    tracked = {path for path in (ROOT / "plugins").rglob("*") if "__pycache__" not in path.parts}
    tracked |= {path for name in ("roles", "playbooks", "molecule") for path in (ROOT / name).rglob("*")}
    names = {path.name for path in tracked}
    missing = {name for name in named if not ((ROOT / name).exists() or ("/" not in name and name in names))}
    assert missing - {"tasks/validate.yml", "tasks/configure.yml"} == set() and len(named) > 30
