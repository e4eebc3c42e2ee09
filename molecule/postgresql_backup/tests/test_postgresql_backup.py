"""The role postgresql_backup and the playbooks backup and restore: what is kept is proven, what fails is loud."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
ROOT = SCENARIO.parents[1]
PROGRAM = "/usr/local/sbin/postgresql-backup"
DIRECTORY = "/var/backups/postgresql"
STATUS = "/var/lib/postgresql-backup/status.json"
CONFIG = "/etc/postgresql-backup.json"
MAIL = "/run/test-mail"

# An application's database as real ones are: keys, an index of an extension, a large object, views, privileges.
CONTENT = r"""
DROP SCHEMA IF EXISTS sales CASCADE;
DROP TABLE IF EXISTS customer CASCADE;
CREATE SCHEMA sales;
CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL CHECK (name <> ''));
CREATE TABLE sales.purchase (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES customer, total numeric, note text, photo oid);
CREATE INDEX purchase_note ON sales.purchase USING gin (note gin_trgm_ops);
CREATE VIEW totals AS SELECT customer, sum(total) AS total FROM sales.purchase GROUP BY customer;
CREATE MATERIALIZED VIEW best AS SELECT * FROM totals;
INSERT INTO customer (name) SELECT 'customer ' || i FROM generate_series(1, 100) i;
INSERT INTO sales.purchase (customer, total, note, photo)
  SELECT 1 + i % 100, i, md5(i::text), CASE WHEN i = 1 THEN lo_from_bytea(0, '\xdeadbeef') END FROM generate_series(1, 5000) i;
REFRESH MATERIALIZED VIEW best;
ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO blog;
GRANT SELECT ON customer TO blog;
"""


# A CHECK constraint runs an application's code wherever its dump is restored. This one tries to become the superuser.
ATTACK = r"""
CREATE FUNCTION public.honest() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  BEGIN
    EXECUTE 'RESET ROLE';
    EXECUTE 'ALTER ROLE shop SUPERUSER';
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  RETURN true;
END $$;
CREATE TABLE attack (i int CHECK (public.honest()));
INSERT INTO attack VALUES (1);
"""


def as_application(host, query, user="shop", database=None):
    return host.run(
        "env PGPASSWORD=%s psql -XAtq -v ON_ERROR_STOP=1 -h /var/run/postgresql -U %s -d %s -c %s",
        f"{user}-password", user, database or user, query,
    )  # fmt: skip


def superuser(host, query, database="postgres"):
    return host.check_output("runuser -u postgres -- psql -XAtq -d %s -c %s", database, query)


def backup(host, *arguments, path=""):
    """Run the program as cron does."""
    return host.run(f"runuser -u postgres -- env PATH={path}$PATH {PROGRAM} " + " ".join(arguments))


def dumps(host, database="shop"):
    return host.run(f"ls {DIRECTORY} | grep '^{database}-.*dump$'").stdout.split()


def status(host):
    return json.loads(host.check_output("runuser -u nobody -- cat %s", STATUS))


def databases(host):
    return superuser(host, "SELECT datname FROM pg_database").split()


def nothing_is_left_over(host):
    assert "vivarium_scratch" not in databases(host)
    assert superuser(host, "SELECT count(*) FROM pg_roles WHERE rolname = 'vivarium_scratch'") == "0"
    assert host.run(f"ls -A {DIRECTORY} | grep tmp").stdout == ""
    assert host.run("ls -A /tmp | grep postgresql-backup").stdout == ""
    return True


def next_second():
    """Backups are named by the second."""
    time.sleep(1.1)


@pytest.fixture
def broken(host):
    """Put a program before PostgreSQL's own of the same name, for the runs of one test."""

    def put(name, script):
        host.check_output(
            "mkdir -p /opt/broken && printf '#!/bin/sh\n%%s\n' %s >/opt/broken/%s && chmod -R 755 /opt/broken",
            script,
            name,
        )
        return "/opt/broken:"

    yield put
    host.run("rm -rf /opt/broken")


@pytest.fixture
def config(host):
    """Change the program's configuration for one test."""
    before = host.check_output("cat %s", CONFIG)

    def change(**values):
        host.check_output("printf %%s %s >%s", json.dumps({**json.loads(before), **values}), CONFIG)

    yield change
    host.check_output("printf '%%s\n' %s >%s", before, CONFIG)


