"""The role postgresql: who gets in, who does not, and what a run changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
SOCKET = "/var/run/postgresql"
PASSWORDS = {
    "shop": "shop-first-password",
    "blog": 'it\'s a "long" one: $HOME \\ %s {{ x }}',
    "wiki": "Ⅸ paßwörter\u00a0ﬁn",
}
OWN = {"shop": "shop", "blog": "blog", "wiki": "wiki_pages"}


def psql(host, query, user, database=None, server=SOCKET, password=None, options=""):
    """Ask as an application would."""
    uri = f"host={server} dbname={database or OWN[user]} user={user} connect_timeout=5 {options}"
    return host.run(
        "env LC_ALL=C.UTF-8 PGPASSWORD=%s psql --no-psqlrc --no-align --tuples-only --dbname=%s --command=%s",
        PASSWORDS[user] if password is None else password, uri, query,
    )  # fmt: skip


def superuser(host, query, database="postgres"):
    return host.check_output(
        "runuser -u postgres -- psql --no-psqlrc --no-align --tuples-only --dbname=%s --command=%s", database, query
    )


def converge(*options, password=None, **variables):
    """Run the scenario's playbook with other variables."""
    command = [
        "ansible-playbook",
        "-i",
        os.environ["MOLECULE_INVENTORY_FILE"],
        str(SCENARIO / "converge.yml"),
        *options,
    ]
    if variables:
        command += ["--extra-vars", json.dumps(variables)]
    environment = os.environ | ({"TEST_PASSWORD": password} if password else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def changes(output):
    return sum(int(number) for number in re.findall(r"changed=(\d+)", output))


def one_line(output):
    return re.sub(r"\s+", " ", output)


# --- who gets in


@pytest.mark.parametrize("user", PASSWORDS)
def test_an_application_reaches_its_database_through_the_socket(host, user):
    assert psql(host, "SELECT current_user, current_database()", user).stdout.strip() == f"{user}|{OWN[user]}"
    made = psql(host, "CREATE TABLE IF NOT EXISTS note (text text); INSERT INTO note VALUES ('x') RETURNING text", user)
    assert made.rc == 0, made.stderr


@pytest.mark.parametrize("user", PASSWORDS)
def test_a_wrong_password_is_refused(host, user):
    for password in ("wrong", "", PASSWORDS[user] + "x"):
        refused = psql(host, "SELECT 1", user, password=password)
        assert refused.rc != 0
        assert re.search("password authentication failed|no password supplied", refused.stderr)


def test_no_application_reaches_another_ones_database(host):
    for user in PASSWORDS:
        for database in [*(OWN[other] for other in OWN if other != user), "postgres", "template1"]:
            assert "no pg_hba.conf entry" in psql(host, "SELECT 1", user, database).stderr


def test_the_privileges_refuse_too_not_only_pg_hba(host):
    for user in PASSWORDS:
        answer = superuser(
            host, f"SELECT datname FROM pg_database WHERE has_database_privilege('{user}', oid, 'CONNECT')"
        )
        assert set(answer.split()) - {"template0"} == {OWN[user]}


def test_an_access_entry_lets_another_role_in_which_sees_what_the_owner_grants(host):
    ask = ["env PGPASSWORD=report-password psql -XAt -h /var/run/postgresql -U report -d %s -c %s"]
    assert psql(host, "CREATE TABLE IF NOT EXISTS sale (total int); GRANT SELECT ON sale TO report", "shop").rc == 0
    assert host.run(*ask, "shop", "SELECT count(*) FROM sale").rc == 0
    assert "permission denied" in host.run(*ask, "shop", "DELETE FROM sale").stderr
    assert "permission denied" in host.run(*ask, "shop", "CREATE TABLE mine (i int)").stderr
    assert "no pg_hba.conf entry" in host.run(*ask, "blog", "SELECT 1").stderr


def test_the_superuser_needs_the_system_user_postgres(host):
    assert "no pg_hba.conf entry" in psql(host, "SELECT 1", "shop", "postgres").stderr
    refused = host.run("runuser -u nobody -- psql --username=postgres --dbname=postgres --command='SELECT 1'")
    assert "Peer authentication failed" in refused.stderr


# --- TCP


def test_a_listed_address_gets_in_over_tls(host, addresses):
    name = host.check_output("hostname")
    query = "SELECT ssl AND version >= 'TLSv1.2' FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    answer = psql(host, query, "shop", server=addresses[name], options="sslmode=require")
    assert answer.stdout.strip() == "t", answer.stderr
    wrong = psql(host, query, "shop", server=addresses[name], password="wrong", options="sslmode=require")
    assert "password authentication failed" in wrong.stderr


def test_a_listed_address_is_refused_without_tls(host, addresses):
    refused = psql(host, "SELECT 1", "shop", server=addresses[host.check_output("hostname")], options="sslmode=disable")
    assert "no pg_hba.conf entry" in refused.stderr
    assert "no encryption" in refused.stderr


def test_a_listed_address_is_refused_for_what_is_not_listed(host, addresses):
    address = addresses[host.check_output("hostname")]
    assert "no pg_hba.conf entry" in psql(host, "SELECT 1", "blog", server=address).stderr
    assert "no pg_hba.conf entry" in psql(host, "SELECT 1", "shop", "wiki_pages", server=address).stderr


def test_another_host_is_refused(hosts, addresses):
    for inside, outside in (("debian12", "debian13"), ("debian13", "debian12")):
        for options in ("sslmode=require", "sslmode=disable"):
            refused = psql(hosts[outside], "SELECT 1", "shop", server=addresses[inside], options=options)
            assert f'no pg_hba.conf entry for host "{addresses[outside]}"' in refused.stderr


def test_the_server_listens_nowhere_else(host, addresses):
    listening = re.findall(r"(\S+):5432\s", host.check_output("ss -Hltn"))
    assert listening == [addresses[host.check_output("hostname")]]


# --- what a role may


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE intruder",
        "CREATE DATABASE intruder",
        "SELECT rolpassword FROM pg_authid",
        "ALTER ROLE shop SUPERUSER",
        "ALTER ROLE blog PASSWORD 'x'",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE EXTENSION plpython3u",
        "SET ROLE blog",
        "SET ROLE postgres",
        "ALTER SYSTEM SET work_mem = '1GB'",
    ],
)
def test_a_role_may_do_nothing_beyond_its_database(host, statement):
    refused = psql(host, statement, "shop")
    assert refused.rc != 0
    assert re.search("permission denied|must be|not available|does not exist|Only roles", refused.stderr, re.IGNORECASE)


