"""The example site on one host, seen from another one and, where needed, from inside."""

import base64
import json
import re
import shlex
import struct
import time
import zlib

import play
import pytest
from terminal import Terminal
from visitor import Visitor

DOMAIN = "herbarium.example.test"


@pytest.fixture(scope="module")
def visitor(hosts, addresses):
    return Visitor(hosts["visitor"], addresses["server"], DOMAIN)


@pytest.fixture(scope="module")
def member(hosts, addresses):
    """A visitor who signed up and is signed in."""
    visitor = Visitor(hosts["visitor"], addresses["server"], DOMAIN, "member")
    form = {"username": f"visitor{int(time.time())}", "email": "visitor@example.test"}
    form |= dict.fromkeys(("password1", "password2"), "a long enough phrase 42")
    visitor.submit(
        "/accounts/sign-up/", *(word for name, value in form.items() for word in ("--form", f"{name}={value}"))
    )
    return visitor


def test_health_names_the_live_release(visitor, hosts):
    live = hosts["server"].check_output("basename $(readlink /srv/herbarium/live)")
    health = json.loads(visitor.page("/health/"))
    assert health["status"] == "ok"
    assert health["release"] == live


def test_http_leads_to_https(visitor):
    headers = visitor.headers(f"http://{DOMAIN}/live/?x=1")
    assert headers["location"] == f"https://{DOMAIN}/live/?x=1"


@pytest.mark.parametrize("url", ["http://other.example.test/", "http://server/"])
def test_an_unknown_name_gets_no_answer(visitor, url):
    assert visitor.curl(url).rc in (52, 56), "curl's codes for a connection closed without an answer"


def test_an_unknown_name_gets_no_handshake(visitor):
    assert visitor.curl("https://other.example.test/").rc == 35, "curl's code for a failed TLS handshake"


def test_strict_transport_security_is_said_once(visitor):
    run = visitor.curl("/", "--dump-header", "-", "--output", "/dev/null")
    said = [line for line in run.stdout.lower().splitlines() if line.startswith("strict-transport-security")]
    assert len(said) == 1
    assert "max-age=63072000" in said[0]


def test_cookies_are_secure(visitor):
    run = visitor.curl("/accounts/login/", "--dump-header", "-", "--output", "/dev/null")
    cookies = [line for line in run.stdout.splitlines() if line.lower().startswith("set-cookie")]
    assert cookies and all("secure" in cookie.lower() for cookie in cookies)


def test_hashed_static_files_are_cached_for_good(visitor):
    path = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', visitor.page("/"))
    assert path, "the page names no hashed style sheet"
    headers = visitor.headers(path[1])
    assert "immutable" in headers["cache-control"]
    assert headers["content-type"].startswith("text/css")


def test_a_form_without_its_token_is_refused(visitor):
    assert visitor.status("/accounts/login/", "--form", "username=x", "--form", "password=y") == 403


def test_a_member_uploads_a_photo_that_comes_back_as_untrusted(member, hosts):
    photo = "/tmp/photo.png"
    hosts["visitor"].check_output(f"printf %s {base64.b64encode(png(64)).decode()} | base64 --decode >{photo}")
    form = {
        "plant": "Daisy",
        "scientific_name": "Bellis perennis",
        "place": "The lawn",
        "notes": "In flower",
        "seen_on": time.strftime("%Y-%m-%d", time.gmtime()),
        "photo": f"@{photo};type=image/png",
        "photo_description": "A daisy",
    }
    asked = set(re.findall(r'<(?:input|textarea|select)[^>]* name="([^"]+)"', member.page("/sightings/new/")))
    assert {"plant", "photo"} <= asked, asked
    page = member.submit(
        "/sightings/new/",
        *(word for name, value in form.items() if name in asked for word in ("--form", f"{name}={value}")),
    )
    media = re.search(r'"(/media/[^"]+)"', page) or re.search(r'"(/media/[^"]+)"', member.page("/mine/"))
    assert media, page[:2000]
    headers = member.headers(media[1])
    assert headers["content-type"].startswith("image/")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


def png(size):
    """A small picture, made without a library."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(value for x in range(size) for value in (x * 4, y * 4, 90)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_websocket_opens_through_nginx(visitor, hosts):
    visitor.curl(
        "/ws/live/",
        "--http1.1",
        "--no-buffer",
        "--include",
        "--max-time",
        "3",
        "--output",
        "/tmp/frames",
        "--header",
        "Connection: Upgrade",
        "--header",
        "Upgrade: websocket",
        "--header",
        f"Origin: https://{DOMAIN}",
        "--header",
        "Sec-WebSocket-Version: 13",
        "--header",
        "Sec-WebSocket-Key: c29tZSByYW5kb20ga2V5IQ==",
    )
    assert " 101 " in hosts["visitor"].check_output("head -n 1 /tmp/frames")
    assert hosts["visitor"].run('grep --text \'"type": "welcome"\' /tmp/frames').rc == 0


def test_the_database_listens_to_this_host_alone(hosts, addresses):
    assert hosts["visitor"].run(f"timeout 5 bash -c '</dev/tcp/{addresses['server']}/5432'").rc != 0


def test_only_nginx_is_open_to_the_network(hosts, addresses):
    listening = hosts["server"].check_output("ss -Hltn | awk '{print $4}'").split()
    outside = {address.rsplit(":", 1)[1] for address in listening if not address.startswith(("127.", "[::1]"))}
    assert outside == {"22", "80", "443"}


def test_deployment_checks_pass_in_the_live_release(hosts):
    run = hosts["server"].run("herbarium-manage check --deploy --fail-level WARNING")
    assert run.rc == 0, run.stdout + run.stderr


def ask(host, command, application="herbarium"):
    """Run a command of psql with an application's environment, as a shell reads it."""
    return host.run(
        f"set -a; . /srv/{application}/live/env; PGCONNECT_TIMEOUT=5 psql -XAtc 'select current_user' {command}"
    )


