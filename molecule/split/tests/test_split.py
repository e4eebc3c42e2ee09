"""Three hosts that work together, and an outsider who gets nowhere."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import play
import pytest
import yaml
from play import Play, database_url, wait_until
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
    # nginx writes its lines together, within a second.
    seen = wait_until(
        lambda: [
            line for line in hosts["app"].run(f"({log}) 2>/dev/null").stdout.splitlines() if "from=outside" in line
        ]
    )
    assert addresses["outsider"] in seen[-1]
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


def test_what_the_environment_says_of_the_database_leads_there_over_tls(hosts):
    host, read = client(hosts["app"]), "set -a; . /srv/herbarium/live/env; export PGCONNECT_TIMEOUT=5"
    for address in ("", '"$DATABASE_URL"'):
        run = host.run(f"{read}; psql -XAtc 'select current_user' {address}")
        assert run.stdout.strip() == "herbarium", run.stderr
        # The address leaves that to the variable beside it.
        assert host.check_output(f"{read}; echo $PGSSLMODE") == "require"
        assert host.run(f"{read}; PGSSLMODE=disable psql -XAtc 'select 1' {address}").rc != 0


@pytest.mark.parametrize("who", ["outsider", "web"])
def test_the_database_refuses_other_hosts_even_with_the_password(hosts, ask_database, who):
    run = ask_database(hosts[who], "sslmode=require")
    assert run.rc != 0
    assert "pg_hba.conf" in run.stderr or "refused" in run.stderr or "timeout" in run.stderr


def test_the_application_host_has_what_psycopg_loads(hosts):
    """Not psycopg[binary], which brings its own."""
    assert hosts["app"].run("python3 -c 'import ctypes; ctypes.CDLL(\"libpq.so.5\")'").rc == 0
    assert not hosts["app"].package("postgresql-common").is_installed


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


@pytest.fixture
def moved(monkeypatch, tmp_path):
    """From now on the inventory has another database server."""

    def move(host):
        shutil.copytree(play.INVENTORY, tmp_path / "inventory", symlinks=True)
        (path,) = (tmp_path / "inventory").glob("*.yml")
        inventory = yaml.safe_load(path.read_text())
        inventory["db_servers"]["hosts"] = {host: inventory["all"]["hosts"][host]}
        path.write_text(yaml.safe_dump(inventory))
        monkeypatch.setattr(play, "INVENTORY", tmp_path / "inventory")

    return move


def test_the_databases_move_to_another_host_as_the_documentation_says(visitor, hosts, moved, monkeypatch):
    """Every row comes along, and the old server keeps what it had."""
    old, new, inventory = hosts["db"], hosts["outsider"], play.INVENTORY
    rows = "runuser -u postgres -- psql -XAt herbarium -c 'SELECT count(*) FROM django_migrations'"
    before, release = old.check_output(rows), hosts["app"].check_output("readlink /srv/herbarium/live")
    text = (play.PROJECT / "docs/hosts.md").read_text()
    section = re.search(r"^## Move the databases to another host$(.*?)^## ", text, re.M | re.S)[1]
    steps = [re.findall(r"^ {7}(\S.*)$", step, re.M) for step in re.split(r"^\d\. ", section, flags=re.M)[1:]]
    stopped = {"state": "stopped"}

    def on(host, commands):
        for command in commands:
            host.check_output(command.replace("shop", "herbarium"))

    assert ["deploy" in steps[0][0], "site" in steps[2][0], "site" in steps[4][0]] == [True] * 3
    Play("deploy", changes=stopped).succeed()
    on(old, steps[1])
    moved("outsider")
    Play("site", changes=stopped).succeed()
    assert new.run(rows).rc != 0  # empty
    copy = ["podman", "cp", f"{old.backend.name}:/root/backups.tar", "-"]
    packed = subprocess.run(copy, capture_output=True, check=True).stdout
    subprocess.run(["podman", "cp", "-", f"{new.backend.name}:/root/"], input=packed, check=True)
    on(new, steps[3])
    Play("site").succeed()
    assert hosts["app"].check_output("readlink /srv/herbarium/live") != release
    on(old, steps[5])
    health = json.loads(visitor.page("/health/"))
    assert health["checks"]["database"] == "ok"
    assert new.check_output(rows) == before
    # Back to where the other tests expect it; the old one still has its data.
    old.check_output("systemctl enable --now postgresql && pg_lsclusters --no-header | grep -q online")
    monkeypatch.setattr(play, "INVENTORY", inventory)
    Play("site").succeed()
    assert old.check_output(rows) == before
    new.check_output("systemctl disable --now postgresql")
