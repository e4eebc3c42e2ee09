#!/usr/bin/python3
"""Back PostgreSQL's databases up, prove each backup by restoring it, and put one back.

    postgresql-backup run [DATABASE ...]          make backups now (cron does, every night)
    postgresql-backup list [DATABASE]             show what there is
    postgresql-backup restore DATABASE            put the newest backup in the database's place

A dump is written under a temporary name, restored into a scratch database, and renamed only if that worked: a file that ends in
.dump is proven. Beside each lies a .json file with its checksum and what the database was like.

Restoring runs code that lies in the dump (a CHECK constraint may call a function), so it is not done by the superuser: an
application that is able to plant code must not become the superuser by waiting for the night. A role of this program's own, which
exists only meanwhile, does it in the name of the database's owner; only schemas and extensions are made by the superuser.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import signal
import subprocess
import sys
import syslog
import tempfile
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

CONFIG = Path("/etc/postgresql-backup.json")
# The scratch database and the role that fills it. pg_hba.conf lets the role into this database, with its password.
SCRATCH = "vivarium_scratch"
BEFORE_RESTORE = "_before_restore_"
# The roles and their memberships, under a name that no database can have.
ROLES = "(roles)"
MEGABYTE = 1024 * 1024
LONGEST_NAME = 63
SWAP_SECONDS = 30
# The value of these is a list of quoted names already.
LIST_SETTINGS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}
# What the superuser's sessions are told: find no function but PostgreSQL's own, and log no statement with a password in it.
SESSION = " ".join(
    (
        "-c search_path=pg_catalog,pg_temp",
        "-c log_statement=none",
        "-c log_min_duration_statement=-1",
        "-c log_min_error_statement=panic",
    )
)


DATABASES = """
SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database
WHERE datallowconn AND NOT datistemplate AND datname <> :'scratch' AND position(:'before' IN datname) = 0;
"""
FACTS = """
SELECT json_build_object(
  'owner', pg_get_userbyid(datdba),
  'encoding', pg_encoding_to_char(encoding),
  'collate', datcollate,
  'ctype', datctype,
  'provider', datlocprovider,
  'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
  'connection_limit', datconnlimit,
  'grants', (
    SELECT coalesce(json_agg(json_build_array(
      CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable)), '[]')
    FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee <> datdba),
  'settings', (
    SELECT coalesce(json_agg(json_build_array(
      CASE setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(setrole) END, setconfig)), '[]')
    FROM pg_db_role_setting WHERE setdatabase = d.oid),
  'size', pg_database_size(d.oid))
