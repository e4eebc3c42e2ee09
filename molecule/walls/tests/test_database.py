"""What a database role, a dump or a manifest can do to the superuser, to backups and to the other roles: nothing."""

from __future__ import annotations

import json
import re
import time

import play
import pytest

PROGRAM = "/usr/local/sbin/postgresql-backup"
DIRECTORY = "/var/backups/postgresql"
CONFIG = "/etc/postgresql-backup.json"
MARK = "/var/tmp/raided"
# Without them the tests themselves would fall into what they set up.
PINS = (
    "-c search_path=pg_catalog -c local_preload_libraries= -c role=none -c statement_timeout=0 -c idle_session_timeout=0"
    " -c default_transaction_read_only=off"
)
# A list without a space is a search_path to PostgreSQL, and SQL or a command of psql where somebody pastes it.
AS_SQL = "public;ALTER/**/ROLE/**/raider/**/SUPERUSER;--"
AS_COMMAND = "public;\\! ,;touch${IFS}" + MARK + ";#"
# An operator that is found before PostgreSQL's own, wherever search_path says so.
HIJACK = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.equal(name, name) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  BEGIN EXECUTE 'ALTER ROLE raider SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN $1::pg_catalog.text OPERATOR(pg_catalog.=) $2::pg_catalog.text;
END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = name, RIGHTARG = name);
ALTER DATABASE raider SET search_path = evil, pg_catalog, public;
"""
# Code in a dump: it runs where the dump is restored, tries to become more, and leaves a note of what it was.
CODE = r"""
CREATE TABLE seen (what text);
CREATE FUNCTION try() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE statement text;
BEGIN
  FOREACH statement IN ARRAY ARRAY['RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE raider', 'SET ROLE postgres',
    'SET SESSION AUTHORIZATION postgres', 'ALTER ROLE raider SUPERUSER', 'CREATE ROLE raided SUPERUSER',
    'ALTER DATABASE postgres SET search_path = x', 'GRANT postgres TO raider', 'ALTER ROLE CURRENT_USER SUPERUSER']
  LOOP
    BEGIN EXECUTE statement; EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
  INSERT INTO public.seen SELECT 'member of ' || rolname FROM pg_roles
    WHERE rolname IN ('postgres', 'raider') AND session_user NOT LIKE 'raider%' AND pg_has_role(session_user, oid, 'MEMBER');
  INSERT INTO public.seen VALUES ('ran as ' || session_user);
  RETURN true;
END $$;
CREATE TABLE trap (i int CHECK (public.try()));
CREATE INDEX trapped ON trap ((CASE WHEN public.try_again() THEN i ELSE i END));
INSERT INTO trap VALUES (1);
"""
AGAIN = """
CREATE FUNCTION try_again() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
  'BEGIN
     BEGIN EXECUTE ''RESET ROLE''; EXECUTE ''ALTER ROLE raider SUPERUSER''; EXCEPTION WHEN OTHERS THEN NULL; END;
     RETURN true;
   END';