@pytest.fixture(scope="module", autouse=True)
def content(hosts):
    for host in hosts.values():
        filled = as_application(host, CONTENT)
        assert filled.rc == 0, filled.stderr
        assert (
            as_application(
                host,
                "DROP TABLE IF EXISTS post; CREATE TABLE post (text text); INSERT INTO post VALUES ('first')",
                "blog",
            ).rc
            == 0
        )
        superuser(host, "ALTER DATABASE shop SET timezone = 'Europe/Berlin'")
        superuser(host, 'ALTER DATABASE shop SET search_path = "$user", public, sales')
        superuser(host, "ALTER ROLE shop IN DATABASE shop SET work_mem = '5MB'")
        superuser(host, "GRANT TEMPORARY ON DATABASE shop TO blog")
        assert backup(host, "run").rc == 0
    next_second()


# --- a backup


def test_a_backup_holds_everything_when_restored_by_hand(host):
    result = backup(host, "run", "--json")
    assert result.rc == 0, result.stderr
    answer = json.loads(result.stdout)
    assert set(answer) == {"shop", "blog", "(roles)"}
    assert answer["shop"]["tables"] == 3
    file = f"{DIRECTORY}/{answer['shop']['file']}"
    manifest = json.loads(host.check_output("cat %s.json", file))
    assert host.check_output("sha256sum %s", file).split()[0] == manifest["sha256"]
    host.check_output("runuser -u postgres -- createdb --template=template0 byhand")
    host.check_output("runuser -u postgres -- pg_restore --exit-on-error --dbname=byhand %s", file)
    for query in (
        "SELECT count(*), sum(total) FROM sales.purchase",
        "SELECT lo_get(photo) FROM sales.purchase WHERE id = 1",
    ):
        assert superuser(host, query, "byhand") == superuser(host, query, "shop") != ""
    host.check_output("runuser -u postgres -- dropdb byhand")
    assert "CREATE ROLE shop" in host.check_output("cat %s/%s", DIRECTORY, answer["(roles)"]["file"])
    assert nothing_is_left_over(host)


def test_nobody_else_reads_backups_but_everybody_reads_how_they_went(host):
    assert "Permission denied" in host.run("runuser -u nobody -- ls %s", DIRECTORY).stderr
    assert "Permission denied" in host.run("runuser -u nobody -- cat %s", CONFIG).stderr
    assert host.run("runuser -u nobody -- %s list", PROGRAM).rc != 0
    modes = host.check_output("find %s -printf '%%m %%u\\n'", DIRECTORY)
    assert set(modes.split("\n")) == {"700 postgres", "600 postgres"}
    assert host.run("grep -l SCRAM -r %s", DIRECTORY).stdout == ""
    said = status(host)
    assert said["result"] == "ok"
    assert said["last_success"] is not None
    assert said["databases"]["shop"]["result"] == "ok"


def test_what_lies_in_a_dump_never_acts_as_the_superuser(host):
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'shop'"
    assert as_application(host, ATTACK).rc == 0
    try:
        next_second()
        assert backup(host, "run", "shop").rc == 0
        assert superuser(host, is_superuser) == "f"
        assert host.run("%s restore shop", PROGRAM).rc == 0
        assert superuser(host, is_superuser) == "f"
        # Not for lack of trying: the plain way makes the application the superuser.
        host.check_output("runuser -u postgres -- createdb --template=template0 byhand")
        host.check_output("runuser -u postgres -- pg_restore --dbname=byhand %s/%s", DIRECTORY, dumps(host)[-1])
        assert superuser(host, is_superuser) == "t"
    finally:
        superuser(host, "ALTER ROLE shop NOSUPERUSER")
        for name in databases(host):
            if name == "byhand" or "_before_restore_" in name:
                superuser(host, f'DROP DATABASE "{name}"')
        as_application(host, "DROP TABLE attack; DROP FUNCTION honest")


