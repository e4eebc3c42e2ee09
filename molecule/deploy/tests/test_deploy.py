"""Deploys while visitors come: changed code, broken code, a deploy that is killed, a rollback. Nobody may notice.

All of it happens once, in one stretch under load (the fixture `story`); the tests look at what came of it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from play import NEWER, Play, asking, at_step, noticed, visitors, when

DOMAIN = "herbarium.example.test"
DRAIN = 8
CODE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "herbarium"


@dataclass
class Story:
    """What happened: the output of each play, which release was live after it, and what the visitors saw."""

    outputs: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    # Each release that went live, and when, in their order.
    switches: list[tuple[str, float]] = field(default_factory=list)
    report: dict = field(default_factory=dict)


def live_release(server):
    return server.check_output("basename $(readlink /srv/herbarium/live)")


@pytest.fixture(scope="module")
def story(hosts, tmp_path_factory):
    server, told = hosts["server"], Story()
    page = CODE / "herbarium" / "templates" / "base.html"
    style = CODE / "herbarium" / "static" / "herbarium" / "herbarium.css"
    health = CODE / "herbarium" / "health.py"
    good = health.read_text()

    def run(what, name, *options):
        play = Play(name, *options).end()
        told.outputs[what], told.codes[what] = play.output, play.process.returncode
        look(what)

    def look(what):
        release = told.live[what] = live_release(server)
        since = json.loads(server.check_output("cat /srv/herbarium/live/release.json"))["live_since"]
        if (release, since) not in told.switches:
            told.switches.append((release, since))

    look("start")
    options = ["--sockets", "10", "--at-least", "500", "--drain", str(DRAIN)]
    with visitors(server, DOMAIN, tmp_path_factory.mktemp("visitors"), *options) as told.report:
        for number in (1, 2):
            page.write_text(page.read_text() + f"<!-- change {number} -->\n")
            style.write_text(style.read_text() + f"\n.change-{number} {{ color: green; }}\n")
            run(f"change {number}", "deploy")

        health.write_text("raise RuntimeError('broken on purpose')\n" + good)
        run("broken", "deploy")
        health.write_text(good)

        page.write_text(page.read_text() + "<!-- change 3 -->\n")
        play = Play("deploy")
        when(server, at_step("herbarium", "migrate"))
        play.kill()
        look("killed")
        run("after the kill", "deploy")
        run("again", "deploy")
        # A restart: the same code in new processes.
        run("forced", "deploy", "-e", "asgi_force=true")
        # nginx uses its connections to the release before for 5 s: the visitors must see that it is gone before it comes back.
        time.sleep(10)
        run("rollback", "rollback")
        # The sockets of the last two releases are drained while somebody watches.
        time.sleep(DRAIN + 3)
    return told


def test_no_visitor_noticed_anything(story):
    assert story.report["failed"] == 0, noticed(story.report)
    assert story.report["requests"] >= 500
    assert story.report["forms"] >= 50


def test_every_form_was_stored_once(story):
    stored = story.report["stored"]
    assert stored["accepted"] >= 40
    assert (stored["missing"], stored["twice"]) == (0, 0)


def test_sockets_were_left_alone_until_the_drain_timeout(story):
    sockets = story.report["sockets"]
    assert sockets["closed_early"] == 0, noticed(story.report)
    successor = {release: since for (release, _), (_, since) in itertools.pairwise(story.switches)}
    lived_on = [each["closed_at"] - successor[each["release"]] for each in sockets["closings"]]
    # All of them sat on the first release, and it did end.
    assert len(lived_on) >= 10
    assert min(lived_on) >= DRAIN, sorted(lived_on)
    assert sockets["echoes"] > 100


def test_each_change_went_live(story):
    for what in ("change 1", "change 2", "after the kill", "forced"):
        assert story.codes[what] == 0, story.outputs[what]
    live = [story.live[what] for what in ("start", "change 1", "change 2", "after the kill", "forced")]
    assert len(set(live)) == len(live)
    assert [each["id"] for each in story.report["releases"]] == live


def test_broken_code_is_refused_with_the_reason(story):
    assert story.codes["broken"] != 0
    assert "broken on purpose" in story.outputs["broken"]
    assert f"{story.live['change 2']} serves on" in story.outputs["broken"]
    assert story.live["broken"] == story.live["change 2"]


def test_a_killed_deploy_changes_nothing_for_visitors(story):
    assert story.live["killed"] == story.live["change 2"]


def test_the_same_code_again_is_no_deploy(story):
    assert story.codes["again"] == 0, story.outputs["again"]
    assert re.search(r"^server +: ok=\d+ +changed=0 ", story.outputs["again"], re.MULTILINE), story.outputs["again"]
    assert story.live["again"] == story.live["after the kill"]


def test_a_restart_is_a_release_of_the_same_code(story, hosts):
    first, second = (f"/srv/herbarium/releases/{story.live[what]}/code" for what in ("after the kill", "forced"))
    assert story.live["forced"] != story.live["again"]
    assert hosts["server"].run(f"diff --recursive --exclude=__pycache__ {first} {second}").rc == 0


def test_rollback_puts_the_release_before_live(story):
    assert story.codes["rollback"] == 0, story.outputs["rollback"]
    assert story.live["rollback"] == story.live["after the kill"]


def test_what_was_killed_and_what_was_broken_is_gone(story, hosts):
    releases = set(hosts["server"].check_output("ls /srv/herbarium/releases").split())
    assert releases == {story.live[what] for what in ("start", "change 1", "change 2", "after the kill", "forced")}


def test_only_the_live_instance_is_left(story, hosts):
    running = hosts["server"].check_output(
        "systemctl list-units --plain --no-legend 'herbarium@*.service' | cut -d' ' -f1"
    )
    assert running.split() == [f"herbarium@{story.live['rollback']}.service"]


def test_static_files_of_earlier_releases_are_still_served(story, hosts):
    names = hosts["server"].check_output("ls /srv/herbarium/static/herbarium").split()
    hashed = [name for name in names if re.fullmatch(r"herbarium\.[0-9a-f]{12}\.css", name)]
    assert len(hashed) >= 3


def test_newer_releases_of_ansible_core_deploy_too(story, hosts):
    server = hosts["server"]
    for programs in NEWER:
        live = live_release(server)
        with asking(server, "herbarium"):
            Play("deploy", "-e", "asgi_force=true", programs=programs).succeed()
        assert live_release(server) != live