def test_a_role_keeps_to_its_limits(host):
    assert "statement timeout" in psql(host, "SELECT pg_sleep(3)", "wiki").stderr
    assert psql(host, "SELECT pg_sleep(1.5)", "shop").rc == 0
    busy = "; ".join(
        ["(PGPASSWORD=\"$1\" psql -h /var/run/postgresql -U blog -c 'SELECT pg_sleep(4)' blog >/dev/null) & "] * 5
    )
    busy = busy.replace("& ;", "&")
    result = host.run(
        f"bash -c '{busy.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))} sleep 1.5; "
        'PGPASSWORD="$1" psql -h /var/run/postgresql -U blog -c "SELECT 1" blog; wait\' bash %s',
        PASSWORDS["blog"],
    )
    assert "too many connections for role" in result.stderr


def test_no_role_may_take_the_connections_of_the_others(host):
    limits = superuser(
        host, "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolcanlogin AND NOT rolsuper ORDER BY 1"
    ).split()
    # 100, less 10 for management, less the 5 of blog, and a share for each of three.
    assert limits == ["blog|5", "report|28", "shop|28", "wiki|28"]


def test_passwords_are_stored_as_scram(host):
    stored = superuser(host, "SELECT rolname, left(rolpassword, 14) FROM pg_authid WHERE rolcanlogin ORDER BY rolname")
    assert stored.split() == [
        "blog|SCRAM-SHA-256$",
        "postgres|",
        *(f"{name}|SCRAM-SHA-256$" for name in ("report", "shop", "wiki")),
    ]


def test_a_database_is_made_for_text_in_any_language(host):
    query = "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = 'shop'"
    assert superuser(host, query) == "UTF8|C.UTF-8|C.UTF-8"
    assert psql(host, "SELECT lower('ÄÖÜ')", "shop").stdout.strip() == "äöü"


def test_extensions_are_there_for_the_application(host):
    assert psql(host, "SELECT unaccent('Hôtel'), similarity('abc', 'abc')", "shop").stdout.strip() == "Hotel|1"


