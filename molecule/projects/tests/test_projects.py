"""Projects that need more than a lock file at their top, as their operators write them down."""

from __future__ import annotations

import json

import play
import pytest
from visitor import Visitor


@pytest.fixture
def visit(host):
    return lambda name: json.loads(Visitor(host, "127.0.0.1", f"{name}.example.test", name).page("/"))


def deploy(**changes):
    return play.Play("../molecule/projects/converge", changes=changes)


def test_extras_and_groups_are_installed_and_no_other(visit):
    assert visit("bundle")["packages"] == {"markdown": "3.8", "idna": "3.10", "iniconfig": None}


def test_requirements_may_lie_elsewhere(visit):
    assert visit("layers") == {"markdown": "3.8", "idna": "3.10"}


def test_a_build_makes_files_as_nobody_who_serves(host, visit):
    made = visit("bundle")["made"]
    assert made["user"] == "bundle-build" and made["html"] == "<p><em>made</em></p>"
    # Words are words, whatever they mean to a shell or to systemd.
    assert made["words"] == ["two words", "$HOME", "%h"]
    assert made["environment"]["BUNDLER"] == "a word of the inventory's"
    assert "BUNDLE_SECRET" not in made["environment"] and "nobody-signs" not in json.dumps(made)
    assert host.check_output("stat --format %U:%G:%a /srv/bundle/live/code/made.json") == "root:bundle:640"


def test_a_build_that_fails_leaves_what_is_live(hosts):
    before = {name: host.check_output("readlink /srv/bundle/live") for name, host in hosts.items()}
    said = deploy(bundle={"build": ["python make.py --fail"]}, mono={"python": "3.99"}).fail()
    for name, host in hosts.items():
        # uv fetches none into the cache of a build, where the next one could change it.
        assert said.failed_at(name, "mono", "build") and 'python_versions: ["3.99"]' in said.message(name)
        assert said.failed_at(name, "bundle", "build") and "the bundler has no node" in said.message(name)
        assert host.check_output("readlink /srv/bundle/live") == before[name]
        assert "markdown" in Visitor(host, "127.0.0.1", "bundle.example.test").page("/")


def test_what_is_asked_for_and_not_there_is_named(hosts):
    said = deploy(layers={"install": {"requirements": ["requirements/staging.txt"]}}).fail()
    for name in hosts:
        assert "the code has no requirements/staging.txt, which install.requirements names" in " ".join(
            said.message(name).split()
        )


def test_a_project_in_a_directory_has_its_repository_around_it(host, visit):
    """A member of a workspace gets what the lock file at the top says of it, and packages that lie beside it."""
    told = visit("mono")
    place = host.check_output("readlink -f /srv/mono/live/code")
    assert told == {"greeting": "from a package beside", "here": place, "packages": ["greeting"]}
    assert place.endswith("/repository/services/api") and host.file(f"{place}/built").exists
    # Whatever else runs in a release runs there as well.
    assert host.check_output("/usr/local/lib/asgi/mono-run live -- sh -c pwd") == place
    since = host.check_output("date +%s")
    host.check_output("systemctl start mono-look.service")
    assert f"looked in {place}" in host.check_output(
        f"journalctl --quiet --output=cat --since=@{since} -u mono-look.service"
    )
    assert host.run("find /srv/mono/live/repository ! -user root").stdout == ""
