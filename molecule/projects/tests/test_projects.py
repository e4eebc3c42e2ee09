"""Projects that need more than a lock file at their top, as their operators write them down."""

from __future__ import annotations

import json

import play
import pytest
from visitor import Visitor


@pytest.fixture
def visit(host):
    return lambda name: json.loads(Visitor(host, "127.0.0.1", f"{name}.example.test", name).page("/"))


def deploy(playbook="converge", options=(), **changes):
    return play.Play(f"../molecule/projects/{playbook}", *options, changes=changes)


def pollers(host):
    """The releases whose poller runs."""
    listed = host.check_output("systemctl list-units --plain --no-legend --state=active 'layers-poller@*.service'")
    return [line.split()[0].removeprefix("layers-poller@").removesuffix(".service") for line in listed.splitlines()]


def first_of(said, hosts):
    """The host where it failed by itself: they migrate and switch one after the other."""
    (first,) = (name for name in hosts if "failed on another host" not in " ".join(said.message(name).split()))
    return first


def live(host, name):
    return host.check_output("basename $(readlink /srv/%s/live)", name)


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


def test_a_process_that_bears_no_second_one_is_handed_over(hosts):
    before = {name: live(host, "layers") for name, host in hosts.items()}
    for name, host in hosts.items():
        assert pollers(host) == [before[name]]
    deploy(layers={"env": {"STEP": "2"}}).succeed()
    for name, host in hosts.items():
        assert live(host, "layers") != before[name] and pollers(host) == [live(host, "layers")]


def test_where_the_new_one_falls_over_the_old_one_goes_on(hosts):
    before = {name: live(host, "layers") for name, host in hosts.items()}
    said = deploy(layers={"env": {"POLLER_FAILS": "yes"}}).fail()
    first = first_of(said, hosts)
    assert said.failed_at(first, "layers", "switch") and "the poller has no token" in said.message(first)
    for name, host in hosts.items():
        assert live(host, "layers") == before[name]
        play.wait_until(lambda host=host, name=name: pollers(host) == [before[name]])
        assert "markdown" in Visitor(host, "127.0.0.1", "layers.example.test").page("/")


def test_a_failure_is_told_once_and_without_a_secret(hosts):
    said = deploy(bundle={"env": {"STEP": "2"}, "hooks": {"before_migrate": ["python announce.py 'and more'"]}}).fail()
    name = first_of(said, hosts)
    host = hosts[name]
    assert said.failed_at(name, "bundle", "migrate")
    words = " ".join(said.failure(name).split())
    assert "failed: ValueError: invalid literal for int() with base 10: '***' (announce.py, line 7)" in words
    assert "the hooks before_migrate may have run" in words
    assert "in announce.py, line 7" in said.message(name) and "in announce.py, line 7" not in said.failure(name)
    for path in ("/srv/bundle/failed.log", "/srv/bundle/deploys.log"):
        assert "ValueError" in host.file(path).content_string
        assert "nobody-signs" not in host.file(path).content_string
    assert host.run("journalctl --no-pager | grep -F nobody-signs").rc == 1
    assert "markdown" in Visitor(host, "127.0.0.1", "bundle.example.test").page("/")
    assert "nobody-signs" not in said.output and "Traceback" not in said.output


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