# --- the server itself


def test_damaged_pages_are_noticed(host):
    assert superuser(host, "SHOW data_checksums") == "on"


def test_a_killed_server_comes_back_with_its_data(host):
    psql(host, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (42)", "shop")
    unit = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*'").split()[0]
    state = f"systemctl show --property=ActiveState --property=MainPID --value {unit}"
    for _ in range(2):
        before = host.check_output(state).split()
        assert "active" in before
        process = (set(before) - {"active"}).pop()
        host.check_output("kill -9 %s", process)
        deadline = time.monotonic() + 60
        while (now := host.check_output(state).split()) and (process in now or "active" not in now):
            assert time.monotonic() < deadline, now
            time.sleep(0.3)
        assert psql(host, "SELECT id FROM kept", "shop").stdout.strip() == "42"
    psql(host, "DROP TABLE kept", "shop")


def test_a_server_that_was_stopped_on_purpose_stays_down(host):
    version = host.check_output("ls /etc/postgresql")
    host.check_output("pg_ctlcluster %s main stop", version)
    time.sleep(4)
    assert host.run("systemctl is-active postgresql@%s-main", version).stdout.strip() == "inactive"
    host.check_output("systemctl start postgresql@%s-main", version)
    assert psql(host, "SELECT 1", "shop").rc == 0


def test_the_journal_tells_who_connected(host):
    psql(host, "SELECT 1", "shop", password="wrong")
    psql(host, "SELECT pg_sleep(1.1)", "shop")
    journal = host.check_output("journalctl --no-pager --output=cat --unit 'postgresql@*' --since -1min")
    assert 'password authentication failed for user "shop"' in journal
    assert "connection authorized: user=shop database=shop" in journal
    assert re.search(r"duration: .* pg_sleep\(1.1\)", journal)


def test_the_journal_does_not_tell_what_users_entered(host):
    for query in (
        "CREATE TABLE IF NOT EXISTS account (email text PRIMARY KEY, password text)",
        "INSERT INTO account VALUES ('alice@example.com', 'pbkdf2-of-alice') ON CONFLICT DO NOTHING",
    ):
        assert psql(host, query, "shop").rc == 0
    again = psql(host, "INSERT INTO account VALUES ('alice@example.com', 'pbkdf2-of-alice')", "shop")
    assert "duplicate key" in again.stderr
    journal = host.check_output("journalctl --no-pager --output=cat --unit 'postgresql@*' --since -1min")
    assert 'duplicate key value violates unique constraint "account_pkey"' in journal
    assert "alice" not in journal


# --- what a run changes: the tests below follow one another, the last one leaves the servers as they were


def started(host):
    return superuser(host, "SELECT pg_postmaster_start_time()")


def test_a_run_that_changes_nothing_is_three_module_runs_beside_the_facts(hosts):
    code, output = converge("-vvv")
    assert code == 0, output
    assert changes(output) == 0
    modules = re.findall(r"Using module file .*/(\w+)\.py", output)
    assert sorted(modules) == sorted(["setup", "apt", "host_code", "systemd_service"] * len(hosts))


def test_what_somebody_changed_by_hand_is_put_right(hosts):
    for host in hosts.values():
        for statement in (
            "GRANT CONNECT ON DATABASE blog TO PUBLIC",
            "REVOKE CONNECT ON DATABASE shop FROM shop",
            "ALTER ROLE blog SUPERUSER CREATEROLE",
            "ALTER ROLE wiki SET work_mem = '1GB'",
            "ALTER ROLE wiki VALID UNTIL '2020-01-01'",
        ):
            superuser(host, statement)
        superuser(host, "GRANT CREATE ON SCHEMA public TO PUBLIC; ALTER SCHEMA public OWNER TO blog", "shop")
        superuser(host, "DROP EXTENSION unaccent", "shop")
    code, output = converge("--check")
    assert code == 0, output
    assert changes(output) >= len(hosts)
    for change in (
        "the role blog",
        "the role wiki: ",
        "the database shop: ",
        "the database blog: ",
        "the extension unaccent in the database shop",
    ):
        assert output.count(f"- '{change}") + output.count(f"- {change}") >= len(hosts), output
    assert superuser(hosts["debian12"], "SELECT rolsuper FROM pg_roles WHERE rolname = 'blog'") == "t"
    code, output = converge()
    assert code == 0, output
    for host in hosts.values():
        assert superuser(host, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'blog'") == "f"
        assert superuser(host, "SELECT has_schema_privilege('blog', 'public', 'CREATE')", "shop") == "f"
        assert psql(host, "SHOW work_mem", "wiki").stdout.strip() == "8MB"
        assert psql(host, "SELECT unaccent('é')", "shop").stdout.strip() == "e"
        test_the_privileges_refuse_too_not_only_pg_hba(host)


def test_a_database_that_belongs_to_another_role_is_refused_before_anything_changes(hosts):
    files = "cat /etc/postgresql/*/main/conf.d/vivarium.conf /etc/postgresql/*/main/pg_hba.conf | sha256sum"
    before = {name: host.check_output(files) for name, host in hosts.items()}
    for host in hosts.values():
        superuser(host, "ALTER DATABASE wiki_pages OWNER TO blog")
    code, output = converge(
        postgresql_access=[], postgresql_settings={"work_mem": "9MB"}, password="the-second-password"
    )
    assert code != 0
    assert (
        "a database 'wiki_pages' is there and belongs to the role 'blog', not to 'wiki': nothing was changed"
        in one_line(output)
    )
    for name, host in hosts.items():
        assert host.check_output(files) == before[name]
        assert psql(host, "SELECT 1", "shop").rc == 0
        # What the message says to type is what it takes.
        said = one_line(output).replace("''", "'").replace('\\"', '"')
        (command,) = set(re.findall("runuser --pty -u postgres -- psql -c '.*?'", said))
        host.check_output(command.replace("%", "%%"))
    code, output = converge()
    assert code == 0, output
    assert changes(output) == 0


def test_an_extension_whose_script_would_run_among_an_applications_functions_is_refused(hosts):
    extensions = [{"name": "shop", "extensions": ["pg_trgm", "unaccent", "postgres_fdw"]}]
    for host in hosts.values():
        assert psql(host, "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "shop").rc == 0
    code, output = converge(postgresql_databases=extensions, postgresql_access=[])
    assert code != 0
    assert "the extension 'postgres_fdw' is not a trusted one" in one_line(output)
    for host in hosts.values():
        assert psql(host, "DROP FUNCTION mine", "shop").rc == 0
    code, output = converge(postgresql_databases=extensions, postgresql_access=[])
    assert code == 0, output
    query = "SELECT extname, pg_get_userbyid(extowner) FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
    for host in hosts.values():
        assert superuser(host, query, "shop").split() == ["pg_trgm|shop", "postgres_fdw|postgres", "unaccent|shop"]
        superuser(host, "DROP EXTENSION postgres_fdw", "shop")
    code, output = converge()
    assert code == 0, output


def test_a_new_password_and_a_setting_reach_the_server_without_a_restart(hosts):
    before = {name: started(host) for name, host in hosts.items()}
    code, output = converge("-vvvv", "--diff", password="the-second-password", postgresql_settings={"work_mem": "9MB"})
    assert code == 0, output
    assert {name: started(host) for name, host in hosts.items()} == before
    for host in hosts.values():
        assert superuser(host, "SHOW work_mem") == "9MB"
        assert psql(host, "SELECT 1", "shop", password="the-second-password").rc == 0
        assert psql(host, "SELECT 1", "shop").rc != 0
        journal = host.check_output("journalctl --no-pager --output=json --all")
        assert "vivarium.server.files" in journal, "modules do not report to the journal here: the test proves nothing"
        verifier = superuser(host, "SELECT rolpassword FROM pg_authid WHERE rolname = 'shop'")
        for secret in (
            "the-second-password",
            "shop-first-password",
            PASSWORDS["wiki"],
            verifier,
            verifier.split("$")[-1],
        ):
            assert secret not in journal
            assert secret not in output
            assert host.run("grep -rFl -- %s /etc /tmp /var/tmp /root /var/log/postgresql", secret).stdout == ""


def test_a_restart_is_made_only_when_a_setting_needs_it_and_it_is_allowed(hosts):
    before = {name: started(host) for name, host in hosts.items()}
    code, output = converge(postgresql_max_connections=50, postgresql_restart=False)
    assert code == 0, output
    assert "PostgreSQL must be restarted, which postgresql_restart forbids: max_connections" in one_line(output)
    assert {name: started(host) for name, host in hosts.items()} == before

    code, output = converge(postgresql_max_connections=50)
    assert code == 0, output
    assert "PostgreSQL restarts now; connections are closed: max_connections" in one_line(output)
    assert all(superuser(host, "SHOW max_connections") == "50" for host in hosts.values())


def test_a_run_that_was_killed_before_the_reload_is_finished_by_the_next(hosts):
    for host in hosts.values():
        time.sleep(1.1)  # PostgreSQL knows a file's time to the second
        host.check_output('sed -i "/^max_connections/s/50/100/" /etc/postgresql/*/main/conf.d/vivarium.conf')
    code, output = converge()
    assert code == 0, output
    assert all(superuser(host, "SHOW max_connections") == "100" for host in hosts.values())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("work_mem = 'a lot'", "work_mem"),
        ("no_such_setting = 1", "no_such_setting"),
        ("shared_preload_libraries = 'pg_stat_statements, no_such_library'", "there is no .*no_such_library.so"),
        ("ssl_key_file = '/etc/shadow'", "postgres cannot read /etc/shadow"),
        ("ssl_cert_file = '/etc/ssl/certs/ISRG_Root_X1.pem'", "is not the key of /etc/ssl/certs/ISRG_Root_X1.pem"),
        ("listen_addresses = '127.0.0.1, 192.0.2.1'", "192.0.2.1 is not an address of this host"),
    ],
)
def test_the_check_finds_what_the_server_would_not_start_with(host, setting, message):
    file = host.check_output("echo /etc/postgresql/*/main/conf.d/zz-test.conf | sed s/[*]/$(ls /etc/postgresql)/")
    assert host.run("/usr/local/lib/vivarium/postgresql-check").rc == 0
    host.check_output("printf '%%s\\n' %s >%s", setting, file)
    failed = host.run("/usr/local/lib/vivarium/postgresql-check")
    host.check_output("rm %s", file)
    assert failed.rc != 0
    assert re.search(message, failed.stderr)


def test_an_older_server_with_the_data_is_not_pushed_aside(host):
    version = host.check_output("ls /etc/postgresql")
    host.check_output("pg_createcluster --port 5433 %s older", version)
    host.check_output("sed -i 's/^port = 5433/port = 5432/' /etc/postgresql/%s/older/postgresql.conf", version)
    failed = host.run("/usr/local/lib/vivarium/postgresql-check")
    host.check_output("pg_dropcluster %s older", version)
    assert failed.rc != 0
    assert f"the server {version}/older has the port 5432" in failed.stderr


def test_a_configuration_that_would_not_start_never_replaces_one_that_does(hosts):
    files = "cat /etc/postgresql/*/main/conf.d/vivarium.conf /etc/postgresql/*/main/pg_hba.conf"
    before = {name: host.check_output(files) for name, host in hosts.items()}
    code, output = converge(postgresql_settings={"work_mem": "a lot"}, postgresql_access=[])
    assert code != 0
    assert 'invalid value for parameter "work_mem"' in output
    for name, host in hosts.items():
        assert host.check_output(files) == before[name]
        assert psql(host, "SELECT 1", "shop").rc == 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"postgresql_users": [{"name": "shop"}]}, "postgresql_users[0] ('shop'): password is missing"),
        (
            {
                "postgresql_users": [{"name": "shop", "password": "a-secret-of-shop"}],
                "postgresql_databases": [{"name": "forum"}],
            },
            "postgresql_databases[0] ('forum'): owner 'forum' is not in postgresql_users",
        ),
    ],
)
def test_bad_input_is_named_before_anything_changes(variables, message):
    code, output = converge("-vvv", "--limit", "debian13", **variables)
    assert code != 0
    assert message in one_line(output)
    assert "a-secret-of-shop" not in output
    assert re.findall(r"Using module file .*/(\w+)\.py", output) == ["setup"]