def test_what_only_the_superuser_can_restore_has_to_be_named(host, config):
    superuser(host, "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "shop")
    superuser(host, "CREATE EVENT TRIGGER seen ON ddl_command_end EXECUTE FUNCTION seen()", "shop")
    try:
        next_second()
        refused = backup(host, "run", "shop")
        assert refused.rc == 1
        assert "postgresql_backup_superuser_databases" in refused.stderr
        config(superuser_databases=["shop"])
        assert backup(host, "run", "shop").rc == 0
    finally:
        superuser(host, "DROP EVENT TRIGGER seen; DROP FUNCTION seen()", "shop")


HIDDEN = """
CREATE TABLE diary (id int PRIMARY KEY, owner text);
CREATE TABLE page (diary int REFERENCES diary);
INSERT INTO diary SELECT i, 'owner ' || i % 3 FROM generate_series(1, 100) i;
INSERT INTO page SELECT id FROM diary;
CREATE MATERIALIZED VIEW pages AS SELECT count(*) AS n FROM page JOIN diary ON id = diary;
ALTER TABLE diary ENABLE ROW LEVEL SECURITY;
ALTER TABLE diary FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON diary USING (owner = current_setting('blog.user', true));
"""


def test_rows_that_are_hidden_from_their_owner_too_are_backed_up_and_proven(host):
    assert as_application(host, HIDDEN, "blog").rc == 0
    try:
        assert as_application(host, "SELECT count(*) FROM diary", "blog").stdout.strip() == "0"
        next_second()
        run = backup(host, "run", "blog")
        assert run.rc == 0, run.stderr
        assert host.run("%s restore blog", PROGRAM).rc == 0
        assert superuser(host, "SELECT count(*) FROM diary", "blog") == "100"
        # They are hidden again, and what is counted is all of them.
        assert (
            as_application(host, "SELECT count(*), (SELECT n FROM pages) FROM diary", "blog").stdout.strip() == "0|100"
        )
        assert superuser(host, "SELECT rolbypassrls FROM pg_roles WHERE rolname = 'blog'") == "f"
        assert nothing_is_left_over(host)
    finally:
        as_application(host, "DROP TABLE diary, page CASCADE", "blog")
        for name in databases(host):
            if "_before_restore_" in name:
                superuser(host, f'DROP DATABASE "{name}"')


ACCENTS = """
CREATE EXTENSION unaccent;
CREATE FUNCTION plain(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT unaccent('unaccent', $1) $$;
CREATE TABLE town (name text, sorted text GENERATED ALWAYS AS (plain(name)) STORED);
INSERT INTO town VALUES ('Łódź');
"""


def test_a_function_that_relies_on_the_search_path_is_told_with_what_mends_it(host):
    made = as_application(host, ACCENTS, "blog")
    assert made.rc == 0, made.stderr
    try:
        next_second()
        refused = backup(host, "run", "blog")
        assert refused.rc == 1 and "ALTER FUNCTION NAME SET search_path = public" in refused.stderr, refused.stderr
        assert status(host)["databases"]["blog"]["unproven"] in host.check_output("ls %s", DIRECTORY)
        assert as_application(host, "ALTER FUNCTION plain SET search_path = public", "blog").rc == 0
        next_second()
        run = backup(host, "run", "blog")
        assert run.rc == 0, run.stderr
    finally:
        as_application(host, "DROP TABLE town; DROP FUNCTION plain; DROP EXTENSION unaccent", "blog")
        next_second()
        backup(host, "run", "blog")


def test_cron_makes_backups_by_itself_and_mails_what_fails(hosts):
    before = {name: len(dumps(host, "blog")) for name, host in hosts.items()}
    deliver = f"#!/bin/sh\ncat >>{MAIL}\n"
    # cron's own PATH, as the role set it, finds this one first.
    fail = '#!/bin/sh\ncase "$*" in *dbname=shop*) echo disk on fire >&2; exit 3;; esac\nexec /usr/bin/pg_dump "$@"\n'
    try:
        for host in hosts.values():
            for path, text in (("/usr/sbin/sendmail", deliver), ("/usr/local/sbin/pg_dump", fail)):
                host.check_output("printf %%s %s >%s && chmod 755 %s", text, path, path)
            host.check_output("install -m 666 /dev/null %s", MAIL)
            host.check_output("sed 's/^17 2/* */' /etc/cron.d/postgresql-backup >/etc/cron.d/test-postgresql-backup")
        deadline = time.monotonic() + 130
        for host in hosts.values():
            while "disk on fire" not in host.check_output("cat %s", MAIL):
                assert time.monotonic() < deadline, host.run("journalctl -n 20 -u cron").stdout
                time.sleep(1)
    finally:
        for host in hosts.values():
            host.run("rm -f /etc/cron.d/test-postgresql-backup /usr/local/sbin/pg_dump /usr/sbin/sendmail")
    for name, host in hosts.items():
        mail = host.check_output("cat %s", MAIL)
        assert re.search("^To: ops@example.com", mail, re.MULTILINE)
        assert "postgresql-backup: shop: pg_dump failed (exit code 3)" in mail
        assert len(dumps(host, "blog")) > before[name]
        well = backup(host, "run", "--quiet", "--wait=60")
        assert (well.rc, well.stdout, well.stderr) == (0, "", "")  # nothing that cron would mail


# --- what fails


def fails(host, result, message, kept):
    """A failure is loud, keeps the last good backup and leaves the other databases alone."""
    assert result.rc == 1
    assert f"postgresql-backup: shop: {message}" in result.stderr
    assert dumps(host) == kept
    said = status(host)
    assert said["result"] == "failed"
    assert message in said["databases"]["shop"]["error"]
    assert said["databases"]["shop"]["last_success"] < said["last_run"]
    assert said["databases"]["blog"]["result"] == "ok"
    assert message in host.check_output("cat /var/lib/postgresql-backup/hook-was-here")
    errors = host.check_output(
        "journalctl --no-pager --output=cat --priority=err --identifier=postgresql-backup --since=-2min"
    )
    assert f"shop: {message}" in errors
    assert nothing_is_left_over(host)
    return True


# What happens instead of `pg_dump` for the database shop: an end of the script, and what the program says then.
AFTERWARDS = '/usr/bin/pg_dump "$@" || exit; for option; do case $option in --file=*) file=${option#*=};; esac; done; '
NOT_RESTORED = "the dump cannot be restored: pg_restore failed"
BROKEN = {
    "truncated": (AFTERWARDS + "truncate -s 50000 $file", NOT_RESTORED),
    "two bytes flipped": (
        AFTERWARDS + "printf XX | dd of=$file bs=1 seek=60000 conv=notrunc status=none",
        NOT_RESTORED,
    ),
    "empty": ("exit 0", NOT_RESTORED),
    "without tables": ('exec /usr/bin/pg_dump "$@" --exclude-schema=*', "the dump holds none of the 3 tables"),
    "refused": ("echo no >&2; exit 1", "pg_dump failed (exit code 1)"),
    "disk full": ("cat /dev/zero >/dev/full", "pg_dump failed (exit code 1)"),
    "killed": ("kill -9 $$", "pg_dump failed (signal 9)"),
}


def a_bad_dump_is_noticed(host, broken, fault):
    instead, message = BROKEN[fault]
    script = f'case "$*" in *dbname=shop*) ;; *) exec /usr/bin/pg_dump "$@";; esac; {instead}'
    kept = dumps(host)
    next_second()
    assert fails(host, backup(host, "run", path=broken("pg_dump", script)), message, kept)


# Each takes a while: half of them on one host, half on the other.
@pytest.mark.on("debian12")
@pytest.mark.parametrize("fault", list(BROKEN)[::2])
def test_a_bad_dump_is_noticed_and_the_last_good_one_stays(host, broken, fault):
    a_bad_dump_is_noticed(host, broken, fault)


@pytest.mark.on("debian13")
@pytest.mark.parametrize("fault", list(BROKEN)[1::2])
def test_a_bad_dump_is_noticed_here_too(host, broken, fault):
    a_bad_dump_is_noticed(host, broken, fault)


@pytest.mark.on("debian13")
def test_a_full_disk_is_noticed_and_the_last_good_one_stays(host, config):
    kept = dumps(host)
    host.check_output("mkdir /run/aside && cp -a %s/. /run/aside/", DIRECTORY)
    host.check_output("mount -t tmpfs -o size=3m,mode=700,uid=postgres,gid=postgres tmpfs %s", DIRECTORY)
    try:
        host.check_output("cp -a /run/aside/. %s/", DIRECTORY)
        # Room for the small database and for the roles.
        host.check_output(
            "dd if=/dev/zero of=%s/ballast bs=1k count=$(($(df --output=avail %s | tail -1) - 60)) status=none",
            *[DIRECTORY] * 2,
        )
        config(reserve_mb=0)
        next_second()
        result = backup(host, "run")
        assert "free" in result.stderr
        assert fails(host, result, f"{DIRECTORY} has", kept)
    finally:
        host.check_output("umount %s && rm -r /run/aside", DIRECTORY)


def test_a_run_that_was_killed_is_cleaned_up_by_the_next(host, broken):
    kept = dumps(host)
    path = broken("pg_restore", 'case "$*" in *exit-on-error*) sleep 60;; esac; exec /usr/bin/pg_restore "$@"')
    host.check_output(
        f"runuser -u postgres -- sh -c 'PATH={path}$PATH setsid {PROGRAM} run >/dev/null 2>&1 & echo $!' >/run/test-pid"
    )
    deadline = time.monotonic() + 60
    while "vivarium_scratch" not in databases(host):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(0.5)
    # Meanwhile nobody else starts.
    second = backup(host, "run")
    assert second.rc == 1
    assert "another backup or restore is running" in second.stderr
    host.check_output("pkill -9 -f '^/usr/bin/python3 %s'", PROGRAM)
    host.run("pkill -9 sleep")
    assert "vivarium_scratch" in databases(host)
    assert dumps(host) == kept
    assert backup(host, "run").rc == 0
    assert nothing_is_left_over(host)
    assert status(host)["result"] == "ok"


@pytest.mark.on("debian12")
def test_a_run_that_is_stopped_cleans_up_and_says_so(host, broken):
    path = broken("pg_restore", 'case "$*" in *exit-on-error*) sleep 60;; esac; exec /usr/bin/pg_restore "$@"')
    host.check_output(f"runuser -u postgres -- sh -c 'PATH={path}$PATH setsid {PROGRAM} run >/dev/null 2>&1 &'")
    deadline = time.monotonic() + 60
    while "vivarium_scratch" not in databases(host):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    host.check_output("pkill -TERM -f '^/usr/bin/python3 %s'", PROGRAM)
    deadline = time.monotonic() + 60
    while host.run("pgrep -f '^/usr/bin/python3 %s'", PROGRAM).rc == 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert nothing_is_left_over(host)
    assert status(host)["error"] == "stopped by a signal"
    assert backup(host, "run").rc == 0
    assert "error" not in status(host)


@pytest.mark.on("debian12")
def test_a_server_that_is_down_is_noticed(host, config):
    config(port=5499)
    result = backup(host, "run")
    assert result.rc == 1
    assert "postgresql-backup: run: the server does not let the superuser into postgres" in result.stderr
    assert status(host)["result"] == "failed"
    assert "the server does not let the superuser in" in status(host)["error"]


# --- what goes


@pytest.mark.on("debian13")
def test_old_backups_go_but_never_the_newest_and_none_after_a_failure(host, config, broken):
    host.check_output("mkdir /run/aside && mv %s/shop-* /run/aside/", DIRECTORY)
    try:
        assert backup(host, "run", "shop").rc == 0
        (last,) = dumps(host)
        manifest = json.loads(host.check_output("cat %s/%s.json", DIRECTORY, last))
        for day in range(1, 21):
            name = f"shop-202601{day:02}T021700Z.dump"
            text = json.dumps({**manifest, "file": name, "taken": f"2026-01-{day:02}T02:17:00+00:00"})
            host.check_output(
                "cd %s && cp %s %s && printf %%s %s >%s.json && chown postgres: %s*",
                DIRECTORY,
                last,
                name,
                text,
                name,
                name,
            )
        config(keep_days=14, keep_last=5)
        assert backup(host, "run", "shop", path=broken("pg_dump", "exit 1")).rc == 1
        assert len(dumps(host)) == 21
        next_second()
        assert backup(host, "run", "shop").rc == 0
        assert dumps(host)[:-2] == [f"shop-202601{day}T021700Z.dump" for day in (18, 19, 20)]
        assert len(dumps(host)) == 5
        assert host.check_output("ls %s | grep -c 'shop.*json'", DIRECTORY) == "5"
        # Young ones stay, however many they are.
        config(keep_days=36500, keep_last=1)
        next_second()
        assert backup(host, "run", "shop").rc == 0
        assert len(dumps(host)) == 6
        assert dumps(host, "blog")
    finally:
        host.check_output("rm %s/shop-* && mv /run/aside/* %s/ && rmdir /run/aside", DIRECTORY, DIRECTORY)


# --- the playbooks


def play(name, *options, limit=None, **variables):
    command = [
        "ansible-playbook",
        "-i",
        os.environ["MOLECULE_INVENTORY_FILE"],
        str(ROOT / "playbooks" / f"{name}.yml"),
        *options,
    ]
    command += ["--limit", limit] if limit else []
    command += ["--extra-vars", json.dumps(variables)] if variables else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_a_port_without_a_server_is_refused_by_the_role_and_not_by_cron_at_night(hosts):
    kept = "cat /etc/postgresql-backup.json /etc/cron.d/postgresql-backup"
    before = {name: host.check_output(kept) for name, host in hosts.items()}
    code, output = play("../molecule/postgresql_backup/converge", postgresql_backup_port=5433)
    assert code != 0
    assert (
        "no PostgreSQL lets the superuser in at port 5433 (postgresql_backup_port); ports with a server here: 5432"
        in output
    )
    code, output = play("../molecule/postgresql_backup/converge", postgresql_backup_databases=["nowhere"])
    assert code != 0
    assert "port 5432 (postgresql_backup_port) has none of the databases that are to be backed up: nowhere" in output
    for name, host in hosts.items():
        assert host.check_output(kept) == before[name]
        assert host.run("%s check", PROGRAM).rc == 0


def test_the_playbook_restore_does_not_take_a_list_for_a_restore(hosts):
    for variables in ({"restore_confirm": "shop"}, {"restore_file": "shop-20270101T021700Z.dump"}):
        code, output = play("restore", **variables)
        assert (
            code != 0
            and "Nothing has changed: restore_confirm, restore_file and restore_from need restore_database" in output
        )
    code, output = play("restore")
    assert code == 0, output


def test_the_playbook_backup_makes_backups_and_reports(hosts):
    before = {name: dumps(host) for name, host in hosts.items()}
    next_second()
    code, output = play("backup", "--check")
    assert code == 0, output
    assert "would back up shop" in output
    assert {name: dumps(host) for name, host in hosts.items()} == before
    code, output = play("backup", backup_databases="shop")
    assert code == 0, output
    assert "3 tables restored from it" in output
    assert all(len(dumps(host)) == len(before[name]) + 1 for name, host in hosts.items())


def test_the_playbook_backup_fails_when_a_backup_fails(hosts):
    code, output = play("backup", limit="debian13", backup_databases="forum, blog")
    assert code != 0
    assert "forum: there is no such database" in output
    assert "blog: blog-" in output


def test_the_playbook_restore_lists_what_there_is(hosts):
    code, output = play("restore")
    assert code == 0, output
    for host in hosts.values():
        assert dumps(host)[-1] in output


@pytest.mark.parametrize("name", ["debian12", "debian13"])
def test_the_playbook_restore_brings_deleted_rows_back(hosts, name):
    host = hosts[name]
    next_second()
    assert backup(host, "run").rc == 0
    expected = as_application(host, "SELECT count(*), sum(total) FROM sales.purchase").stdout
    assert (
        as_application(host, "TRUNCATE customer, sales.purchase; INSERT INTO customer (name) VALUES ('after')").rc == 0
    )
    held = (
        "PGPASSWORD=shop-password psql -h /var/run/postgresql -U shop -c 'SELECT pg_sleep(60)' shop >/run/held 2>&1 &"
    )
    host.check_output(f"sh -c {json.dumps(held)}")
    before = databases(host)

    code, output = play("restore", limit=name, restore_database="shop")
    assert code != 0
    assert "Nothing has changed. This would restore shop from shop-" in output
    code, output = play("restore", "--check", limit=name, restore_database="shop", restore_confirm="shop")
    assert code == 0, output
    assert as_application(host, "SELECT name FROM customer").stdout.strip() == "after"
    assert databases(host) == before

    code, output = play("restore", limit=name, restore_database="shop", restore_confirm="shop")
    assert code == 0, output
    assert as_application(host, "SELECT count(*), sum(total) FROM sales.purchase").stdout == expected
    assert "terminating connection" in host.check_output("cat /run/held")
    # The application goes on as the owner of everything, with its settings, its extension and no more rights than before.
    work = """
        INSERT INTO customer (name) VALUES ('new'); ALTER TABLE sales.purchase ADD COLUMN paid boolean;
        REFRESH MATERIALIZED VIEW best; DELETE FROM sales.purchase WHERE note % 'x';
        ALTER TABLE sales.purchase DROP COLUMN paid; CREATE TABLE t (i int); DROP TABLE t;
        SELECT current_setting('timezone'), current_setting('work_mem'), current_setting('search_path')"""
    done = as_application(host, work)
    assert done.stdout.strip() == 'Europe/Berlin|5MB|"$user", public, sales', done.stderr
    owners = superuser(
        host, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'sales')", "shop"
    )
    assert owners == "shop"
    assert superuser(host, "SELECT has_table_privilege('blog', 'customer', 'SELECT')", "shop") == "t"
    for role, privilege, expected_answer in (
        ("shop", "CONNECT", "t"),
        ("blog", "CONNECT", "f"),
        ("blog", "TEMPORARY", "t"),
    ):
        assert superuser(host, f"SELECT has_database_privilege('{role}', 'shop', '{privilege}')") == expected_answer
    # What was there before is kept, for the superuser alone.
    (kept,) = set(databases(host)) - set(before)
    assert re.fullmatch(r"shop_before_restore_\d{14}", kept)
    assert kept in output
    assert superuser(host, "SELECT name FROM customer", kept) == "after"
    assert as_application(host, "SELECT 1", database=kept).rc != 0
    superuser(host, f'DROP DATABASE "{kept}"')
    assert nothing_is_left_over(host)


