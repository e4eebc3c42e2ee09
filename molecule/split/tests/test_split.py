"""Three hosts that work together, and an outsider who gets nowhere."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from play import Play, database_url
from visitor import Visitor

DOMAIN = "herbarium.example.test"
INVENTORY = Path(__file__).parent.parent / "inventory/group_vars/all.yml"
PASSWORD = yaml.safe_load(INVENTORY.read_text())["__herbarium"]["secrets"]["DATABASE_PASSWORD"]


@pytest.fixture(scope="module")
def visitor(hosts, addresses):
    return Visitor(hosts["outsider"], addresses["web"], DOMAIN)


def test_the_site_answers_through_web_app_and_database(visitor, hosts):
    health = json.loads(visitor.page("/health/"))
    assert health["checks"]["database"] == "ok"
    assert health["release"] == hosts["app"].check_output("basename $(readlink /srv/herbarium/live)")


def test_static_files_come_from_the_application_host(visitor):
    assert visitor.status("/static/admin/css/base.css") == 200


def test_the_application_sees_the_visitor_and_https(visitor, hosts, addresses):
    log = "journalctl --no-pager --unit nginx; cat /var/log/nginx/*.log"
    assert visitor.status("/?from=outside", "--header", "X-Forwarded-For: 192.0.2.66") == 200
    seen = [line for line in hosts["app"].run(f"({log}) 2>/dev/null").stdout.splitlines() if "from=outside" in line]
    assert seen and addresses["outsider"] in seen[-1]
    assert "192.0.2.66" not in seen[-1]


@pytest.mark.parametrize("port", [8100])
def test_the_backend_port_gives_an_outsider_nothing(hosts, addresses, port):
    run = hosts["outsider"].run(
        f"curl --silent --max-time 5 --header 'Host: {DOMAIN}' --header 'X-Forwarded-Proto: https'"
        f" http://{addresses['app']}:{port}/health/"
    )
    assert run.rc in (7, 28, 52, 56), run
    assert run.stdout == ""


def test_the_application_host_has_no_public_site(hosts, addresses):
    for url in (f"http://{DOMAIN}/health/", f"https://{DOMAIN}/health/"):
        run = hosts["outsider"].run(f"curl --insecure --silent --max-time 5 --connect-to ::{addresses['app']}: {url}")
        assert run.rc != 0 and run.stdout == ""


def test_the_application_socket_is_closed_to_other_users(hosts):
    run = hosts["app"].run(
        "runuser -u nobody -- curl --silent --unix-socket /srv/herbarium/live/socket http://herbarium.example.test/health/"
    )
    assert run.rc != 0
    assert run.stdout == ""


def client(host):
    """A PostgreSQL client of the test's own, where the host has none."""
    if host.run("command -v psql").rc != 0:
        host.check_output("apt-get -qq install --no-install-recommends -y postgresql-client >/dev/null 2>&1")
    return host


@pytest.fixture
def ask_database(hosts, addresses):
    """Ask the database from a host, as the role and with the password that the application logs in with."""
    login = urlsplit(database_url(hosts["app"], "herbarium")).username

    def ask(host, options):
        address = f"host={addresses['db']} user={login} dbname=herbarium {options}"
        return client(host).run(f"PGPASSWORD='{PASSWORD}' PGCONNECT_TIMEOUT=5 psql -XAt '{address}' -c 'select 1'")

    return ask


def test_the_database_lets_the_application_host_in_over_tls_alone(hosts, ask_database):
    assert ask_database(hosts["app"], "sslmode=require").stdout.strip() == "1"
    assert ask_database(hosts["app"], "sslmode=disable").rc != 0


@pytest.mark.parametrize("who", ["outsider", "web"])
def test_the_database_refuses_other_hosts_even_with_the_password(hosts, ask_database, who):
    run = ask_database(hosts[who], "sslmode=require")
    assert run.rc != 0
    assert "pg_hba.conf" in run.stderr or "refused" in run.stderr or "timeout" in run.stderr


def test_a_wrong_name_gets_nothing_from_the_web_server(visitor):
    assert visitor.curl("http://wrong.example.test/").rc == 52
    assert visitor.curl("https://wrong.example.test/").rc == 35


def test_input_that_is_bad_on_one_host_stops_all_before_anything_changes(hosts):
    days = "{{ 4000 if inventory_hostname == 'app' else 90 }}"
    play = Play("site", certificates_self_signed_days=days, nginx_worker_connections=2048).fail()
    assert "certificates_self_signed_days must be from 1 to 397, not 4000" in play.message("app")
    assert [play.changed(name) for name in ("web", "app", "db")] == [0, 0, 0]
    assert not any("configure |" in task or "install |" in task for task in play.tasks())


def test_what_is_stopped_has_a_page_that_says_to_come_back(visitor):
    """The web server says what the application server says."""
    Play("deploy", changes={"state": "stopped"}).succeed()
    try:
        said = visitor.curl("/", "--include").stdout.replace("\r\n", "\n")
        assert said.split("\n")[0].split()[1] == "503", said
        assert said.lower().count("\nretry-after: 30\n") == 1 and "<h1>Back in a moment</h1>" in said, said
        assert visitor.status("/static/admin/css/base.css") == 200
    finally:
        Play("site").succeed()
    assert visitor.status("/health/") == 200