def test_what_leaves_the_lists_goes_on_until_it_is_closed_by_name(hosts):
    fewer = {
        "postgresql_users": [{"name": "blog", "password": "new-of-blog"}],
        "postgresql_databases": [{"name": "blog"}],
        "postgresql_access": [],
        "postgresql_listen_addresses": [],
    }
    for host in hosts.values():
        assert psql(host, "CREATE TABLE IF NOT EXISTS note (text text); INSERT INTO note VALUES ('x')", "shop").rc == 0
    lines = {name: access_of(host, "shop") for name, host in hosts.items()}
    for _again in range(2):
        code, output = converge(**fewer)
        assert code == 0, output
        assert "Not in postgresql_databases, and as they were: " in one_line(output)
        for name, host in hosts.items():
            assert psql(host, "SELECT 1", "shop").rc == 0
            assert access_of(host, "shop") == lines[name] != ""
            assert psql(host, "SELECT 1", "blog", password="new-of-blog").rc == 0
            assert ":5432 " in host.check_output("ss -Hltn")
    assert changes(output) == 0
    code, output = converge(**fewer, postgresql_remove_databases=["shop", "wiki_pages"])
    assert code == 0, output
    for host in hosts.values():
        assert superuser(host, "SELECT count(*) FROM note", "shop") != "0"
        assert "no pg_hba.conf entry" in psql(host, "SELECT 1", "shop").stderr
        assert (
            superuser(host, "SELECT rolcanlogin OR rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'shop'")
            == "f"
        )
        assert psql(host, "SELECT 1", "blog", password="new-of-blog").rc == 0
        assert ":5432 " not in host.check_output("ss -Hltn")