def test_what_the_environment_says_of_the_database_leads_there(hosts):
    """Whatever is in the password."""
    for command in (
        "",
        '"$DATABASE_URL"',
        "--username $HERBARIUM_LOGIN",
        '"postgresql${HERBARIUM_ASYNC_URL#postgresql+asyncpg}"',
    ):
        run = ask(hosts["server"], command)
        assert run.stdout.strip() == "herbarium", (command, run.stderr)


def test_what_the_inventory_adds_is_there_beside_what_is_derived(hosts, visitor):
    server = hosts["server"]
    report = "PGPASSWORD=the-password-of-the-report psql -XAtc 'select current_user' -h /var/run/postgresql -U report herbarium"
    assert server.check_output(report) == "report"
    assert "Back in a moment" in visitor.page("http://docs.example.test/pages/docs.503.html")
    server.check_output("openssl x509 -in /etc/ssl/vivarium/docs/fullchain.pem -noout -checkhost docs.example.test")


def test_a_name_below_a_wildcard_is_the_sites(hosts, addresses):
    other = Visitor(hosts["visitor"], addresses["server"], f"moss.{DOMAIN}", "moss")
    assert (
        other.status("/health/") == 200
        and other.headers(f"http://moss.{DOMAIN}/x")["location"] == f"https://moss.{DOMAIN}/x"
    )
    text = hosts["server"].check_output(
        "openssl x509 -in /etc/ssl/vivarium/herbarium/fullchain.pem -noout -checkhost moss.%s", DOMAIN
    )
    assert "does match" in text
    # Django takes a form from there.
    form = {"username": f"moss{int(time.time())}", "email": "moss@example.test"}
    form |= dict.fromkeys(("password1", "password2"), "a long enough phrase 43")
    other.submit(
        "/accounts/sign-up/", *(word for name, value in form.items() for word in ("--form", f"{name}={value}"))
    )


def test_the_daily_task_runs(hosts):
    hosts["server"].check_output("systemctl start herbarium-clearsessions.service")
    assert hosts["server"].run("systemctl is-active herbarium-clearsessions.timer").stdout.strip() == "active"


def test_a_restored_backup_brings_back_what_was_deleted_and_the_site_goes_on(hosts, visitor):
    server = hosts["server"]

    def sql(statement):
        return server.check_output(f"runuser -u postgres -- psql -XAtd herbarium -c {shlex.quote(statement)}")

    server.check_output("herbarium-manage load_samples")
    server.check_output("postgresql-backup run herbarium")
    before = int(sql("select count(*) from sightings_sighting"))
    assert before >= 8
    sql("delete from sightings_sighting")
    server.check_output("postgresql-backup restore herbarium")
    assert int(sql("select count(*) from sightings_sighting")) == before
    assert wait_for(lambda: visitor.status("/health/") == 200)
    assert "Field poppy" in visitor.page("/")


def wait_for(question, seconds=60):
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return answer


def test_secrets_are_not_in_the_journal_or_the_process_list(hosts):
    server = hosts["server"]
    for secret in ("nobody-signs-anything-real", "p@ss/w:rd"):
        assert server.run(f"journalctl --no-pager | grep -F {secret!r}").rc == 1
        assert server.run(f"ps axww | grep -v grep | grep -F {secret!r}").rc == 1


def test_the_database_can_be_talked_to_from_a_terminal(hosts):
    with Terminal(hosts["server"], "herbarium-manage", "dbshell") as terminal:
        terminal.until("herbarium=>")
        terminal.type("select current_user, 6 * 7 as answer;\r")
        terminal.until("herbarium")
        terminal.until("42")
        terminal.type("\\q\r")
        assert terminal.ends() == 0


def play_site(*options):
    """What a run of site would do, with tags; the roles whose tasks ran, and how many changes it announces."""
    run = play.Play("site", "--check", *options).succeed()
    return {task.split(" : ")[0].rpartition(".")[2] for task in run.tasks() if " : " in task}, run.changed("server")


def test_a_tag_is_the_name_of_a_role(hosts):
    changes = ("-e", "nginx_worker_connections=2048 asgi_force=true")
    roles, changed = play_site(*changes)
    # The web server's configuration and a new release.
    assert roles >= {"nginx", "asgi", "postgresql", "python", "certificates", "postgresql_backup"} and changed == 2
    # Inputs are checked whatever follows.
    roles, changed = play_site(*changes, "--tags", "nginx")
    assert changed == 1
    roles, changed = play_site(*changes, "--tags", "asgi")
    assert changed == 1
    assert play_site(*changes, "--tags", "postgresql")[1] == 0
    assert play_site(*changes, "--skip-tags", "nginx,asgi")[1] == 0
    assert play_site(*changes, "--skip-tags", "postgresql")[1] == 2


def test_newer_releases_of_ansible_core_do_the_same(hosts, visitor):
    for number, programs in enumerate(play.NEWER):
        live = hosts["server"].check_output("readlink /srv/herbarium/live")
        site = play.Play("site", programs=programs, asgi_force=True, nginx_worker_connections=1500 + number).succeed()
        # The web server's configuration and a new release: all the rest is as the suite's own release of ansible-core left it.
        assert site.changed("server") == 2, site.output
        assert hosts["server"].check_output("readlink /srv/herbarium/live") != live
        assert f"worker_connections {1500 + number};" in hosts["server"].check_output("nginx -T 2>&1")
        assert visitor.status("/health/") == 200