"""


def superuser(host, query, database="postgres", pins=PINS):
    return host.check_output(
        "runuser -u postgres -- env PGOPTIONS=%s psql -XAtq -v ON_ERROR_STOP=1 -d %s -c %s", pins, database, query
    )


def nothing_was_taken(host):
    assert superuser(host, "SELECT rolname FROM pg_roles WHERE rolsuper") == "postgres"
    assert not host.file(MARK).exists
    return True


def meanwhile(host, sql):
    """Statements of the raider in a session of their own, which go on behind the test."""
    host.check_output(f'sh -c \'psql -d "{play.database_url(host, "raider")}" -c "{sql}" >/dev/null 2>&1 &\'')


def backup(host, *arguments, limit=120):
    return host.run(f"timeout --kill-after=5 {limit} {PROGRAM} " + " ".join(arguments))


def make_site(**changes):
    """What an administrator runs once a week; the tests change the description of the raider."""
    return play.Play("../molecule/walls/converge", changes=changes).end()


@pytest.fixture
def raider(host, as_role):
    """The database of the raider, empty before and after."""

    def clean():
        host.run("rm -f %s", MARK)
        superuser(host, "ALTER ROLE raider NOSUPERUSER NOCREATEROLE; DROP ROLE IF EXISTS raided")
        for name in superuser(host, "SELECT datname FROM pg_database WHERE datname ~ '_before_restore_'").split():
            superuser(host, f'DROP DATABASE "{name}" WITH (FORCE)')
        superuser(host, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'raider'")
        superuser(host, "ALTER DATABASE raider RESET ALL")
        superuser(host, "ALTER ROLE raider IN DATABASE raider RESET ALL")
        superuser(
            host,
            "DROP SCHEMA IF EXISTS evil, public CASCADE; DROP OWNED BY raider CASCADE; CREATE SCHEMA public",
            "raider",
        )
        superuser(
            host, "ALTER SCHEMA public OWNER TO pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC", "raider"
        )
        superuser(host, "GRANT ALL ON DATABASE raider TO raider")

    clean()
    yield lambda sql: as_role(host, sql)
    clean()


@pytest.fixture
def config(host):
    before = host.check_output("cat %s", CONFIG)

    def change(**values):
        host.check_output("printf %%s %s >%s", json.dumps({**json.loads(before), **values}), CONFIG)

    yield change
    host.check_output("printf '%%s\n' %s >%s", before, CONFIG)


@pytest.mark.parametrize("value", [AS_SQL, AS_COMMAND])
def test_a_setting_of_a_database_is_data_to_a_restore(host, raider, value):
    attack = (
        f"SELECT set_config('search_path', $x${value}$x$, false); ALTER DATABASE raider SET search_path FROM CURRENT;"
    )
    assert raider(f"CREATE TABLE public.t (i int); {attack}").rc == 0
    assert backup(host, "run raider").rc == 0
    result = backup(host, "restore raider")
    assert nothing_was_taken(host)
    assert result.rc == 0, result.stderr
    # Whatever it was, the application finds it again.
    assert raider("SHOW search_path").stdout.startswith(("public;", '"public;'))


def test_a_manifest_is_data_to_a_restore(host, raider):
    assert raider("CREATE TABLE public.t (i int)").rc == 0
    made = json.loads(backup(host, "run raider --json").stdout)["raider"]["file"]
    manifest = json.loads(host.check_output("cat %s/%s.json", DIRECTORY, made))
    hostile = 'x"; ALTER ROLE raider SUPERUSER; --'
    manifest["settings"] = [
        [None, [f"search_path={AS_SQL}", f"search_path={AS_COMMAND}", f"temp_tablespaces={AS_SQL}", "log_statement=all",
                f"{hostile}=1", "session_preload_libraries=/var/tmp/evil.so"]],
        [hostile, ["work_mem=1MB"]],
    ]  # fmt: skip
    manifest["grants"] = [
        ["raider", "CONNECT ON DATABASE vivarium_scratch TO raider; ALTER ROLE raider SUPERUSER; --", False],
        [hostile, "CONNECT", False],
    ]
    manifest["extensions"] = [["plpgsql", hostile], [hostile, "public"]]
    host.check_output("printf %%s %s >%s/%s.json", json.dumps(manifest), DIRECTORY, made)
    superuser(host, "DROP DATABASE raider WITH (FORCE)")
    result = backup(host, "restore raider")
    try:
        assert nothing_was_taken(host)
        settings = superuser(host, "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON setdatabase = d.oid")
        assert "evil.so" not in settings and "log_statement" not in settings
    finally:
        host.run("rm -f %s/%s*", DIRECTORY, made)
        if superuser(host, "SELECT count(*) FROM pg_database WHERE datname = 'raider'") == "0":
            superuser(host, "CREATE DATABASE raider OWNER raider TEMPLATE template0")
            superuser(host, "REVOKE ALL ON DATABASE raider FROM PUBLIC")
    assert result.rc == 0, result.stderr


def test_a_manifest_names_no_file_elsewhere(host, raider):
    assert raider("CREATE TABLE public.t (i int)").rc == 0
    host.check_output("install -o postgres -m 600 /dev/null /var/lib/postgresql/precious")
    evil = {
        "database": "raider",
        "file": "../../lib/postgresql/precious",
        "size": 0,
        "taken": "2020-01-01T00:00:00+00:00",
    }
    for number in range(12):
        evil["taken"] = f"2020-01-{number + 1:02}T00:00:00+00:00"
        host.check_output("printf %%s %s >%s/evil-%s.json", json.dumps(evil), DIRECTORY, str(number))
    assert backup(host, "run raider").rc == 0
    host.run("rm -f %s/evil-*.json", DIRECTORY)
    assert host.run("rm /var/lib/postgresql/precious").rc == 0


def test_a_dump_that_was_tampered_with_is_not_read_by_the_superuser(host, raider):
    name = "a" * 60
    assert raider(f"CREATE SCHEMA {name}; CREATE TABLE {name}.t (i int)").rc == 0
    made = json.loads(backup(host, "run raider --json").stdout)["raider"]["file"]
    before = f"CREATE SCHEMA {name};"
    after = "ALTER ROLE raider SUPERUSER;CREATE SCHEMA " + "a" * (len(before) - 43) + ";"
    assert len(before) == len(after)
    host.check_output("cp %s/%s /var/tmp/t.dump && chmod 644 /var/tmp/t.dump", DIRECTORY, made)
    assert host.check_output("grep -c --text %s /var/tmp/t.dump", before)
    host.check_output("sed -i %s /var/tmp/t.dump", f"s/{before}/{after}/")
    assert host.run("grep -q --text %s /var/tmp/t.dump", after).rc == 0
    result = backup(host, "restore raider --file /var/tmp/t.dump")
    host.run("rm -f /var/tmp/t.dump %s/%s*", DIRECTORY, made)
    assert "restore" in result.stdout + result.stderr
    assert nothing_was_taken(host)


def test_code_in_a_dump_is_nobody_where_it_is_restored(host, raider):
    assert raider(AGAIN + CODE).rc == 0
    assert backup(host, "run raider").rc == 0
    result = backup(host, "restore raider")
    assert result.rc == 0, result.stderr
    assert nothing_was_taken(host)
    seen = raider("SELECT DISTINCT what FROM seen").stdout.split("\n")
    assert "ran as vivarium_scratch" in seen
    assert not [line for line in seen if line.startswith("member of")]
    # Nothing is left of the role that it was.
    assert superuser(host, "SELECT count(*) FROM pg_roles WHERE rolname = 'vivarium_scratch'") == "0"
    assert raider("ALTER TABLE trap ADD j int; DROP TABLE seen, trap; DROP FUNCTION try, try_again").rc == 0


def test_an_operator_of_an_application_is_not_the_superusers(hosts, as_role):
    for host in hosts.values():
        superuser(host, "DROP SCHEMA IF EXISTS evil CASCADE", "raider")
        done = as_role(host, "DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public;" + HIJACK)
        assert done.rc == 0, done.stderr
    try:
        deployed = make_site(raider={"database_extensions": ["pg_trgm", "unaccent"]})
        for host in hosts.values():
            assert nothing_was_taken(host)
        assert deployed.process.returncode == 0, deployed.output
        for host in hosts.values():
            assert (
                superuser(host, "SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'unaccent')", "raider")
                == "2"
            )
            assert backup(host, "run raider").rc == 0
            assert nothing_was_taken(host)
    finally:
        for host in hosts.values():
            superuser(host, "ALTER ROLE raider NOSUPERUSER")
            superuser(host, "ALTER DATABASE raider RESET ALL")
            superuser(
                host, "DROP SCHEMA IF EXISTS evil CASCADE; DROP EXTENSION IF EXISTS pg_trgm, unaccent CASCADE", "raider"
            )


def test_no_setting_of_an_application_keeps_the_administrator_out(hosts, as_role):
    later = {"debian13": "ALTER DATABASE raider SET transaction_timeout = '1ms';"}
    for name, host in hosts.items():
        assert as_role(host, later.get(name, "") + """
            ALTER DATABASE raider SET statement_timeout = '1ms'; ALTER DATABASE raider SET role = 'raider';
            ALTER DATABASE raider SET default_transaction_read_only = on; ALTER DATABASE raider SET client_encoding = 'LATIN1';
            ALTER DATABASE raider SET session_authorization = 'raider'; ALTER DATABASE raider SET idle_session_timeout = '1ms';
            ALTER DATABASE raider SET local_preload_libraries = 'no_such_library';""").rc == 0  # fmt: skip
    try:
        deployed = make_site(raider={"database_extensions": ["unaccent"]})
        for name, host in hosts.items():
            assert backup(host, "run raider").rc == 0
            pins = PINS + (" -c transaction_timeout=0" if name in later else "")
            assert (
                superuser(host, "SELECT count(*) FROM pg_extension WHERE extname = 'unaccent'", "raider", pins) == "1"
            )
            assert backup(host, "restore raider").rc == 0
        assert deployed.process.returncode == 0, deployed.output
    finally:
        for host in hosts.values():
            superuser(host, "ALTER DATABASE raider RESET ALL")
            superuser(host, "DROP EXTENSION IF EXISTS unaccent", "raider")


def test_an_owner_who_refuses_a_change_holds_nothing_of_the_others_up(hosts, as_role):
    """By names that an extension needs, an open transaction, a database that lets nobody in: the run tells at its end."""
    for host in hosts.values():
        superuser(host, "GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        assert as_role(host, """
            CREATE FUNCTION public.unaccent(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
            SET ROLE NONE; ALTER ROLE CURRENT_USER SET work_mem = '1MB'""").rc == 0  # fmt: skip
        meanwhile(host, "SET ROLE NONE; BEGIN; ALTER ROLE CURRENT_USER SET work_mem = 65; SELECT pg_sleep(150)")
    try:
        said = make_site(raider={"database_extensions": ["unaccent"]})
        assert said.process.returncode != 0
        recap = said.output.rpartition("PLAY RECAP")[0]
        assert "PostgreSQL refused a change" in recap.rpartition("TASK [")[2], said.output
        assert "the extension unaccent in the database raider: function" in said.output
        assert "the role raider-" in said.output
        for host in hosts.values():
            superuser(host, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'raider'")
            acl = "SELECT aclexplode(datacl) AS entry FROM pg_database WHERE datname = 'postgres'"
            assert superuser(host, f"SELECT count(*) FROM ({acl}) AS acl WHERE (entry).grantee = 0") == "0"
            superuser(host, "ALTER DATABASE raider ALLOW_CONNECTIONS false")
        said = make_site(raider={"database_extensions": ["unaccent"]})
        assert "the database raider: it does not answer the superuser" in " ".join(said.output.split())
        assert "PostgreSQL refused a change" in said.output.rpartition("PLAY RECAP")[0].rpartition("TASK [")[2], (
            said.output
        )
    finally:
        for host in hosts.values():
            superuser(host, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'raider'")
            superuser(host, "ALTER DATABASE raider ALLOW_CONNECTIONS true; ALTER ROLE raider RESET ALL")
            superuser(host, "DROP FUNCTION IF EXISTS public.unaccent(text)", "raider")
    assert make_site().process.returncode == 0


NAMES = """
CREATE SCHEMA "x
\\! touch {mark}
; ALTER ROLE raider SUPERUSER; --";
CREATE EXTENSION unaccent SCHEMA "x
\\! touch {mark}
; ALTER ROLE raider SUPERUSER; --";
CREATE TABLE public."1; 3079 1 EXTENSION - plpython3u
2; 2615 16400 SCHEMA - $(touch {mark}) \\! touch {mark}" (i int, "a""b\\!" text DEFAULT E'\n\\! touch {mark}\n');
INSERT INTO public."1; 3079 1 EXTENSION - plpython3u
2; 2615 16400 SCHEMA - $(touch {mark}) \\! touch {mark}" VALUES (1);
COMMENT ON SCHEMA public IS E'x\n\\! touch {mark}\n; ALTER ROLE raider SUPERUSER;';
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
"""


def test_names_are_names(host, raider):
    assert raider(NAMES.format(mark=MARK)).rc == 0
    assert backup(host, "run raider").rc == 0
    result = backup(host, "restore raider")
    assert result.rc == 0, result.stderr
    assert nothing_was_taken(host)
    assert superuser(host, "SELECT count(*) FROM pg_class WHERE relname ~ 'plpython3u.*touch'", "raider") == "1"
    assert raider("SELECT count(*) FROM pg_default_acl").stdout.strip() == "1"


SLEEPER = """
CREATE FUNCTION sleep() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  IF session_user LIKE 'raider%' THEN RETURN true; END IF;
  LOOP
    BEGIN PERFORM pg_catalog.pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END;
  END LOOP;
END $$;
CREATE TABLE trap (i int CHECK (public.sleep()));
INSERT INTO trap VALUES (1);
"""


def test_a_proof_that_never_ends_costs_its_own_database_alone(host, raider, config):
    superuser(host, "DROP DATABASE IF EXISTS other")
    superuser(host, "CREATE DATABASE other")
    superuser(host, "CREATE TABLE public.t (i int)", "other")
    config(databases=["raider", "other"], timeouts={"raider": 8})
    try:
        assert raider(SLEEPER).rc == 0
        result = backup(host, "run --json", limit=60)
        assert result.rc == 1, result.stderr
        said = json.loads(result.stdout)
        assert "error" not in said["other"]
        assert "raider" in result.stderr and "postgresql_backup_timeouts" in result.stderr
        # The dump is there, and says that nobody has proven it.
        assert host.check_output("ls %s/%s", DIRECTORY, said["raider"]["unproven"])
        assert "UNPROVEN" in host.check_output("%s list raider", PROGRAM)
        assert said["raider"]["unproven"] not in backup(host, "restore raider --dry-run").stdout.split("\n")[0]
        # Nothing of it runs on.
        assert superuser(host, "SELECT count(*) FROM pg_stat_activity WHERE usename ~ '^vivarium_scratch'") == "0"
        assert superuser(host, "SELECT count(*) FROM pg_database WHERE datname ~ '^vivarium_scratch'") == "0"
        for _ in range(4):
            assert backup(host, "run raider", limit=60).rc == 1
        kept = host.check_output("ls %s | grep -c unproven$", DIRECTORY)
        assert kept == "3"
        assert host.run("ls %s/%s", DIRECTORY, said["raider"]["unproven"]).rc == 0, "the first of them is gone"
        raider("DROP TABLE trap")
        assert backup(host, "run raider", limit=60).rc == 0
        assert host.run("ls %s | grep unproven", DIRECTORY).stdout == ""
    finally:
        superuser(host, "DROP DATABASE other WITH (FORCE)")
        host.run("rm -f %s/other-*", DIRECTORY)


# PostgreSQL looks for a signal between the rows of a query, not within a search in a text.
DEAF = """
CREATE FUNCTION search() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  -- In one expression with the search it would not help: PostgreSQL computes what is constant when it makes a plan.
  IF session_user LIKE 'raider%' THEN RETURN true; END IF;
  RETURN pg_catalog.strpos(pg_catalog.repeat('a', 100000000), 'b' || pg_catalog.repeat('a', 20000)) = 0;
END $$;
CREATE TABLE trap (i int CHECK (public.search()));
INSERT INTO trap VALUES (1);
"""
# The same, in pieces; between them it ends whoever else is its role. Functions in C alone: a query would be interrupted.
OTHERS = " AND ".join(
    f"(CASE WHEN pg_stat_get_backend_userid({number}) = mine AND pg_stat_get_backend_pid({number}) <> me"
    f" THEN pg_terminate_backend(pg_stat_get_backend_pid({number})) ELSE true END) IS NOT NULL"
    for number in range(1, 17)
)
KILLER = f"""
CREATE FUNCTION search() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE hay text := repeat('a', 1500000); needle text := 'b' || repeat('a', 7000);
  me int := pg_backend_pid(); mine oid; ok boolean;
BEGIN
  IF session_user LIKE 'raider%' THEN RETURN true; END IF;
  SELECT oid INTO mine FROM pg_roles WHERE rolname = session_user;
  ok := {" AND ".join([f"(strpos(hay, needle) = 0 AND pg_stat_clear_snapshot() IS NOT NULL AND {OTHERS})"] * 24)};
  RETURN true;
END $$;
CREATE TABLE trap (i int CHECK (public.search()));
INSERT INTO trap VALUES (1);
"""
# Stands for a database that is large.
LONG = """
CREATE FUNCTION public.nap() RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN IF session_user <> ''postgres'' THEN PERFORM pg_sleep(12); END IF; RETURN true; END';
CREATE TABLE public.t (i int CHECK (public.nap())); INSERT INTO public.t VALUES (1);
"""


@pytest.fixture
def deaf(host):
    """The server processes of the scratch roles; in the end nothing but kill -9 helps, and the server recovers from that."""

    def there():
        query = "SELECT pid FROM pg_stat_activity WHERE usename ~ '^vivarium_scratch' OR datname ~ '^vivarium_scratch'"
        return superuser(host, query).split()

    yield there
    for pid in there():
        host.run("kill -9 %s", pid)
    deadline = time.monotonic() + 60
    while host.run("runuser -u postgres -- psql -XAtqc 'SELECT 1'").rc and time.monotonic() < deadline:
        time.sleep(1)


@pytest.fixture
def other(host, config):
    """A second database, whose backup comes after that of the raider, which has eight seconds."""
    superuser(host, "DROP DATABASE IF EXISTS other")
    superuser(host, "CREATE DATABASE other")
    config(databases=["raider", "other"], timeouts={"raider": 8})
    yield lambda sql: superuser(host, sql, "other")
    superuser(host, "DROP DATABASE other WITH (FORCE)")
    host.run("rm -f %s/other-*", DIRECTORY)


@pytest.mark.on("debian13")
def test_a_proof_that_cannot_be_ended_costs_its_own_database_alone(host, other, raider, deaf):
    other("CREATE TABLE public.t (i int)")
    assert raider(DEAF).rc == 0
    for number in range(2):
        said = json.loads(backup(host, "run --json", limit=240).stdout)
        assert "error" not in said["other"], said
        assert "error" in said["raider"] and "unproven" in said["raider"], said
        assert len(deaf()) == 1, "it has ended; the test shows nothing"
        assert number == 0 or "the server cannot interrupt it" in said["raider"]["error"], said
    assert raider("DROP TABLE trap").rc == 0
    host.check_output("kill -9 %s", deaf()[0])
    deadline = time.monotonic() + 60
    while (result := backup(host, "run")).rc and time.monotonic() < deadline:
        time.sleep(1)
    assert result.rc == 0, result.stderr
    assert superuser(host, "SELECT count(*) FROM pg_database WHERE datname ~ '^vivarium_scratch'") == "0"
    assert superuser(host, "SELECT count(*) FROM pg_roles WHERE rolname ~ '^vivarium_scratch'") == "0"


@pytest.mark.on("debian13")
def test_a_proof_that_cannot_be_ended_does_not_end_the_others(host, other, raider, deaf):
    other(LONG)
    assert raider(KILLER).rc == 0
    said = json.loads(backup(host, "run --json", limit=240).stdout)
    assert "error" in said["raider"], said
    assert len(deaf()) == 1, "it has ended; the test shows nothing"
    assert "error" not in said["other"], said


def test_settings_without_end_cost_their_own_database_alone(host, raider):
    """A manifest that nobody can read would be a dump that never goes."""
    attack = "SELECT set_config('search_path', repeat('a,', 3000000) || 'a', false);"
    attack += "ALTER DATABASE raider SET search_path FROM CURRENT"
    before = host.check_output("ls %s", DIRECTORY)
    assert raider(attack).rc == 0
    result = backup(host, "run raider")
    assert result.rc == 1
    assert "take more than a megabyte" in result.stderr
    assert host.check_output("ls %s", DIRECTORY) == before


def test_a_grant_to_the_role_that_restores_stops_no_backup(host, raider):
    """Whoever sees the role while it exists can make it impossible to drop."""
    superuser(host, "CREATE ROLE vivarium_scratch LOGIN")
    assert raider("""
        CREATE TABLE public.t (i int); GRANT SELECT ON public.t TO vivarium_scratch;
        GRANT CONNECT ON DATABASE raider TO vivarium_scratch;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO vivarium_scratch""").rc == 0  # fmt: skip
    # In a transaction that does not end, too.
    meanwhile(
        host, "BEGIN; CREATE TABLE public.u (i int); GRANT SELECT ON public.u TO vivarium_scratch; SELECT pg_sleep(40)"
    )
    for _ in range(2):
        result = backup(host, "run raider")
        assert result.rc == 0, result.stderr
    superuser(host, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'raider'")
    assert backup(host, "run raider").rc == 0
    assert backup(host, "restore raider").rc == 0
    assert superuser(host, "SELECT count(*) FROM pg_roles WHERE rolname ~ '^vivarium_scratch'") == "0"


def test_words_of_an_application_reach_no_terminal_as_commands(host, raider):
    assert raider("""
        CREATE FUNCTION say() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
          IF session_user NOT LIKE 'raider%' THEN RAISE EXCEPTION E'\\x1b]0;raided\\x07\\x1b[2J'; END IF; RETURN true; END $$;
        CREATE TABLE trap (i int CHECK (public.say())); INSERT INTO trap VALUES (1)""").rc == 0  # fmt: skip
    result = backup(host, "run raider")
    assert result.rc == 1
    assert "raided" in result.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.stderr + result.stdout)
    host.run("rm -f %s/*unproven*", DIRECTORY)


def test_newest_is_what_was_made_last_whatever_the_clock_said(host, raider):
    assert raider("CREATE TABLE public.t (i int)").rc == 0
    first = json.loads(backup(host, "run raider --json").stdout)["raider"]["file"]
    manifest = json.loads(host.check_output("cat %s/%s.json", DIRECTORY, first))
    host.check_output(
        "printf %%s %s >%s/%s.json", json.dumps({**manifest, "taken": "2099-01-01T00:00:00+00:00"}), DIRECTORY, first
    )
    second = json.loads(backup(host, "run raider --json").stdout)["raider"]["file"]
    assert first != second
    assert second in backup(host, "restore raider --dry-run").stdout
    host.run("rm -f %s/%s*", DIRECTORY, first)


def test_what_another_role_wrote_does_not_act_as_the_owner(host, raider):
    """A role that may look at reports has a function of its own, which answers with the rights of whoever owns it."""
    superuser(host, "DROP ROLE IF EXISTS report")
    superuser(host, "CREATE ROLE report")
    superuser(host, "GRANT CONNECT ON DATABASE raider TO report")
    as_report = "SET ROLE report; "
    try:
        assert raider("""
            CREATE TABLE public.secret (s text); INSERT INTO secret VALUES ('of the owner');
            CREATE SCHEMA reports; GRANT USAGE, CREATE ON SCHEMA reports TO report""").rc == 0  # fmt: skip
        superuser(host, as_report + """
            CREATE FUNCTION reports.any(q text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
              'DECLARE r text; BEGIN EXECUTE q INTO r; RETURN r; END'""", "raider")  # fmt: skip
        assert backup(host, "run raider").rc == 0
        for dry in (" --dry-run", ""):
            refused = backup(host, "restore raider" + dry)
            assert refused.rc == 1
            assert "what the roles report have in the backup" in refused.stderr
        ask = as_report + "SELECT reports.any('SELECT s FROM public.secret')"
        done = host.run("runuser -u postgres -- psql -XAtq -d raider -c %s", ask)
        assert "permission denied" in done.stderr
        result = backup(host, "restore raider --owner-takes-all")
        assert result.rc == 0, result.stderr
        assert raider("DROP FUNCTION reports.any; DROP SCHEMA reports; DROP TABLE secret").rc == 0
    finally:
        for name in superuser(host, "SELECT datname FROM pg_database WHERE datname ~ '^raider'").split():
            superuser(host, "DROP OWNED BY report CASCADE", name)
        superuser(host, "DROP ROLE report")


@pytest.mark.on("debian13")
def test_a_database_of_many_tables_is_proven(host, raider):
    """The server has locks for some 7,000 objects at a time."""
    assert raider("""
        SET client_min_messages = error;
        DO $$ BEGIN FOR i IN 1..1000 LOOP
          EXECUTE format('CREATE TABLE public.t%s (a int UNIQUE, b int UNIQUE, c int UNIQUE, d int UNIQUE, e int UNIQUE,
            f int UNIQUE, g int UNIQUE, h int UNIQUE, i int UNIQUE)', i);
          IF i % 100 = 0 THEN COMMIT; END IF;
        END LOOP; END $$""").rc == 0  # fmt: skip
    try:
        result = backup(host, "run raider")
        assert result.rc == 0, result.stderr
    finally:
        superuser(host, "DROP DATABASE raider WITH (FORCE)")
        superuser(host, "CREATE DATABASE raider OWNER raider TEMPLATE template0")
        superuser(host, "REVOKE ALL ON DATABASE raider FROM PUBLIC")


def test_a_server_that_takes_connections_and_says_nothing_ends_a_run(hosts):
    """Processes of the server are postgres' to stop."""
    stop = "runuser -u postgres -- sh -c 'kill -%s $(head -1 /var/lib/postgresql/*/main/postmaster.pid)'"
    for host in hosts.values():
        host.check_output(stop % "STOP")
    try:
        begun = time.monotonic()
        said = make_site()
        assert said.process.returncode != 0
        assert "PostgreSQL did not answer" in said.output and "timeout expired" in said.output
        assert time.monotonic() - begun < 240
    finally:
        for host in hosts.values():
            host.check_output(stop % "CONT")


TAKE = """
import psycopg2, sys
held = []
try:
    while len(held) < 500:
        held.append(psycopg2.connect("%s"))
except psycopg2.OperationalError as error:
    print(error)
print(len(held))
try:
    psycopg2.connect(host="/var/run/postgresql", dbname="neighbour", user="neighbour", password="neighbour").close()
    print("the neighbour gets in")
except psycopg2.OperationalError as error:
    print("neighbour:", error)
"""


def test_an_application_leaves_connections_for_the_others(host, as_user):
    superuser(host, "CREATE ROLE neighbour LOGIN PASSWORD 'neighbour'")
    superuser(host, "CREATE DATABASE neighbour OWNER neighbour")
    hba = host.check_output("ls /etc/postgresql/*/main/pg_hba.conf")
    host.check_output("cp -a %s /run/hba && echo 'local neighbour neighbour scram-sha-256' >>%s", hba, hba)
    superuser(host, "SELECT pg_reload_conf()")
    try:
        result = as_user(host, f"/usr/bin/python3 -c '{TAKE % play.database_url(host, 'raider')}'")
        assert "too many connections" in result.stdout or "remaining connection slots" in result.stdout, result.stdout
        assert "the neighbour gets in" in result.stdout, result.stdout
    finally:
        host.check_output("cp -a /run/hba %s", hba)
        superuser(host, "SELECT pg_reload_conf()")
        superuser(host, "DROP DATABASE neighbour WITH (FORCE)")
        superuser(host, "DROP ROLE neighbour")


def test_the_configuration_of_the_server_is_not_for_others(host, as_user):
    for path in ("/etc/postgresql", "/etc/postgresql/*/main/postgresql.conf", "/etc/postgresql/*/main/environment"):
        assert "Permission denied" in as_user(host, f"ls {path}/ 2>&1; cat {path} 2>&1").stdout
    modes = host.check_output("find /etc/postgresql -type f -printf '%m\n'").split()
    assert modes and set(modes) == {"640"}
    # Debian's psql looks for clusters there; an application's own works all the same.
    assert as_user(host, f"psql --version && psql -d '{play.database_url(host, 'raider')}' -c 'SELECT 1'").rc == 0