FROM pg_database d WHERE datname = :'database';
"""
EXTENSION_TABLES = """
SELECT coalesce(json_agg(nspname || ' ' || relname), '[]')
FROM (SELECT unnest(extconfig) FROM pg_extension) AS e (id)
JOIN pg_class ON pg_class.oid = id JOIN pg_namespace ON pg_namespace.oid = relnamespace;
"""
DISCONNECT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :'database';"
SWAP = """
BEGIN;
ALTER DATABASE :"database" RENAME TO :"kept";
ALTER DATABASE :"scratch" RENAME TO :"database";
COMMIT;
"""


class BackupError(Exception):
    """Something failed; the message is for people and for the status file, the details for the journal and the mail alone."""

    def __init__(self, message, details=""):
        super().__init__(message)
        self.details = details


class Stopped(BaseException):
    """Somebody asked us to end; what is half done is still cleaned up."""


class Cluster:
    """The database server, spoken to as its superuser through the unix socket."""

    def __init__(self, port):
        self.port = str(port)

    def environment(self, **more):
        """The environment of every program: nobody's PG* variables, messages that do not depend on the locale."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, "LC_ALL": "C.UTF-8", "PGPORT": self.port, "PGHOST": "/var/run/postgresql", **more}

    def run(self, *command, stdin=subprocess.DEVNULL, **environment):
        """Run one of PostgreSQL's programs and return what it printed."""
        try:
            done = subprocess.run(
                command,
                env=self.environment(**environment),
                stdin=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise BackupError(f"{command[0]} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            raise BackupError(f"{command[0]} failed ({ending(done.returncode)})", without_rows(done.stderr))
        return done.stdout

    def sql(self, statements, where="postgres", /, **variables):
        """Run SQL as the superuser, each statement on its own, and return what it printed. Statements say :'x' or :"x"."""
        with script(statements) as lines:
            done = subprocess.run(
                psql(where, **variables),
                env=self.environment(PGOPTIONS=SESSION),
                stdin=lines,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise BackupError(f"psql failed ({ending(done.returncode)})", without_rows(done.stderr))
        return done.stdout.strip()

    def databases(self):
        """Every database that somebody might miss."""
        return json.loads(self.sql(DATABASES, scratch=SCRATCH, before=BEFORE_RESTORE))

    def facts(self, database):
        """What CREATE DATABASE has to know to make one like it; None if it is not there."""
        answer = self.sql(FACTS, database=database)
        return json.loads(answer) if answer else None

    def is_superuser(self, role):
        """Whether the role is a superuser; None if there is no such role."""
        answer = self.sql("SELECT rolsuper FROM pg_authid WHERE rolname = :'role';", role=role)
        return {"t": True, "f": False}.get(answer)

    def clean(self):
        """Remove the scratch database and its role, which a run that was killed leaves behind."""
        self.sql('DROP DATABASE IF EXISTS :"scratch" WITH (FORCE); DROP ROLE IF EXISTS :"scratch";', scratch=SCRATCH)

    @contextlib.contextmanager
    def restored(self, dump, facts, superuser):
        """Restore a dump into the scratch database, which is gone again afterwards unless somebody renamed it."""
        self.clean()
        try:
            self.make(SCRATCH, facts)
            self.fill(dump, facts["owner"], superuser)
            yield
        finally:
            self.clean()

    def make(self, database, facts):
        """Make an empty database like the one that the facts describe; only the superuser may connect to it yet."""
        provider = {
            "i": f"LOCALE_PROVIDER icu ICU_LOCALE {literal(facts['locale'] or '')}",
            "b": f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(facts['locale'] or '')}",
        }.get(facts["provider"], "LOCALE_PROVIDER libc")
        self.sql(f"""
            CREATE DATABASE {name(database)} TEMPLATE template0 OWNER {name(facts["owner"])} {provider}
              ENCODING {literal(facts["encoding"])} LC_COLLATE {literal(facts["collate"])} LC_CTYPE {literal(facts["ctype"])};
            REVOKE ALL ON DATABASE {name(database)} FROM PUBLIC;""")

    def fill(self, dump, owner, superuser):
        """Restore a dump into the scratch database."""
        entries = self.run("pg_restore", "--list", str(dump)).splitlines()
        mine = [entry for entry in entries if superuser or of_superuser(entry)]
        self.restore_entries(dump, mine, "--username=postgres")
        if superuser:
            return
        rest = [entry for entry in entries if not of_superuser(entry)]
        # Data of tables that belong to an extension: the owner of the database may not write them.
        tables = self.extension_tables()
        belongs = [entry for entry in rest if any(f" TABLE DATA {table} " in entry for table in tables)]
        self.restore_entries(dump, belongs, "--username=postgres")
        password = secrets.token_urlsafe(32)
        self.sql(f"""
            CREATE ROLE {name(SCRATCH)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{password}';
            GRANT CONNECT ON DATABASE {name(SCRATCH)} TO {name(SCRATCH)};
            GRANT {name(owner)} TO {name(SCRATCH)};""")
        try:
            self.restore_entries(
                dump,
                [entry for entry in rest if entry not in belongs],
                f"--username={SCRATCH}",
                f"--role={owner}",
                "--no-owner",
                PGPASSWORD=password,
            )
        except BackupError as error:
            if "no pg_hba.conf entry" in error.details or "authentication failed" in error.details:
                message = f"pg_hba.conf lacks the line: local {SCRATCH} {SCRATCH} scram-sha-256"
                raise BackupError(message, error.details) from error
            if re.search("permission denied|must be (owner|superuser|able to|a member)", error.details):
                message = f"{error}; does it need the superuser (postgresql_backup_superuser_databases)?"
                raise BackupError(message, error.details) from error
            raise
        finally:
            self.sql(
                f"""
                REASSIGN OWNED BY {name(SCRATCH)} TO {name(owner)};
                DROP OWNED BY {name(SCRATCH)};
                REVOKE {name(owner)} FROM {name(SCRATCH)};
                DROP ROLE {name(SCRATCH)};""",
                SCRATCH,
            )

    def restore_entries(self, dump, entries, *options, **environment):
        """Restore what is on the list; the first error ends it."""
        if not any(entry and not entry.startswith(";") for entry in entries):
            return
        with script("\n".join(entries) + "\n") as lines:
            self.run(
                "pg_restore",
                "--exit-on-error",
                f"--dbname={SCRATCH}",
                "--no-publications",
                "--no-subscriptions",
                "--use-list=/dev/stdin",
                *options,
                str(dump),
                stdin=lines,
                **environment,
            )

    def extension_tables(self):
        """The tables of extensions that hold users' data, as pg_restore lists them."""
        return json.loads(self.sql(EXTENSION_TABLES, SCRATCH))

    def tables(self, database):
        """How many tables a database has."""
        return int(self.sql("SELECT count(*) FROM pg_stat_user_tables;", database))

    def dress(self, facts):
        """Give the scratch database the grants, settings and limit of the one whose place it takes."""
        statements = []
        for role, privilege, grantable in facts["grants"]:
            option = " WITH GRANT OPTION" if grantable else ""
            statements.append(
                f"GRANT {privilege} ON DATABASE {name(SCRATCH)} TO {name(role) if role else 'PUBLIC'}{option};"
            )
        for role, settings in facts["settings"]:
            whose = (
                f"ALTER ROLE {name(role)} IN DATABASE {name(SCRATCH)}" if role else f"ALTER DATABASE {name(SCRATCH)}"
            )
            for setting, value in (entry.split("=", 1) for entry in settings):
                quoted = value if setting in LIST_SETTINGS else literal(value)
                statements.append(f"{whose} SET {'.'.join(map(name, setting.split('.')))} TO {quoted};")
        statements.append(f"ALTER DATABASE {name(SCRATCH)} CONNECTION LIMIT {int(facts['connection_limit'])};")
        self.sql("\n".join(statements))

    def swap(self, database, kept):
        """Put the scratch database in the other's place in one transaction, closing the other's connections.

        The first rename keeps new connections out until the end; meanwhile a second session closes those that are there.
        """
        command = psql("postgres", database=database, kept=kept, scratch=SCRATCH)
        environment = self.environment(PGOPTIONS=SESSION)
        deadline = time.monotonic() + SWAP_SECONDS
        while True:
            with (
                script(SWAP) as lines,
                tempfile.TemporaryFile("w+", encoding="utf-8") as said,
                subprocess.Popen(
                    command, env=environment, stdin=lines, stdout=said, stderr=said, text=True
                ) as renaming,
            ):
                while renaming.poll() is None:
                    time.sleep(0.1)
                    self.sql(DISCONNECT, database=database)
                said.seek(0)
                problem = said.read()
            if renaming.returncode == 0:
                break
            if "accessed by other users" not in problem:
                raise BackupError("the databases could not be renamed; nothing has changed", without_rows(problem))
            if time.monotonic() > deadline:
                raise BackupError(f"{database} is still in use after {SWAP_SECONDS} s; nothing has changed", problem)
        # Whoever is not the superuser has no business in what was replaced.
        self.sql('ALTER DATABASE :"kept" CONNECTION LIMIT 0;', kept=kept)

    def rename_scratch(self, database):
        """Make the scratch database the database that was not there."""
        self.sql('ALTER DATABASE :"scratch" RENAME TO :"database";', scratch=SCRATCH, database=database)


class Store:
    """The directory of the backups."""

    def __init__(self, directory):
        self.directory = Path(directory)

    def manifests(self):
        """Every .json file that is one of ours."""
        for path in self.directory.glob("*.json"):
            manifest = read_json(path)
            if isinstance(manifest, dict) and {"database", "file", "size", "taken"} <= set(manifest):
                yield path, manifest

    def backups(self, database=None):
        """What is there of all or of one, newest first: the .json files whose dumps exist in the right size."""
        found = []
        for _, manifest in self.manifests():
            file = self.directory / manifest["file"]
            wanted = database in (None, manifest["database"])
            if wanted and file.is_file() and file.stat().st_size == manifest["size"]:
                found.append(manifest)
        return sorted(found, key=lambda manifest: (manifest["taken"], manifest["file"]), reverse=True)

    def clean(self):
        """Remove what a run that was killed has not finished."""
        for path in self.directory.glob(".*.tmp"):
            path.unlink()
        for path, manifest in self.manifests():
            if not (self.directory / manifest["file"]).exists():
                path.unlink()

    @contextlib.contextmanager
    def new(self, label, suffix, taken):
        """Where to write a backup; it gets its final name, beside its manifest, if nothing fails on the way."""
        stem = f"{label}-{taken:%Y%m%dT%H%M%SZ}"
        temporary = self.directory / f".{stem}{suffix}.tmp"
        manifest = {"file": f"{stem}{suffix}", "taken": iso(taken)}
        try:
            # Made here: nobody else can read it from the first moment on.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            yield temporary, manifest
            sync(temporary)
            manifest |= {"size": temporary.stat().st_size, "sha256": sha256(temporary)}
            # The manifest first: a dump without one would look as if nobody had proven it.
            write_json(self.directory / f"{stem}{suffix}.json", manifest, 0o600)
            os.rename(temporary, self.directory / manifest["file"])
            sync(self.directory)
        except OSError as error:
            raise BackupError(f"{error.filename or self.directory}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def prune(self, database, keep_days, keep_last, now):
        """Remove what is older than so many days, but never the newest ones. Only ever called after a success."""
        removed = []
        for manifest in self.backups(database)[keep_last:]:
            if datetime.fromisoformat(manifest["taken"]) < now - timedelta(days=keep_days):
                (self.directory / manifest["file"]).unlink()
                (self.directory / f"{manifest['file']}.json").unlink()
                removed.append(manifest["file"])
        return removed


class Backup:
    """The whole: one configuration, one server, one store."""

    def __init__(self, config):
        self.config = config
        self.cluster = Cluster(config["port"])
        self.store = Store(config["directory"])
        self.state = Path(config["state_directory"])

    @contextlib.contextmanager
    def locked(self, wait):
        """Only one of us at a time; a night that is not over when the next begins is an error."""
        with open(self.state / "lock", "w", encoding="utf-8") as lock:
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise BackupError("another backup or restore is running") from None
                    time.sleep(min(1, wait))
            yield

    # ---- run

    def run(self, asked, wait):
        """Back databases up. Returns what happened to each; raises only if nothing could be tried at all."""
        with self.locked(wait):
            self.store.clean()
            self.cluster.clean()
            there = self.cluster.databases()
            configured = self.config["databases"] or there
            now = datetime.now(UTC).replace(microsecond=0)
            outcomes = {database: self.attempt(database, self.dump, now) for database in asked or configured}
            if not asked:
                outcomes[ROLES] = self.attempt(ROLES, self.dump_roles, now)
            try:
                self.record(outcomes, [*configured, ROLES], complete=not asked)
            except OSError as error:
                outcomes[str(error.filename)] = {"error": f"cannot be written: {error.strerror}", "details": ""}
        return outcomes

    def attempt(self, database, work, now):
        """Back one thing up; whatever goes wrong with it leaves the others alone."""
        begun = time.monotonic()
        try:
            manifest = work(database, now)
            removed = self.store.prune(database, self.config["keep_days"], self.config["keep_last"], now)
        except BackupError as error:
            return {"error": str(error), "details": error.details}
        except Exception as error:  # a fault of ours must not cost the other databases their backup
            return {"error": f"{type(error).__name__}: {error}", "details": traceback.format_exc()}
        shown = {key: manifest[key] for key in ("file", "size", "taken", "tables") if key in manifest}
        return {**shown, "seconds": round(time.monotonic() - begun, 1), "removed": removed}

    def dump(self, database, now):
        """Dump a database, prove the dump, keep it."""
        facts = self.cluster.facts(database)
        if facts is None:
            raise BackupError("there is no such database")
        size = facts.pop("size")
        last = self.store.backups(database)[:1]
        self.need({self.store.directory: last[0]["size"] * 1.2 if last else size, self.data_directory(): size * 1.2})
        superuser = database in self.config["superuser_databases"] or self.cluster.is_superuser(facts["owner"])
        with self.store.new(database, ".dump", now) as (temporary, manifest):
            self.cluster.run(
                "pg_dump",
                "--format=custom",
                f"--dbname={database}",
                f"--file={temporary}",
                "--no-password",
                "--lock-wait-timeout=600000",
            )
            tables = self.cluster.tables(database)
            try:
                with self.cluster.restored(temporary, facts, superuser):
                    manifest |= {"database": database, "tables": self.cluster.tables(SCRATCH), **facts}
            except BackupError as error:
                raise BackupError(f"the dump cannot be restored: {error}", error.details) from error
            if tables and not manifest["tables"]:
                raise BackupError(f"the dump holds none of the {tables} tables")
        return manifest

    def dump_roles(self, _database, now):
        """Keep the roles and their memberships. Not their passwords: those come from the inventory."""
        with self.store.new("roles", ".sql", now) as (temporary, manifest):
            self.cluster.run(
                "pg_dumpall", "--globals-only", "--no-role-passwords", f"--file={temporary}", "--no-password"
            )
            if (
                "PostgreSQL database cluster dump complete"
                not in temporary.read_text(encoding="utf-8", errors="replace")[-500:]
            ):
                raise BackupError("pg_dumpall ended early")
            manifest["database"] = ROLES
        return manifest

    def data_directory(self):
        return Path(self.cluster.sql("SHOW data_directory;"))

    def need(self, sizes):
        """Stop before a disk gets full: the server would stop with it."""
        wanted = {}
        for directory, size in sizes.items():
            disk = os.stat(directory).st_dev
            wanted[disk] = (directory, wanted.get(disk, (None, self.config["reserve_mb"] * MEGABYTE))[1] + int(size))
        for directory, size in wanted.values():
            disk = os.statvfs(directory)
            free = disk.f_bavail * disk.f_frsize
            if free < size:
                raise BackupError(f"{directory} has {human(free)} free, {human(size)} are needed")

    def record(self, outcomes, expected, complete):
        """Write the status file, which everybody may read; it says what failed, never what a program printed."""
        path = self.state / "status.json"
        old = read_json(path) or {}
        states = {key: value for key, value in old.get("databases", {}).items() if key in expected}
        now = iso(datetime.now(UTC))
        for database, outcome in outcomes.items():
            good = "error" not in outcome
            states[database] = {
                "result": "ok" if good else "failed",
                "last_success": outcome["taken"] if good else states.get(database, {}).get("last_success"),
                **{key: value for key, value in outcome.items() if key not in ("details", "removed")},
            }
        good = all(state["result"] == "ok" for state in states.values())
        status = {
            "result": "ok" if good else "failed",
            "last_run": now,
            "last_success": now if good and complete else old.get("last_success"),
            "databases": dict(sorted(states.items())),
        }
        write_json(path, status, 0o644)

    def record_failure(self, message):
        """Nothing could be tried at all: say so in the status file too."""
        path = self.state / "status.json"
        status = {**(read_json(path) or {"last_success": None, "databases": {}}), "result": "failed", "error": message}
        write_json(path, {**status, "last_run": iso(datetime.now(UTC))}, 0o644)

    # ---- restore

    def choose(self, database, wanted):
        """Find the backup to restore: its path and what its manifest says."""
        if wanted == "latest":
            found = self.store.backups(database)
            if not found:
                raise BackupError(f"there is no backup of {database} in {self.store.directory}")
            return self.store.directory / found[0]["file"], found[0]
        path = self.store.directory / wanted
        if not path.is_file():
            raise BackupError(f"{path} does not exist")
        manifest = read_json(path.with_name(f"{path.name}.json")) or {}
        return path, manifest

    def check(self, database, path, manifest):
        """Be sure that a file is what it should be before anything is done with it."""
        if manifest and sha256(path) != manifest["sha256"]:
            raise BackupError(f"{path} is damaged: its checksum is not that of its manifest")
        listing = self.cluster.run("pg_restore", "--list", str(path))
        holds = re.search(r"^; +dbname: (.*)$", listing, re.MULTILINE)
        if holds and holds[1] != database:
            raise BackupError(f"{path} is a backup of {holds[1]}, not of {database}")

    def restore(self, database, wanted, wait, dry_run):
        """Put a backup in a database's place."""
        if database in ("postgres", "template0", "template1", SCRATCH):
            raise BackupError(f"{database} is not a database to restore")
        with self.locked(wait):
            path, manifest = self.choose(database, wanted)
            self.check(database, path, manifest)
            there = self.cluster.facts(database)
            facts = there or manifest
            if not facts:
                raise BackupError(f"{database} does not exist and {path.name} has no manifest: make the database first")
            self.need({self.data_directory(): max((there or {}).get("size", 0), 5 * path.stat().st_size)})
            superuser = self.cluster.is_superuser(facts["owner"])
            if superuser is None:
                raise BackupError(f"the owner of {database}, the role {facts['owner']}, does not exist: make it first")
            kept = (
                f"{database[: LONGEST_NAME - len(BEFORE_RESTORE) - 14]}{BEFORE_RESTORE}{datetime.now(UTC):%Y%m%d%H%M%S}"
            )
            result = {
                "database": database,
                "file": path.name,
                "taken": manifest.get("taken"),
                "kept": kept if there else None,
            }
            if dry_run:
                return result
            superuser = superuser or database in self.config["superuser_databases"]
            with self.cluster.restored(path, facts, superuser):
                self.cluster.run("vacuumdb", "--analyze-only", "--quiet", f"--dbname={SCRATCH}")
                result["tables"] = self.cluster.tables(SCRATCH)
                self.cluster.dress(facts)
                if there:
                    self.cluster.swap(database, kept)
                else:
                    self.cluster.rename_scratch(database)
        return result


# ---- small things


def psql(database, /, **variables):
    options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", f"--dbname={database}")
    return ["psql", *options, *(f"--set={key}={value}" for key, value in variables.items())]


@contextlib.contextmanager
def script(statements):
    """A file without a name for a program to read. (psql would make one transaction of statements in an argument.)"""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        lines.write(statements)
        lines.seek(0)
        yield lines


def of_superuser(entry):
    """Whether a line of pg_restore --list is for the superuser: schemas and extensions, which run nobody else's code."""
    return bool(re.match(r"\d+; \d+ \d+ (SCHEMA - |EXTENSION - |COMMENT - EXTENSION )", entry))


def name(identifier):
    return '"' + identifier.replace('"', '""') + '"'


def literal(text):
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def ending(code):
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def without_rows(text):
    """An error's text without the rows that it quotes: they are the users' data."""
    kept, skip = [], False
    for line in text.strip().splitlines():
        if re.match(r"(.*(CONTEXT|DETAIL|STATEMENT|Command was):)", line):
            skip = True
        elif re.match(r"(pg_|psql|ERROR|FATAL|HINT|sh:|[\w./-]+: )", line):
            skip = False
        if not skip:
            kept.append(line)
    return "\n".join(kept[-20:])


def iso(moment):
    return moment.replace(microsecond=0).isoformat()


def human(size):
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_json(path, content, mode):
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)


def become_postgres():
    """Root may call this program too; it works as postgres."""
    account = pwd.getpwnam("postgres")
    if os.geteuid() == 0:
        os.initgroups("postgres", account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    elif os.geteuid() != account.pw_uid:
        sys.exit("postgresql-backup: only root and postgres may do this")
    os.environ.update(HOME=account.pw_dir, USER="postgres", LOGNAME="postgres")
    os.chdir("/")
    os.umask(0o077)


def stop(_signal, _frame):
    raise Stopped


def fail(config, problems):
    """Be loud: on stderr, which cron mails; in the journal, as errors; by the hook."""
    for where, message, details in problems:
        print(f"postgresql-backup: {where}: {message}", file=sys.stderr)
        syslog.syslog(syslog.LOG_ERR, f"{where}: {message}")
        for line in details.splitlines():
            print(f"    {line}", file=sys.stderr)
            syslog.syslog(syslog.LOG_ERR, f"{where}: {line}")
    if config.get("hook_failure"):
        summary = "; ".join(f"{where}: {message}" for where, message, _ in problems)
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", config["hook_failure"]],
                env={**os.environ, "POSTGRESQL_BACKUP_ERROR": summary},
                stdin=subprocess.DEVNULL,
                timeout=300,
                check=False,
            )
            trouble = ending(done.returncode) if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            trouble = str(error)
        if trouble:
            print(f"postgresql-backup: the failure hook itself failed ({trouble})", file=sys.stderr)
            syslog.syslog(syslog.LOG_ERR, f"the failure hook itself failed ({trouble})")
    return 1


def command_run(backup, arguments):
    if arguments.dry_run:
        databases = arguments.databases or backup.config["databases"] or backup.cluster.databases()
        return report(arguments, {"would_back_up": databases}, [f"would back up {database}" for database in databases])
    outcomes = backup.run(arguments.databases, arguments.wait)
    lines = []
    for database, outcome in outcomes.items():
        if "error" in outcome:
            lines.append(f"{database}: FAILED, {outcome['error']}")
            continue
        proven = f", {outcome['tables']} tables restored from it" if "tables" in outcome else ""
        lines.append(f"{database}: {outcome['file']}, {human(outcome['size'])}{proven}, {outcome['seconds']} s")
        syslog.syslog(syslog.LOG_INFO, lines[-1])
        for file in outcome.get("removed", []):
            syslog.syslog(syslog.LOG_INFO, f"{database}: removed {file}")
    report(
        arguments, {key: {k: v for k, v in value.items() if k != "details"} for key, value in outcomes.items()}, lines
    )
    problems = [(key, value["error"], value["details"]) for key, value in outcomes.items() if "error" in value]
    return fail(backup.config, problems) if problems else 0


def command_list(backup, arguments):
    found = [manifest for manifest in backup.store.backups(arguments.database) if manifest["database"] != ROLES]
    keys = ("database", "taken", "file", "size", "tables", "sha256")
    lines = [
        f"{manifest['database']:<24} {manifest['taken']}  {human(manifest['size']):>9}  {manifest['file']}"
        for manifest in found
    ]
    return report(arguments, [{key: manifest[key] for key in keys} for manifest in found], lines or ["no backups"])


def command_restore(backup, arguments):
    result = backup.restore(arguments.database, arguments.file, arguments.wait, arguments.dry_run)
    database, kept = result["database"], result["kept"]
    if arguments.dry_run:
        lines = [f"would restore {database} from {result['file']}, taken {result['taken'] or 'at an unknown time'}"]
        lines += [f"would keep the present one as {kept}"] if kept else [f"{database} does not exist now"]
    else:
        lines = [f"restored {database} from {result['file']}: {result['tables']} tables"]
        if kept:
            lines += [f"kept the one before as {kept}; when nobody needs it: runuser -u postgres -- dropdb {kept}"]
        syslog.syslog(syslog.LOG_NOTICE, "; ".join(lines))
    return report(arguments, result, lines)


def report(arguments, content, lines):
    if arguments.json:
        print(json.dumps(content))
    elif not arguments.quiet:
        print("\n".join(lines))
    return 0


def parse(argv):
    parser = argparse.ArgumentParser(prog="postgresql-backup", description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="answer in JSON")
    common.add_argument("--quiet", action="store_true", help="say nothing unless something fails")
    working = argparse.ArgumentParser(add_help=False, parents=[common])
    working.add_argument("--wait", type=int, default=0, metavar="SECONDS", help="wait this long for another run to end")
    working.add_argument("--dry-run", action="store_true", help="only say what would be done")
    run = commands.add_parser("run", parents=[working], help="make backups now")
    run.add_argument("databases", nargs="*", metavar="DATABASE")
    show = commands.add_parser("list", parents=[common], help="show what there is")
    show.add_argument("database", nargs="?", metavar="DATABASE")
    restore = commands.add_parser("restore", parents=[working], help="put a backup in a database's place")
    restore.add_argument("database", metavar="DATABASE")
    restore.add_argument(
        "--file", default="latest", help="a file of the backup directory, or a path (default: the newest)"
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Do what the command line says; the exit code is 0 only if all went well."""
    arguments = parse(argv)
    become_postgres()
    syslog.openlog("postgresql-backup", syslog.LOG_PID, syslog.LOG_DAEMON)
    signal.signal(signal.SIGTERM, stop)
    config = {}
    try:
        config = json.loads(CONFIG.read_text(encoding="utf-8"))
        backup = Backup(config)
        commands = {"run": command_run, "list": command_list, "restore": command_restore}
        return commands[arguments.command](backup, arguments)
    except Stopped:
        problem = (arguments.command, "stopped by a signal", "")
    except (BackupError, OSError) as error:
        problem = (arguments.command, str(error), getattr(error, "details", ""))
    except Exception as error:  # a fault of ours is as loud as any other
        problem = (arguments.command, f"{type(error).__name__}: {error}", traceback.format_exc())
    if arguments.command != "run":
        return fail({}, [problem])
    with contextlib.suppress(OSError, KeyError):
        Backup(config).record_failure(problem[1])
    return fail(config, [problem])


if __name__ == "__main__":
    sys.exit(main())
