"""Static files belong to the live release: a deploy that fails, a switch and a rollback, watched through nginx all the while."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from play import Play
from visitor import Visitor

DOMAIN = "herbarium.example.test"
CODE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "herbarium"
# The test may run again on the same host.
ONE, TWO = (f"{word} {time.time()}" for word in ("one", "two"))
# Asks for a file until its input ends, and tells which release was live meanwhile; not where that has just changed.
WATCHER = f"""
import http.client, json, os, socket, ssl, sys, threading
over, seen = threading.Event(), []
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
def live():
    return os.path.basename(os.readlink("/srv/herbarium/live"))
while not over.wait(0.01):
    connection, before = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context()), live()
    connection.sock = connection._context.wrap_socket(
        socket.create_connection(("127.0.0.1", 443)), server_hostname="{DOMAIN}")
    connection.request("GET", "/static/herbarium/notice.txt", headers={{"Host": "{DOMAIN}"}})
    answer = connection.getresponse()
    text = answer.read().decode() if answer.status == 200 else str(answer.status)
    connection.close()
    if live() == before:
        seen.append((before, text))
print(json.dumps(seen))
"""


def hashed(text):
    return f"/static/herbarium/notice.{hashlib.md5(text.encode()).hexdigest()[:12]}.txt"


@pytest.fixture(scope="module")
def server(hosts):
    return hosts["server"]


@pytest.fixture(scope="module")
def visitor(server):
    return Visitor(server, "127.0.0.1", DOMAIN, "static")


@pytest.fixture(scope="module")
def story(server, visitor):
    """What happened, and what a visitor was shown under three names after it."""
    notice, health = (CODE / "herbarium" / path for path in ("static/herbarium/notice.txt", "health.py"))
    told, good = {}, health.read_text()

    def look(what, play):
        told[what] = {
            "output": play.output,
            "live": server.check_output("basename $(readlink /srv/herbarium/live)"),
            "notice": visitor.curl("/static/herbarium/notice.txt").stdout,
            "one": visitor.status(hashed(ONE)),
            "two": visitor.status(hashed(TWO)),
        }

    notice.write_text(ONE)
    look("one", Play("deploy").succeed())
    watcher = subprocess.Popen(
        ["podman", "exec", "-i", server.backend.name, "python3", "-c", WATCHER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        notice.write_text(TWO)
        health.write_text(good.replace("SELECT 1", "SELECT broken on purpose"))
        look("failed", failed := Play("deploy", patience=20).fail())
        told["failed at start"] = failed.failed_at("server", "herbarium", "start")
        health.write_text(good)
        look("two", Play("deploy").succeed())
        look("rollback", Play("rollback").succeed())
    finally:
        health.write_text(good)
        told["watched"] = json.loads(watcher.communicate(timeout=300)[0])
    return told


def test_a_deploy_that_fails_publishes_nothing(story):
    assert story["failed at start"], story["failed"]["output"]
    assert story["failed"]["live"] == story["one"]["live"]
    assert (story["failed"]["notice"], story["failed"]["two"]) == (ONE, 404)


def test_a_release_brings_its_files_and_the_earlier_ones_stay_behind_them(story):
    assert story["two"]["live"] != story["one"]["live"]
    assert (story["two"]["notice"], story["two"]["one"], story["two"]["two"]) == (TWO, 200, 200)


def test_a_rollback_brings_the_files_of_its_release(story):
    assert story["rollback"]["live"] == story["one"]["live"]
    assert (story["rollback"]["notice"], story["rollback"]["one"], story["rollback"]["two"]) == (ONE, 200, 200)


def test_names_switch_in_the_same_rename(story):
    expected = {story["one"]["live"]: ONE, story["two"]["live"]: TWO}
    seen = Counter(map(tuple, story["watched"]))
    assert set(seen) == set(expected.items()), seen
    assert min(seen.values()) >= 20, seen


def test_nginx_reaches_the_static_files_of_a_release_and_nothing_else_of_it(story, server):
    path = f"/srv/herbarium/releases/{story['rollback']['live']}"
    found = server.check_output(
        f"runuser -u www-data -- find {path}/* -type f -readable 2>/dev/null; true"
    ).splitlines()
    assert f"{path}/public/herbarium/notice.txt" in found
    assert [name for name in found if not name.startswith(f"{path}/public/")] == []
    # The application reads its manifest, others on the host read neither.
    assert server.run(f"runuser -u herbarium -- cat {path}/static/staticfiles.json").rc == 0
    for name in ("static", "public"):
        assert server.file(f"{path}/{name}").is_directory
        assert server.run(f"runuser -u nobody -- cat {path}/{name}/herbarium/notice.txt").rc != 0


def test_a_file_is_sent_as_small_as_its_reader_takes_it(story, server, visitor):
    live = f"/srv/herbarium/releases/{story['rollback']['live']}/public"
    path = server.check_output(f"cd {live} && ls herbarium/herbarium.*.css")
    url, sizes = f"/static/{path}", {}
    plain = visitor.page(url)
    for encoding in ("br", "gzip"):
        # It decodes what it is sent.
        accepting = ("--compressed", "--header", f"Accept-Encoding: {encoding}")
        assert visitor.page(url, *accepting) == plain == server.check_output(f"cat {live}/{path}") + "\n"
        headers = visitor.headers(url, *accepting)
        assert headers["content-encoding"] == encoding
        assert headers["content-type"] == "text/css; charset=utf-8"
        assert headers["vary"] == "Accept-Encoding"
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        again = ("--header", f"If-None-Match: {headers['etag']}")
        assert visitor.status(url, *accepting, *again) == 304
        # Its length is known before it is sent: it lay there.
        sizes[encoding] = int(headers["content-length"])
    assert sizes["br"] < sizes["gzip"] < len(plain) / 2


def test_a_file_that_has_not_changed_is_compressed_once(story, server):
    releases = [f"/srv/herbarium/releases/{story[what]['live']}/public" for what in ("one", "two")]
    for ending in ("", ".br", ".gz"):
        # The same file under both names.
        names = " ".join(f"{path}/herbarium/herbarium.css{ending}" for path in releases)
        found = server.check_output(f"stat --format %i {names}")
        assert len(set(found.splitlines())) == 1, ending