@pytest.mark.on("debian12")
def test_an_older_backup_can_be_restored_by_its_name(host):
    assert as_application(host, "INSERT INTO post VALUES ('second')", "blog").rc == 0
    older = dumps(host, "blog")[-1]
    next_second()
    assert backup(host, "run", "blog").rc == 0
    result = host.run("%s restore blog --file %s --json", PROGRAM, older)
    assert result.rc == 0, result.stderr
    assert "second" not in as_application(host, "SELECT text FROM post", "blog").stdout
    result = host.run("%s restore blog", PROGRAM)
    assert result.rc == 0, result.stderr
    assert "second" in as_application(host, "SELECT text FROM post", "blog").stdout
    for name in databases(host):
        if "_before_restore_" in name:
            superuser(host, f'DROP DATABASE "{name}"')


def test_a_database_that_is_gone_comes_back(host):
    next_second()
    assert backup(host, "run", "blog").rc == 0
    superuser(host, "DROP DATABASE blog")
    result = host.run("%s restore blog", PROGRAM)
    assert result.rc == 0, result.stderr
    assert as_application(host, "INSERT INTO post VALUES ('third') RETURNING text", "blog").stdout.strip() == "third"
    assert superuser(host, "SELECT has_database_privilege('shop', 'blog', 'CONNECT')") == "f"