def access_of(host, database):
    """What the server reads of who may connect to a database."""
    columns = "SELECT type, user_name, address, auth_method FROM pg_hba_file_rules"
    query = f"{columns} WHERE database = ARRAY['{database}'] ORDER BY 1, 3"
    return superuser(host, query)


def test_an_unknown_extension_is_named(hosts):
    code, output = converge(
        "--limit", "debian13",
        postgresql_users=[{"name": "forum", "password": "forum-password"}],
        postgresql_databases=[{"name": "forum", "extensions": ["no_such_extension"]}],
        postgresql_access=[],
    )  # fmt: skip
    assert code != 0
    assert "database 'forum' asks for the extension 'no_such_extension'" in one_line(output)
    assert superuser(hosts["debian13"], "SELECT count(*) FROM pg_roles WHERE rolname = 'forum'") == "0"
    code, output = converge()
    assert code == 0, output
    for host in hosts.values():
        assert psql(host, "SELECT 1", "shop").rc == 0


def test_a_server_that_is_in_use_is_not_taken_over_unasked(hosts):
    """Somebody's own cluster, with clients over TCP: what it would lose is named, and a word goes on with copies kept.

    The last test: it needs a server that is not the role's.
    """
    host, place = hosts["debian13"], "/etc/postgresql/17/main"
    host.check_output("pg_dropcluster --stop 17 main && pg_createcluster 17 main --port 5433")
    host.check_output(f"rm -rf {place}/conf.d/*; echo 'host crm crm 10.0.0.0/8 scram-sha-256' >>{place}/pg_hba.conf")
    host.check_output(f"printf \"listen_addresses = '*'\\nmax_connections = 300\\n\" >{place}/conf.d/own.conf")
    host.check_output("systemctl restart postgresql@17-main")
    ask = "runuser -u postgres -- psql -p %s -XAtqc %s"
    host.check_output(ask, "5433", "CREATE DATABASE crm")
    before = host.check_output(f"find {place} -type f -exec sha256sum {{}} + | sort; stat -c %Y {place}")
    try:
        for port, things in (
            (5432, ("its port 5433",)),
            (5433, ("10.0.0.0/8", "access to the database crm", "the address *", "connections: 300 there, 100 here")),
        ):
            code, output = converge("--limit", "debian13", postgresql_port=port)
            assert code != 0
            assert all(thing in one_line(output) for thing in things), output
            assert (
                host.check_output(f"find {place} -type f -exec sha256sum {{}} + | sort; stat -c %Y {place}") == before
            )
            assert host.check_output(ask, "5433", "SHOW max_connections") == "300"
        code, output = converge("--limit", "debian13", postgresql_port=5433, postgresql_take_over=True)
        assert code == 0, output
        assert "10.0.0.0/8" in host.check_output(f"cat {place}/pg_hba.conf.before")
        assert host.check_output(ask, "5433", "SELECT count(*) FROM pg_database WHERE datname = 'crm'") == "1"
        code, output = converge("--limit", "debian13", postgresql_port=5433)
        assert code == 0 and changes(output) == 0, output
    finally:
        host.run("pg_dropcluster --stop 17 main; pg_createcluster 17 main")