def test_a_backup_of_another_database_goes_to_the_new_owner_where_it_is_named(host):
    """An application gets another name: all that was its role's is the new one's, and nothing of it acts as anybody else."""
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname IN ('shop', 'store')"
    superuser(host, "CREATE ROLE store LOGIN")
    superuser(host, "CREATE DATABASE store OWNER store")
    superuser(host, "REVOKE ALL ON DATABASE store FROM PUBLIC")
    assert as_application(host, ATTACK + "CREATE VIEW seen AS SELECT 1").rc == 0
    superuser(host, "CREATE ROLE report; ALTER VIEW seen OWNER TO report", "shop")
    superuser(host, "ALTER ROLE shop IN DATABASE shop SET log_statement = 'all'")
    before = superuser(host, "SELECT count(*) FROM customer", "shop")
    next_second()
    assert backup(host, "run", "shop").rc == 0
    restore = f"{PROGRAM} restore store"
    try:
        for more, words in (
            (f"--file {dumps(host)[-1]}", "is a backup of shop, not of store: --from if that is meant"),
            ("--from forum", "there is no backup of forum"),
            ("--from shop", "what the roles report have in the backup would belong to store"),
        ):
            refused = host.run(f"{restore} {more}")
            assert refused.rc == 1 and words in refused.stderr, refused.stderr
        refused = host.run(f"{PROGRAM} restore shelf --from shop")
        assert refused.rc == 1 and "shelf does not exist: the playbook site makes it" in refused.stderr
        done = host.run(f"{restore} --from shop --owner-takes-all")
        assert done.rc == 0, done.stderr
        assert "the setting log_statement was not taken over" in done.stdout
        assert superuser(host, "SELECT count(*) FROM customer", "store") == before != "0"
        assert superuser(host, "SELECT count(*) FROM customer", "shop") == before
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'sales')"
        assert superuser(host, owners, "store") == "store"
        assert superuser(host, "SELECT defaclrole::regrole FROM pg_default_acl", "store") == "store"
        settings = "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'store'"
        assert superuser(host, f"{settings} AND setrole = 'store'::regrole") == "{work_mem=5MB}"
        assert superuser(host, f"{settings} AND setrole = 'shop'::regrole") == ""
        assert "TimeZone=Europe/Berlin" in superuser(host, f"{settings} AND setrole = 0")
        assert superuser(host, is_superuser).split() == ["f", "f"]
        assert as_application(host, "SELECT 1", "shop", "store").rc != 0
    finally:
        for name in databases(host):
            if name == "store" or "_before_restore_" in name:
                superuser(host, f'DROP DATABASE "{name}" WITH (FORCE)')
        superuser(host, "ALTER VIEW seen OWNER TO shop; DROP ROLE store, report", "shop")
        superuser(host, "ALTER ROLE shop IN DATABASE shop RESET log_statement")
        as_application(host, "DROP VIEW seen; DROP TABLE attack; DROP FUNCTION honest")
        next_second()
        backup(host, "run", "shop")
    assert nothing_is_left_over(host)


@pytest.mark.on("debian13")
def test_a_damaged_or_wrong_backup_is_refused_before_anything_changes(host):
    good = dumps(host)[-1]
    before = databases(host)
    host.check_output("cd %s && cp -p %s damaged.dump && cp -p %s.json damaged.dump.json", DIRECTORY, good, good)
    host.check_output("printf XX | dd of=%s/damaged.dump bs=1 seek=60000 conv=notrunc status=none", DIRECTORY)
    try:
        for arguments, message in (
            ("shop --file damaged.dump", "is damaged: its checksum is not that of its manifest"),
            (f"blog --file {good}", "is a backup of shop, not of blog"),
            ("shop --file no-such.dump", "does not exist"),
            ("forum", "there is no backup of forum"),
            ("postgres", "is not a database to restore"),
        ):
            refused = host.run(f"{PROGRAM} restore {arguments}")
            assert refused.rc == 1
            assert message in refused.stderr
        # Without its manifest nobody knows the checksum: restoring it is what finds the damage.
        host.check_output("rm %s/damaged.dump.json", DIRECTORY)
        refused = host.run("%s restore shop --file damaged.dump", PROGRAM)
        assert refused.rc == 1
        assert "pg_restore failed" in refused.stderr
    finally:
        host.check_output("rm -f %s/damaged.dump*", DIRECTORY)
    assert databases(host) == before
    assert as_application(host, "SELECT count(*) > 0 FROM customer").stdout.strip() == "t"
    assert nothing_is_left_over(host)


def test_a_restore_for_several_hosts_at_once_is_refused():
    code, output = play("restore", restore_database="shop", restore_confirm="shop")
    assert code != 0
    assert "A restore is for one database server; debian12, debian13 are meant" in output


def test_a_restore_leaves_nothing_for_the_roles_to_put_right(hosts):
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(SCENARIO / "converge.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.findall(r"changed=(\d+)", done.stdout) == ["0"] * len(hosts), done.stdout
