#!/usr/bin/python3
"""Back PostgreSQL's databases up, prove each backup by restoring it, and put one back.

    postgresql-backup run [DATABASE ...]          make backups now (cron does, every night)
    postgresql-backup list [DATABASE]             show what there is
    postgresql-backup restore DATABASE            put the newest backup in the database's place

A dump is written under a temporary name, restored into a scratch database, and renamed only if that worked: a file that ends in
.dump is proven. One that could not be restored ends in .dump.unproven. Beside each lies a .json file with its checksum and what
the database was like.

Restoring runs code that lies in the dump (a CHECK constraint may call a function), so neither the superuser does it nor the
database's owner: a role of this program's own does, which exists only meanwhile, owns nothing else and is a member of nothing.
The superuser makes the database, and the extensions before anything else is in it, and gives it all to its owner afterwards. Its
sessions pin what they find by a name (SESSION); what a catalogue, a dump or a manifest says is handed to the server as a value or
as an identifier, never as SQL.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib
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
import termios
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

CONFIG = Path("/etc/postgresql-backup.json")
SOCKET_DIRECTORY = "/var/run/postgresql"
# The names of the scratch database and of the role that fills it: the first that is free. pg_hba.conf lets a role into the
# database of its name alone, with its password. A statement that the server cannot interrupt keeps the database that it runs in,
# its role, and the server from dropping any other database: it waits for every session first. So a drop has a limit, what is left
# goes later, and the next takes the next name. No role serves a second dump: whoever still is that role could end its sessions.
SCRATCH = "vivarium_scratch"
SCRATCHES = (SCRATCH, *(f"{SCRATCH}_{number}" for number in range(2, 10)))
LEFT = f"{SCRATCH}_left_"
DROP_SECONDS = 30
BEFORE_RESTORE = "_before_restore_"
# The roles and their memberships, under a name that no database can have.
ROLES = "(roles)"
MEGABYTE = 1024 * 1024
LONGEST_NAME = 63
SWAP_SECONDS = 30
# A database may take so long for its dump and the proof: this, and one second for so many bytes.
LEAST_SECONDS = 900
BYTES_A_SECOND = 4 * MEGABYTE
# How much of a manifest, and of what a program complains of, is read.
MANIFEST_BYTES = 4 * MEGABYTE
# How much the settings may take that an application made for whoever connects to its database.
SETTINGS_BYTES = MEGABYTE
COMPLAINT_BYTES = 64 * 1024
UNPROVEN = ".unproven"
IN_USE = ("55006", "55P03")  # of SQLSTATE: in use, or locked
KEPT_UNPROVEN = 3
# The value of these is a list of names; ALTER DATABASE takes them one by one.
LIST_SETTINGS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}
PRIVILEGES = {"CONNECT", "CREATE", "TEMPORARY"}
# What wins over the settings of a database or a role, which an application may have made for whoever connects: nothing but
# PostgreSQL's own is found by a name, and nobody becomes another role, loads a library or is stopped by them.
PINNED = (
    "search_path=pg_catalog,pg_temp",
    "role=none",
    "local_preload_libraries=",
    "default_transaction_isolation=read\\ committed",
    "default_transaction_read_only=off",
    "default_transaction_deferrable=off",
    "default_tablespace=",
    "temp_tablespaces=",
    "client_encoding=UTF8",
    "standard_conforming_strings=on",
    "row_security=on",
    "idle_in_transaction_session_timeout=0",
    "idle_session_timeout=0",
)
# What a server that is older does not know, by the first version that does.
PINNED_LATER = {170000: ("transaction_timeout=0",)}
# The superuser's sessions beside that: they end, and log no statement with a password in it.
SESSION = " ".join(
    f"-c {setting}"
    for setting in (
        *PINNED,
        "session_authorization=postgres",
        "statement_timeout=10min",
        "lock_timeout=1min",
        "log_statement=none",
        "log_min_duration_statement=-1",
        "log_min_error_statement=panic",
    )
)
# Programs end when the time of their database is over, however long one statement takes.
PROGRAM = f"{SESSION} -c statement_timeout=0"
RESTORING = " ".join(f"-c {setting}" for setting in (*PINNED, "statement_timeout=0", "lock_timeout=1min"))


DATABASES = """
SELECT datname FROM pg_catalog.pg_database
WHERE datname NOT IN ('template0', 'template1') AND NOT datname::pg_catalog.text = ANY (%s)
  AND pg_catalog.strpos(datname, %s) = 0 ORDER BY datname
"""
FACTS = """
SELECT pg_catalog.json_build_object(
  'owner', pg_catalog.pg_get_userbyid(datdba),
  'encoding', pg_catalog.pg_encoding_to_char(encoding),
  'collate', datcollate,
  'ctype', datctype,
  'provider', datlocprovider,
  'locale', coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'),
  'connection_limit', datconnlimit,
  'grants', (
    SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
      CASE grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(grantee) END, privilege_type, is_grantable)), '[]')
    FROM pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) WHERE grantee <> datdba),
  'settings', (
    SELECT CASE
      WHEN coalesce(pg_catalog.sum(pg_catalog.octet_length(pg_catalog.array_to_string(setconfig, ''))), 0) > %s THEN NULL
      ELSE coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
        CASE setrole WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(setrole) END, setconfig)), '[]') END
    FROM pg_catalog.pg_db_role_setting WHERE setdatabase = d.oid),
  'size', pg_catalog.pg_database_size(d.oid))
FROM pg_catalog.pg_database d WHERE datname = %s
"""
EXTENSIONS = """
SELECT extname, nspname FROM pg_catalog.pg_extension
JOIN pg_catalog.pg_namespace ON pg_namespace.oid = extnamespace WHERE extname <> 'plpgsql' ORDER BY 1
"""
AVAILABLE = """
SELECT trusted, schema FROM pg_catalog.pg_available_extensions a
JOIN pg_catalog.pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version WHERE a.name = %s
"""
EXTENSION_TABLES = """
SELECT nspname, relname, relkind = 'S' FROM (SELECT pg_catalog.unnest(extconfig) FROM pg_catalog.pg_extension) AS e (id)
JOIN pg_catalog.pg_class ON pg_class.oid = id JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
"""
# What can be given to another owner one by one; what belongs to these (indexes, sequences of columns) goes with them.
RELATIONS = """
SELECT nspname, relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s) AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""
NAMES = "SELECT datname FROM pg_catalog.pg_database UNION SELECT rolname FROM pg_catalog.pg_roles"
GRANTED = """
SELECT DISTINCT datname FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid
JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND rolname = %s
"""
DISCONNECT = """
SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_catalog.pg_backend_pid() AND (datname = %s OR usename = %s OR application_name = %s AND usename = 'postgres')
"""

# Lines of pg_restore --list: what they are for, in which schema (- for none), the name and the owner.
EXTENSION_ENTRY = re.compile(r"\d+; \d+ \d+ (COMMENT - )?EXTENSION (- )?(.*)")
EXTENSION_NAME = re.compile(r"([A-Za-z0-9_-]+) ?\S*")
SCHEMA_ENTRY = re.compile(r"\d+; \d+ \d+ SCHEMA - (.*) \S*")
ROW_SECURITY_ENTRY = re.compile(r"\d+; \d+ \d+ ROW SECURITY ")
DEFAULT_ACL_ENTRY = re.compile(r"\d+; \d+ \d+ DEFAULT ACL ")
# What pg_dump writes of default privileges, the only statements of a dump that need the owner: they are made anew from words.
IDENTIFIER = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"\n]|"")+")'
DEFAULT_ACL = re.compile(
    rf"ALTER DEFAULT PRIVILEGES FOR ROLE (?P<role>{IDENTIFIER})(?: IN SCHEMA (?P<schema>{IDENTIFIER}))?"
    r" (?P<verb>GRANT|REVOKE) (?P<privileges>[A-Z]+(?:,[A-Z]+)*) ON (?P<kind>TABLES|SEQUENCES|FUNCTIONS|TYPES|SCHEMAS)"
    rf" +(?:TO|FROM) (?P<grantee>{IDENTIFIER}|PUBLIC)(?P<option> WITH GRANT OPTION)?;"
)
KINDS_OF_PRIVILEGES = {
    "ALL", "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN", "USAGE", "EXECUTE", "CREATE",
}  # fmt: skip
# Code in a dump may have written the complaint that this is added to.
NEEDS_SUPERUSER = (
    "if you know why, and trust the application with the whole server: postgresql_backup_superuser_databases has what is in"
    " its dump run as the superuser"
)
NO_SEARCH_PATH = (
    "what is said not to exist is probably found by the search_path, which a restore has not, by a function that a column, an"
    " index or a view uses: ALTER FUNCTION NAME SET search_path = public in the database, and the next backup is proven"
)
# An owner of an object of PostgreSQL's own, who is the database's.
DATABASE_OWNER = "pg_database_owner"
NO_LOCKS = (
    "the server's table of locks is full, which one role can bring about; end its sessions from the shell:"
    " ps -C postgres -o pid,args (postgres: ROLE DATABASE …), kill PID"
)


class BackupError(Exception):
    """Something failed; the message is for people and for the status file, the details for the journal and the mail alone."""

    def __init__(self, message, details=""):
        super().__init__(message)
        self.details = details


class Stopped(BaseException):
    """Somebody asked us to end; what is half done is still cleaned up."""


class Cluster:
    """The database server, spoken to as its superuser through the unix socket."""

    def __init__(self, port, memory):
        self.port = str(port)
        self.memory = Path(memory)  # a file: whose proof keeps which scratch database
        self.scratch = SCRATCH
        self.later = None
        self.end = None  # when what is done now has to be done
        self.seconds = 0
        self.application = f"postgresql-backup-{secrets.token_hex(8)}"

    @contextlib.contextmanager
    def limited(self, seconds):
        """Programs that run meanwhile have so many seconds together."""
        self.end, self.seconds = time.monotonic() + seconds, seconds
        try:
            yield
        finally:
            self.end = None

    def run(self, *command, stdin=subprocess.DEVNULL, options=PROGRAM, user="postgres", password=""):
        """Run one of PostgreSQL's programs and return what it printed."""
        environment = {
            **os.environ, "LC_ALL": "C.UTF-8", "PGHOST": SOCKET_DIRECTORY, "PGPORT": self.port, "PGUSER": user,
            "PGOPTIONS": options + self.pinned_later(), "PGAPPNAME": self.application, "PGCONNECT_TIMEOUT": "30",
            **({"PGPASSWORD": password} if password else {}),
        }  # fmt: skip
        with tempfile.TemporaryFile() as printed:
            try:
                process = subprocess.Popen(
                    command, env=environment, stdin=stdin, stdout=printed, stderr=subprocess.PIPE, bufsize=0
                )
            except OSError as error:
                raise BackupError(f"{command[0]} cannot be run: {error.strerror}") from error
            complaint = Tail(process.stderr)
            try:
                process.wait(None if self.end is None else max(0, self.end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise BackupError(
                    f"{command[0]} had not ended when the database's {self.seconds} s were over (postgresql_backup_timeouts)"
                ) from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                    # The server notices late that nobody waits for it any more.
                    self.disconnect()
                said = complaint.text()
            if process.returncode != 0:
                raise BackupError(f"{command[0]} failed ({ending(process.returncode)})", without_rows(said))
            printed.seek(0)
            return printed.read().decode(errors="replace")

    def pinned_later(self):
        """What this server's version has to be told beside PINNED; in the database postgres only the superuser makes settings."""
        if self.later is None:
            self.later = ""
            version = int(self.sql("SELECT pg_catalog.current_setting('server_version_num')")[0][0])
            self.later = "".join(
                f" -c {setting}" for first, more in PINNED_LATER.items() if version >= first for setting in more
            )
        return self.later

    def place(self, database):
        """How a program is told the database, whose name may look like anything."""
        return "--dbname=" + psycopg2().extensions.make_dsn(dbname=database)

    @contextlib.contextmanager
    def session(self, where="postgres", transaction=False):
        """A session of the superuser; the block calls what it gets with statements."""
        driver = psycopg2()
        try:
            connection = driver.connect(
                dbname=where, host=SOCKET_DIRECTORY, port=self.port, user="postgres",
                options=SESSION + ("" if where == "postgres" else self.pinned_later()),
                application_name=self.application, connect_timeout=30,
            )  # fmt: skip
        except driver.Error as error:
            full = f": {NO_LOCKS}" if "out of shared memory" in str(error) else ""
            raise BackupError(
                f"the server does not let the superuser into {printable(where)}{full}", without_rows(str(error))
            ) from error
        try:
            connection.autocommit = not transaction
            with connection.cursor() as cursor:

                def ask(statement, *values, **names):
                    """One statement of ours: {x} becomes an identifier (or SQL that was composed), %s a value."""
                    composed = driver.sql.SQL(statement).format(
                        **{
                            key: driver.sql.Identifier(each) if isinstance(each, str) else each
                            for key, each in names.items()
                        }
                    )
                    cursor.execute(composed, values or None)
                    return cursor.fetchall() if cursor.description else []

                yield ask
            if transaction:
                connection.commit()
        except driver.Error as error:
            raise Refused(error) from error
        finally:
            connection.close()

    def sql(self, statement, *values, where="postgres", **names):
        """Run one statement as the superuser and return its rows."""
        with self.session(where) as ask:
            return ask(statement, *values, **names)

    def databases(self):
        """Every database that somebody might miss, also where its owner made it a template or lets nobody in."""
        return [row[0] for row in self.sql(DATABASES, list(SCRATCHES), BEFORE_RESTORE)]

    def facts(self, database):
        """What CREATE DATABASE has to know to make one like it; None if it is not there."""
        rows = self.sql(FACTS, SETTINGS_BYTES, database)
        return rows[0][0] if rows else None

    def extensions(self, database):
        """A database's extensions, each with its schema."""
        return [list(row) for row in self.sql(EXTENSIONS, where=database)]

    def superusers(self):
        return {row[0] for row in self.sql("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")}

    def is_superuser(self, role):
        """Whether the role is a superuser; None if there is no such role."""
        rows = self.sql("SELECT rolsuper FROM pg_catalog.pg_authid WHERE rolname = %s", role)
        return rows[0][0] if rows else None

    def disconnect(self, database=None):
        """End the sessions in a database, those of the scratch role and those of this program's own programs."""
        self.sql(DISCONNECT, database or self.scratch, self.scratch, None if database else self.application)

    def clean(self):
        """Remove scratch databases and their roles, which a run that was killed leaves behind. What cannot go yet stays."""
        there = self.databases_and_roles()
        for name in SCRATCHES:
            if name in there:
                with contextlib.suppress(BackupError):
                    self.drop(name)
                with contextlib.suppress(BackupError):
                    self.drop_role(name)
        for role in sorted(there):
            if role.startswith(LEFT):
                with contextlib.suppress(BackupError):
                    self.drop_role(role, patience="100ms")

    def databases_and_roles(self):
        return {row[0] for row in self.sql(NAMES)}

    def drop(self, name):
        with self.session() as ask:
            ask("SET statement_timeout = %s", f"{DROP_SECONDS}s")
            ask("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name)

    def take_scratch(self, database):
        """Choose the name of the scratch database for a database: one that is free, unless its own last one is in use."""
        there = self.databases_and_roles()
        users = read_json(self.memory)
        users = users if isinstance(users, dict) else {}
        for name in sorted(SCRATCHES, key=lambda name: (users.get(name) != database, name in there)):
            if name in there:
                try:
                    self.drop(name)
                    self.drop_role(name)
                except Refused as error:
                    if users.get(name) == database and error.code in IN_USE:
                        raise BackupError(
                            "a statement of the last dump that was restored still runs, and the server cannot interrupt it"
                            f" (in pg_stat_activity: datname {name})",
                            error.details,
                        ) from error
                    continue
            self.scratch = name
            write_json(self.memory, {**users, name: database}, 0o600)
            return
        raise BackupError(f"each of the databases {SCRATCHES[0]} to {SCRATCHES[-1]} is there and cannot be dropped")

    def drop_role(self, role, patience="5s"):
        """Remove a scratch role. One that an application keeps from going, with a grant to it, may not log in and makes room."""
        driver = psycopg2()
        with self.session() as ask:
            if not ask("SELECT true FROM pg_catalog.pg_roles WHERE rolname = %s", role):
                return
            ask("SET lock_timeout = %s", patience)
            ask("ALTER ROLE {role} NOLOGIN", role=role)
            ask("ALTER ROLE {role} RESET ALL", role=role)
            for last in (False, True):
                try:
                    ask("DROP OWNED BY {role}", role=role)
                    ask("DROP ROLE {role}", role=role)
                    return
                except driver.Error:
                    if last:
                        break
                for (database,) in ask(GRANTED, role):
                    with contextlib.suppress(BackupError), self.session(database) as there:
                        there("SET lock_timeout = %s", patience)
                        there("DROP OWNED BY {role}", role=role)
            if not role.startswith(LEFT):
                ask("ALTER ROLE {role} RENAME TO {left}", role=role, left=LEFT + secrets.token_hex(8))

    @contextlib.contextmanager
    def restored(self, database, dump, facts, superuser, analyze=False):
        """Restore a dump into the scratch database, which is gone again afterwards unless somebody renamed it."""
        self.take_scratch(database)
        try:
            self.make(facts)
            if superuser:
                self.restore_entries(dump)
                if analyze:
                    self.analyze()
            else:
                self.fill(dump, facts, analyze)
            self.sql("ALTER DATABASE {scratch} OWNER TO {owner}", scratch=self.scratch, owner=facts["owner"])
            yield
        finally:
            # What cannot be dropped now, the next run drops.
            with contextlib.suppress(Refused):
                self.drop(self.scratch)
            with contextlib.suppress(Refused):
                self.drop_role(self.scratch)

    def make(self, facts):
        """Make an empty scratch database like the one that the facts describe; only the superuser may connect to it yet."""
        provider, *more = {
            "i": ("LOCALE_PROVIDER icu ICU_LOCALE %s", facts["locale"] or ""),
            "b": ("LOCALE_PROVIDER builtin BUILTIN_LOCALE %s", facts["locale"] or ""),
        }.get(facts["provider"], ("LOCALE_PROVIDER libc",))
        with self.session() as ask:
            ask(
                "CREATE DATABASE {scratch} TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s " + provider,
                facts["encoding"], facts["collate"], facts["ctype"], *more, scratch=self.scratch,
            )  # fmt: skip
            ask("REVOKE ALL ON DATABASE {scratch} FROM PUBLIC", scratch=self.scratch)

    def fill(self, dump, facts, analyze):
        """Restore a dump into the scratch database, as a role that can become nobody else."""
        entries = self.run("pg_restore", "--list", str(dump)).split("\n")
        password = secrets.token_urlsafe(32)
        # Materialized views are filled after rows are hidden, from the owner of their table too (FORCE ROW LEVEL SECURITY). All
        # tables here are this role's, which could as well take that away; in no other database it may do anything.
        hidden = "BYPASSRLS" if any(map(ROW_SECURITY_ENTRY.match, entries)) else "NOBYPASSRLS"
        with self.session() as ask:
            ask(
                f"CREATE ROLE {{scratch}} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {hidden}"
                " PASSWORD %s",
                password,
                scratch=self.scratch,
            )
            ask("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {scratch} TO {scratch}", scratch=self.scratch)
        mine = self.prepare(entries, dict(facts["extensions"]))
        rest = [entry for entry in entries if entry not in mine]
        login = {"user": self.scratch, "password": password, "options": RESTORING}
        try:
            self.restore_entries(dump, [entry for entry in rest if not DEFAULT_ACL_ENTRY.match(entry)], **login)
            if analyze:
                self.analyze(**login)
        except BackupError as error:
            if "no pg_hba.conf entry" in error.details or "authentication failed" in error.details:
                message = f"pg_hba.conf lacks the line: local sameuser {','.join(SCRATCHES)} scram-sha-256"
                raise BackupError(message, error.details) from error
            if re.search("permission denied|must be (owner|superuser|able to|a member)", error.details):
                raise BackupError(f"{error}; {NEEDS_SUPERUSER}", error.details) from error
            if re.search(r"ERROR: +(relation|function|type|operator|text search \w+) .*does not exist", error.details):
                raise BackupError(f"{error}; {NO_SEARCH_PATH}", error.details) from error
            raise
        self.hand_over(facts["owner"], self.default_privileges(dump, rest), facts.get("former_owner"))

    def prepare(self, entries, schemas):
        """Make the extensions that a dump needs, before anything of the dump is there; returns the entries that this does."""
        names, mine = [], []
        for entry in entries:
            found = EXTENSION_ENTRY.match(entry)
            if found and (found[1] or found[2]):
                mine.append(entry)
                extension = EXTENSION_NAME.fullmatch(found[3])
                if not found[1]:
                    if not extension:
                        raise BackupError("the dump has an extension with a name that no extension has")
                    names.append(extension[1])
        dumped = {found[1]: entry for entry in entries if (found := SCHEMA_ENTRY.match(entry))}
        with self.session(self.scratch) as ask:
            ask("ALTER SCHEMA public OWNER TO {scratch}", scratch=self.scratch)
            for extension in names:
                schema = schemas.get(extension, "public")
                entry = dumped.get(re.sub("[\r\n]", " ", schema))  # as pg_restore lists it
                available = ask(AVAILABLE, extension)
                if not available:
                    raise BackupError(f"the server does not have the extension {extension}: install its package")
                trusted, its_own = available[0]
                if entry:
                    ask(
                        "CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {scratch}",
                        schema=schema,
                        scratch=self.scratch,
                    )
                    mine.append(entry)
                elif schema != "public" and not its_own:
                    raise BackupError(f"the extension {extension} is in a schema that the dump does not have")
                # Those that PostgreSQL calls trusted are for any owner of a database to make.
                if trusted:
                    ask("SET ROLE {scratch}", scratch=self.scratch)
                where = "" if its_own else " SCHEMA {schema}"
                ask("CREATE EXTENSION {extension}" + where, extension=extension, schema=schema)
                ask("RESET ROLE")
            # Rows that users put into an extension's tables, which belong to the superuser.
            for schema, table, is_sequence in ask(EXTENSION_TABLES):
                ask(
                    "GRANT UPDATE ON SEQUENCE {schema}.{table} TO {scratch}" if is_sequence else
                    "GRANT SELECT, INSERT ON {schema}.{table} TO {scratch}", schema=schema, table=table, scratch=self.scratch,
                )  # fmt: skip
        return mine

    def restore_entries(self, dump, entries=None, **login):
        """Restore what is on the list, or all; the first error ends it."""
        command = [
            "pg_restore",
            "--exit-on-error",
            self.place(self.scratch),
            "--no-publications",
            "--no-subscriptions",
            str(dump),
        ]
        if entries is None:
            self.run(*command)
        elif any(entry and not entry.startswith(";") for entry in entries):
            with listed(entries) as lines:
                self.run(*command, "--no-owner", "--use-list=/dev/stdin", stdin=lines, **login)

    def analyze(self, **login):
        """Let the planner know what is in the tables; indexes over functions run these."""
        self.run("vacuumdb", "--analyze-only", "--quiet", self.place(self.scratch), **login)

    def default_privileges(self, dump, entries):
        """The words of a dump's ALTER DEFAULT PRIVILEGES."""
        chosen = [entry for entry in entries if DEFAULT_ACL_ENTRY.match(entry)]
        if not chosen:
            return []
        with listed(chosen) as lines:
            script = self.run("pg_restore", "--file=-", "--use-list=/dev/stdin", str(dump), stdin=lines)
        return default_privileges(script)

    def hand_over(self, owner, default_privileges, former=None):
        """Give what the scratch role made to the owner of the database, and the role up. None of this runs anybody's code.

        What was the former owner's, in a backup of a database of another name, is this one's too.
        """
        sql = psycopg2().sql
        self.sql("ALTER ROLE {scratch} NOLOGIN", scratch=self.scratch)
        self.sql(DISCONNECT, None, self.scratch, None)
        # One transaction for all would need a lock for each of them, and the server has few.
        with self.session(self.scratch) as ask:
            for schema, relation in ask(RELATIONS, self.scratch):
                ask("ALTER TABLE {schema}.{relation} OWNER TO {owner}", schema=schema, relation=relation, owner=owner)
        with self.session(self.scratch, transaction=True) as ask:
            ask("REASSIGN OWNED BY {scratch} TO {owner}", scratch=self.scratch, owner=owner)
            ask("DROP OWNED BY {scratch}", scratch=self.scratch)
            if ask("SELECT true FROM pg_catalog.pg_namespace WHERE nspname = 'public'"):
                ask("ALTER SCHEMA public OWNER TO {owner}", owner=DATABASE_OWNER)
            for words in default_privileges:
                if former is not None:
                    words = {**words, **{key: owner for key in ("role", "grantee") if words[key] == former}}
                if words["role"] != owner:
                    raise BackupError(
                        f"the dump has default privileges of another role than its owner; {NEEDS_SUPERUSER}"
                    )
                names = {
                    "role": words["role"],
                    "grantee": sql.SQL("PUBLIC") if words["grantee"] is None else words["grantee"],
                }
                where = ""
                if words["schema"] is not None:
                    names["schema"], where = words["schema"], " IN SCHEMA {schema}"
                what = f"{words['verb']} {', '.join(words['privileges'])} ON {words['kind']}"
                whom = ("TO" if words["verb"] == "GRANT" else "FROM") + " {grantee}"
                option = " WITH GRANT OPTION" if words["option"] else ""
                statement = f"ALTER DEFAULT PRIVILEGES FOR ROLE {{role}}{where} {what} {whom}{option}"
                ask(statement, **names)
        self.drop_role(self.scratch)

    def tables(self, database):
        """How many tables a database has."""
        return self.sql("SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_user_tables", where=database)[0][0]

    def dress(self, facts, trusted):
        """Give the scratch database the grants, settings and limit of the one whose place it takes; returns what it could not.

        What a manifest says is not trusted like the server itself: of its settings, only those that anybody may make are made.
        """
        driver, problems = psycopg2(), []
        with self.session() as ask:

            def change(what, statement, *values, **names):
                try:
                    ask(statement, *values, scratch=self.scratch, **names)
                except driver.Error as error:
                    problems.append(
                        f"{printable(what)} was not taken over ({printable(error.diag.message_primary or '')})"
                    )

            kinds = dict(ask("SELECT pg_catalog.lower(name), context FROM pg_catalog.pg_settings"))
            ask("ALTER DATABASE {scratch} RESET ALL", scratch=self.scratch)
            for role, privilege, grantable in facts["grants"]:
                if privilege not in PRIVILEGES:
                    problems.append("a privilege that databases do not have was not taken over")
                    continue
                change(
                    f"a grant to {role or 'PUBLIC'}",
                    f"GRANT {privilege} ON DATABASE {{scratch}} TO {{role}}"
                    + (" WITH GRANT OPTION" if grantable else ""),
                    role=role if role else driver.sql.SQL("PUBLIC"),
                )
            if facts["settings"] is None:
                problems.append("the settings of the database were not taken over: there are too many")
            for role, settings in facts["settings"] or []:
                for setting, value in (entry.split("=", 1) for entry in settings):
                    if not trusted and kinds.get(setting.lower()) != "user":
                        problems.append(
                            f"the setting {printable(setting)} was not taken over: only the superuser may make it"
                        )
                        continue
                    values = names_of(value) if setting in LIST_SETTINGS else [value]
                    change(
                        f"the setting {setting}",
                        ("ALTER ROLE {role} IN DATABASE {scratch}" if role else "ALTER DATABASE {scratch}")
                        + " SET {setting} TO " + ", ".join(["%s"] * len(values)),
                        *values, role=role or self.scratch,
                        setting=driver.sql.SQL(".").join(map(driver.sql.Identifier, setting.split("."))),
                    )  # fmt: skip
            ask("ALTER DATABASE {scratch} CONNECTION LIMIT %s", int(facts["connection_limit"]), scratch=self.scratch)
        return problems

    def swap(self, database, kept):
        """Put the scratch database in the other's place in one transaction, closing the other's connections.

        The first rename keeps new connections out until the end; meanwhile a second session closes those that are there.
        """
        problems = []

        def rename():
            try:
                with self.session(transaction=True) as ask:
                    ask("ALTER DATABASE {database} RENAME TO {kept}", database=database, kept=kept)
                    ask("ALTER DATABASE {scratch} RENAME TO {database}", database=database, scratch=self.scratch)
            except BackupError as error:
                problems.append(error)

        deadline = time.monotonic() + SWAP_SECONDS
        while True:
            problems.clear()
            renaming = threading.Thread(target=rename)
            renaming.start()
            try:
                while renaming.is_alive():
                    self.disconnect(database)
                    renaming.join(0.1)
            finally:
                renaming.join()
            if not problems:
                break
            if "accessed by other users" not in problems[0].details:
                raise BackupError("the databases could not be renamed; nothing has changed", problems[0].details)
            if time.monotonic() > deadline:
                raise BackupError(
                    f"{database} is still in use after {SWAP_SECONDS} s; nothing has changed", problems[0].details
                )
        # Whoever is not the superuser has no business in what was replaced.
        self.sql("ALTER DATABASE {kept} CONNECTION LIMIT 0", kept=kept)

    def rename_scratch(self, database):
        """Make the scratch database the database that was not there."""
        self.sql("ALTER DATABASE {scratch} RENAME TO {database}", scratch=self.scratch, database=database)


class Refused(BackupError):
    """The server refused a statement of the superuser's."""

    def __init__(self, error):
        super().__init__("PostgreSQL refused a statement", without_rows(str(error)))
        self.code = error.pgcode


class Tail:
    """The end of what a program complains of, which code in a dump can make endless."""

    def __init__(self, stream):
        self.stream, self.end = stream, b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while part := self.stream.read(COMPLAINT_BYTES):
            self.end = (self.end + part)[-COMPLAINT_BYTES:]

    def text(self):
        self.reader.join(5)
        # Somebody whom the program left behind may hold the other end; that is not waited for.
        if not self.reader.is_alive():
            self.stream.close()
        return self.end.decode(errors="replace")


class Store:
    """The directory of the backups. Which one is the newest, a number that grows says: a clock may have been wrong."""

    def __init__(self, directory):
        self.directory = Path(directory)

    def manifests(self):
        """Every .json file that is one of ours."""
        for path in self.directory.glob("*.json"):
            manifest = checked(read_json(path))
            if manifest and f"{manifest['file']}.json" == path.name:
                yield path, manifest

    def backups(self, database=None, proven=True):
        """What is there of all or of one, newest first: the .json files whose dumps exist in the right size."""
        found = []
        for _, manifest in self.manifests():
            file = self.directory / manifest["file"]
            wanted = database in (None, manifest["database"]) and manifest["proven"] is proven
            if wanted and file.is_file() and file.stat().st_size == manifest["size"]:
                found.append(manifest)
        return sorted(found, key=age, reverse=True)

    def next(self):
        """A number that no backup here has had."""
        return 1 + max((manifest["sequence"] for _, manifest in self.manifests()), default=0)

    def clean(self):
        """Remove what a run that was killed has not finished."""
        for path in self.directory.glob(".*.tmp"):
            path.unlink()
        for path, manifest in self.manifests():
            if not (self.directory / manifest["file"]).exists():
                path.unlink()

    @contextlib.contextmanager
    def new(self, label, suffix, taken):
        """Where to write a backup; it gets its final name, beside its manifest, if nothing fails on the way.

        What is whole when something fails, which the block says by "proven": False in the manifest, is kept under another name.
        """
        sequence = self.next()
        stem = f"{quote(label, safe='')}-{taken:%Y%m%dT%H%M%SZ}"
        if any(self.directory.glob(f"{stem}{suffix}*")):
            stem += f"-{sequence}"
        temporary = self.directory / f".{stem}{suffix}.tmp"
        manifest = {"file": f"{stem}{suffix}", "taken": iso(taken), "sequence": sequence}
        try:
            # Made here: nobody else can read it from the first moment on.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                yield temporary, manifest
            except Exception:
                if manifest.get("proven") is False:
                    manifest["file"] += UNPROVEN
                    self.publish(temporary, manifest)
                raise
            manifest["proven"] = True
            self.publish(temporary, manifest)
        except OSError as error:
            raise BackupError(f"{error.filename or self.directory}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def publish(self, temporary, manifest):
        sync(temporary)
        manifest |= {"size": temporary.stat().st_size, "sha256": sha256(temporary)}
        # The manifest first: a dump without one would look as if nobody had proven it.
        write_json(self.directory / f"{manifest['file']}.json", manifest, 0o600)
        os.rename(temporary, self.directory / manifest["file"])
        sync(self.directory)

    def remove(self, manifest):
        (self.directory / manifest["file"]).unlink()
        (self.directory / f"{manifest['file']}.json").unlink()
        return manifest["file"]

    def prune(self, database, keep_days, keep_last, now):
        """Remove what is older than so many days, but never the newest ones. Only ever called after a success."""
        backups = self.backups(database)
        old = [
            manifest for manifest in backups[keep_last:]
            if datetime.fromisoformat(manifest["taken"]) < now - timedelta(days=keep_days)
        ]  # fmt: skip
        # What nobody could prove is of no use beside a newer one that is proven.
        superseded = [
            manifest for manifest in self.backups(database, proven=False) if backups and age(manifest) < age(backups[0])
        ]
        return [self.remove(manifest) for manifest in old + superseded]

    def limit_unproven(self, database):
        """Of those that nobody could prove the first stays, and the newest: the disk is not theirs."""
        newest_first = self.backups(database, proven=False)
        return [self.remove(manifest) for manifest in newest_first[KEPT_UNPROVEN - 1 : -1]]


class Backup:
    """The whole: one configuration, one server, one store."""

    def __init__(self, config):
        self.config = config
        self.store = Store(config["directory"])
        self.state = Path(config["state_directory"])
        self.cluster = Cluster(config["port"], self.state / "scratch.json")

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

    # ---- forget

    def forget(self, database, wait, dry_run):
        """Remove every backup of a database that is not there any more; returns their files."""
        with self.locked(wait):
            if self.cluster.facts(database) is not None:
                raise BackupError(f"the database {printable(database)} is there; its backups stay")
            found = [*self.store.backups(database), *self.store.backups(database, proven=False)]
            return [manifest["file"] if dry_run else self.store.remove(manifest) for manifest in found]

    # ---- run

    def run(self, asked, wait):
        """Back databases up. Returns what happened to each; raises only if nothing could be tried at all."""
        with self.locked(wait):
            self.store.clean()
            self.cluster.clean()
            there = self.cluster.databases()
            configured = self.config["databases"] or there
            now = datetime.now(UTC).replace(microsecond=0)
            # What failed the last time comes last: it may take all the time that it has.
            states = (read_json(self.state / "status.json") or {}).get("databases", {})
            order = sorted(asked or configured, key=lambda database: states.get(database, {}).get("result") == "failed")
            outcomes = {database: self.attempt(database, self.dump, now) for database in order}
            if not asked:
                outcomes[ROLES] = self.attempt(ROLES, self.dump_roles, now)
            try:
                self.record(outcomes, [*configured, ROLES], complete=not asked)
            except OSError as error:
                outcomes[str(error.filename)] = {"error": f"cannot be written: {error.strerror}", "details": ""}
        return outcomes

    def attempt(self, database, work, now):
        """Back one thing up; whatever goes wrong with it leaves the others alone."""
        begun, first = time.monotonic(), self.store.next()
        try:
            manifest = work(database, now)
            removed = self.store.prune(database, self.config["keep_days"], self.config["keep_last"], now)
        except Exception as error:  # a fault of ours must not cost the other databases their backup
            outcome = {"error": str(error), "details": getattr(error, "details", "")}
            if not isinstance(error, BackupError):
                outcome = {"error": f"{type(error).__name__}: {error}", "details": traceback.format_exc()}
            with contextlib.suppress(OSError):
                self.store.limit_unproven(database)
                kept = self.store.backups(database, proven=False)[:1]
                if kept and kept[0]["sequence"] >= first:
                    outcome["unproven"] = kept[0]["file"]
            return outcome
        shown = {key: manifest[key] for key in ("file", "size", "taken", "tables") if key in manifest}
        return {**shown, "seconds": round(time.monotonic() - begun, 1), "removed": removed}

    def seconds(self, database, size):
        """How long a database may take: the inventory's word, or what its size asks for."""
        return self.config.get("timeouts", {}).get(database) or LEAST_SECONDS + size // BYTES_A_SECOND

    def dump(self, database, now):
        """Dump a database, prove the dump, keep it."""
        facts = self.cluster.facts(database)
        if facts is None:
            raise BackupError("there is no such database")
        size = facts.pop("size")
        if facts["settings"] is None:
            raise BackupError(
                "its settings (ALTER DATABASE … SET) take more than a megabyte: ALTER DATABASE … RESET ALL"
            )
        last = self.store.backups(database)[:1]
        self.need({self.store.directory: last[0]["size"] * 1.2 if last else size, self.data_directory(): size * 1.2})
        facts["extensions"] = self.cluster.extensions(database)
        superuser = database in self.config["superuser_databases"]
        with (
            self.cluster.limited(self.seconds(database, size)),
            self.store.new(database, ".dump", now) as (temporary, manifest),
        ):
            self.cluster.run(
                "pg_dump",
                "--format=custom",
                self.cluster.place(database),
                f"--file={temporary}",
                "--no-password",
                "--lock-wait-timeout=300000",
            )
            manifest |= {"database": database, "proven": False, **facts}
            tables = self.cluster.tables(database)
            try:
                with self.cluster.restored(database, temporary, facts, superuser):
                    manifest["tables"] = self.cluster.tables(self.cluster.scratch)
            except BackupError as error:
                raise BackupError(f"the dump cannot be restored: {error}", error.details) from error
            if tables and not manifest["tables"]:
                raise BackupError(f"the dump holds none of the {tables} tables")
        return manifest

    def dump_roles(self, _database, now):
        """Keep the roles and their memberships. Not their passwords: those come from the inventory."""
        with self.cluster.limited(LEAST_SECONDS), self.store.new("roles", ".sql", now) as (temporary, manifest):
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
        return Path(self.cluster.sql("SHOW data_directory")[0][0])

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
        """Find the backup of a database to restore: its path and what its manifest says."""
        if wanted == "latest":
            found = self.store.backups(database)
            if not found:
                raise BackupError(f"there is no backup of {database} in {self.store.directory}")
            return self.store.directory / found[0]["file"], found[0]
        path = self.store.directory / wanted
        if not path.is_file():
            raise BackupError(f"{path} does not exist")
        content = read_json(path.with_name(f"{path.name}.json"))
        manifest = checked(content)
        if content is not None and manifest is None:
            raise BackupError(f"{path}.json is not the manifest of a backup")
        return path, manifest or {}

    def check(self, database, path, manifest):
        """Be sure that a file is what it should be before anything is done with it; returns whose objects are in it."""
        if manifest and sha256(path) != manifest.get("sha256"):
            raise BackupError(f"{path} is damaged: its checksum is not that of its manifest")
        with self.cluster.limited(LEAST_SECONDS):
            listing = self.cluster.run("pg_restore", "--list", str(path))
        holds = re.search(r"^; +dbname: (.*)$", listing, re.MULTILINE)
        if holds and holds[1] != database:
            raise BackupError(
                f"{path} is a backup of {printable(holds[1])}, not of {database}: --from if that is meant"
            )
        return owners_of(listing)

    def restore(self, database, wanted, wait, dry_run, timeout=None, owner_takes_all=False, source=None):
        """Put a backup in a database's place: its own, or that of another one, the source."""
        if database in ("postgres", "template0", "template1", *SCRATCHES):
            raise BackupError(f"{database} is not a database to restore")
        source = source or database
        with self.locked(wait):
            path, manifest = self.choose(source, wanted)
            owners = self.check(source, path, manifest)
            there = self.cluster.facts(database)
            if source != database:
                there, manifest = self.renamed(database, source, there, manifest)
            facts = there or manifest
            if not facts or "owner" not in facts:
                raise BackupError(f"{database} does not exist and {path.name} has no manifest: make the database first")
            size = max((there or {}).get("size", 0), 5 * path.stat().st_size)
            self.need({self.data_directory(): size})
            superuser = self.cluster.is_superuser(facts["owner"])
            if superuser is None:
                raise BackupError(
                    f"the owner of {database}, the role {printable(facts['owner'])}, does not exist: make it first"
                )
            if superuser and database not in self.config["superuser_databases"]:
                raise BackupError(
                    f"{database} belongs to the superuser {printable(facts['owner'])}, who would own all that is in the backup:"
                    " name it in postgresql_backup_superuser_databases if that is meant, or give the database to another role"
                )
            trusted = {facts["owner"], facts.get("former_owner"), DATABASE_OWNER, *self.cluster.superusers()}
            if not owners <= trusted and database not in self.config["superuser_databases"] and not owner_takes_all:
                raise BackupError(
                    f"what the roles {', '.join(map(printable, sorted(owners - trusted)))} have in the backup would belong to"
                    f" {printable(facts['owner'])}, and their functions and views would act with its rights:"
                    " --owner-takes-all if that is meant"
                )
            kept = self.name_of_kept(database)
            newer = [
                each["file"]
                for each in self.store.backups(source, proven=False)
                if manifest and age(each) > age(manifest)
            ]
            result = {
                "database": database,
                "source": source,
                "file": path.name,
                "taken": manifest.get("taken"),
                "kept": kept if there else None,
                "proven": manifest.get("proven", False),
                "newer_unproven": newer[0] if newer else None,
                "problems": [],
            }
            if dry_run:
                return result
            # Where the extensions of a dump lie, its own manifest knows best; a database that is broken may not answer at all.
            extensions = manifest.get("extensions", [])
            if there and "extensions" not in manifest:
                with contextlib.suppress(BackupError):
                    extensions = self.cluster.extensions(database)
            facts = {**facts, "extensions": extensions}
            with (
                self.cluster.limited(timeout or self.seconds(database, size)),
                self.cluster.restored(
                    database, path, facts, database in self.config["superuser_databases"], analyze=True
                ),
            ):
                result["tables"] = self.cluster.tables(self.cluster.scratch)
                result["problems"] = self.cluster.dress(facts, trusted=source == database and bool(there))
                if there:
                    self.cluster.swap(database, kept)
                else:
                    self.cluster.rename_scratch(database)
        return result

    def name_of_kept(self, database):
        """What the database is called that a restore takes the place of; there may have been another one in this second."""
        begin, at = database[: LONGEST_NAME - len(BEFORE_RESTORE) - 14], datetime.now(UTC)
        while self.cluster.facts(name := f"{begin}{BEFORE_RESTORE}{at:%Y%m%d%H%M%S}"):
            at += timedelta(seconds=1)
        return name

    def renamed(self, database, source, there, manifest):
        """What is known of a database that a backup of another one goes into: it keeps its owner and who may connect, and gets
        the encoding, the locale and the settings of the other one."""
        if there is None:
            raise BackupError(f"{database} does not exist: the playbook site makes it, with its owner")
        if database in self.config["superuser_databases"]:
            raise BackupError(
                f"{database} is one of postgresql_backup_superuser_databases: a backup of another database is restored as its"
                " owner alone"
            )
        if "owner" not in manifest:
            return there, manifest
        former = manifest["owner"]
        taken = {key: manifest[key] for key in ("encoding", "collate", "ctype", "provider", "locale")}
        settings = manifest["settings"] and [
            [there["owner"] if role == former else role, values] for role, values in manifest["settings"]
        ]
        return {**there, **taken, "settings": settings, "former_owner": former}, manifest


# ---- small things


def psycopg2():
    """The driver, from Debian's python3-psycopg2. Its statements are composed of identifiers and values."""
    try:
        importlib.import_module("psycopg2.sql")
        importlib.import_module("psycopg2.extensions")
        return importlib.import_module("psycopg2")
    except ImportError as error:
        raise BackupError("the package python3-psycopg2 is missing") from error


def is_text(value):
    return isinstance(value, str) and "\0" not in value


def is_name(value):
    return value is None or is_text(value)


def is_number(value):
    return type(value) is int


def is_flag(value):
    return type(value) is bool


def is_file(value):
    return is_text(value) and bool(re.fullmatch(r"[^/.][^/]*", value))


def is_moment(value):
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def are_settings(value):
    return isinstance(value, list) and all(is_text(each) and "=" in each for each in value)


def are_rows(*kinds):
    def check(value):
        return isinstance(value, list) and all(
            isinstance(row, list)
            and len(row) == len(kinds)
            and all(kind(each) for kind, each in zip(kinds, row, strict=True))
            for row in value
        )

    return check


ALWAYS = {
    "database": is_text,
    "file": is_file,
    "size": is_number,
    "taken": is_moment,
    "sequence": is_number,
    "proven": is_flag,
}
# Of a database, not of the roles.
DESCRIPTION = {
    "owner": is_text,
    "encoding": is_text,
    "collate": is_text,
    "ctype": is_text,
    "provider": is_text,
    "locale": is_name,
    "connection_limit": is_number,
    "grants": are_rows(is_name, is_text, is_flag),
    "settings": are_rows(is_name, are_settings),
}
# What a backup from before there was such a thing lacks.
LATER = {"sha256": is_text, "tables": is_number, "extensions": are_rows(is_text, is_text)}


def checked(manifest):
    """A manifest that is one of ours, or None. What it says becomes a value or an identifier, nothing else."""
    if not isinstance(manifest, dict):
        return None
    manifest = {"sequence": 0, "proven": True, **manifest}
    keys = set(ALWAYS) | (set(DESCRIPTION) if "owner" in manifest else set())
    kinds = {**ALWAYS, **DESCRIPTION, **LATER}
    good = keys <= set(manifest) and all(kinds[key](value) for key, value in manifest.items() if key in kinds)
    return manifest if good else None


def age(manifest):
    """What backups are put in order by; those from before they had a number come first."""
    return manifest["sequence"], manifest["taken"], manifest["file"]


def default_privileges(script):
    """The words of each ALTER DEFAULT PRIVILEGES in what pg_restore wrote; anything else that looks like one is an error."""
    found = []
    for line in script.split("\n"):
        if not line.startswith("ALTER DEFAULT PRIVILEGES"):
            continue
        words = DEFAULT_ACL.fullmatch(line)
        privileges = words["privileges"].split(",") if words else []
        if not words or not set(privileges) <= KINDS_OF_PRIVILEGES:
            raise BackupError("the dump has default privileges of a kind that is not known here")
        plain = {key: unquoted(words[key]) if words[key] else None for key in ("role", "schema", "grantee")}
        plain["grantee"] = None if words["grantee"] == "PUBLIC" else plain["grantee"]
        found.append(
            {
                **plain,
                "verb": words["verb"],
                "kind": words["kind"],
                "privileges": privileges,
                "option": bool(words["option"]),
            }
        )
    return found


def owners_of(listing):
    """The roles that own something in a dump: what pg_restore --list ends its lines with, after the names of the objects."""
    entries = (line for line in listing.split("\n") if re.match(r"\d+; ", line))
    return {entry.rpartition(" ")[2] for entry in entries} - {""}


def unquoted(identifier):
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def names_of(value):
    """The names of a list such as search_path, as PostgreSQL reads it."""
    return [
        quoted.replace('""', '"') if quoted or not plain else plain.lower()
        for quoted, plain in re.findall(r'"((?:[^"]|"")*)"|([^\s,"][^\s,]*)', value)
    ]


@contextlib.contextmanager
def listed(entries):
    """A file without a name, which pg_restore reads as its list."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        lines.write("\n".join(entries) + "\n")
        lines.seek(0)
        yield lines


def printable(text):
    """A text for a terminal: whatever it was written by, it moves no cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def ending(code):
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def without_rows(text):
    """An error's text without the rows that it quotes: they are the users' data."""
    kept, skip = [], False
    for line in map(printable, text.strip().split("\n")):
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
        with open(path, "rb") as file:
            return json.loads(file.read(MANIFEST_BYTES))
    except (FileNotFoundError, ValueError, RecursionError):
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
    leave_terminal()
    # Nobody's PG* variables, and no file in a home that names other servers or passwords.
    for variable in [each for each in os.environ if each.startswith("PG")]:
        del os.environ[variable]
    os.environ.update(
        HOME=account.pw_dir, USER="postgres", LOGNAME="postgres", PGPASSFILE="/nonexistent", PGSERVICEFILE="/nonexistent",
        PGSYSCONFDIR="/nonexistent",
    )  # fmt: skip
    os.chdir("/")
    os.umask(0o077)


def leave_terminal():
    """Give root's terminal up: what runs as postgres could type into it. What stands on it still gets there."""
    with contextlib.suppress(OSError), open("/dev/tty", "rb", buffering=0) as terminal:
        if os.getsid(0) != os.getpid():
            fcntl.ioctl(terminal, termios.TIOCNOTTY)


def stop(_signal, _frame):
    raise Stopped


def fail(config, problems):
    """Be loud: on stderr, which cron mails; in the journal, as errors; by the hook."""
    for where, message, details in (
        (printable(where), printable(message), details) for where, message, details in problems
    ):
        print(f"postgresql-backup: {where}: {message}", file=sys.stderr)
        syslog.syslog(syslog.LOG_ERR, f"{where}: {message}")
        for line in map(printable, details.splitlines()):
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
            kept = f" (kept, unproven: {outcome['unproven']})" if "unproven" in outcome else ""
            lines.append(f"{database}: FAILED, {outcome['error']}{kept}")
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


def command_check(backup, arguments):
    """Whether tonight's run will find its server and any of its databases; the role asks before it keeps a configuration."""
    port, configured = backup.cluster.port, backup.config["databases"]
    try:
        there = backup.cluster.databases()
    except BackupError as error:
        answering = sorted(path.name.rsplit(".", 1)[1] for path in Path(SOCKET_DIRECTORY).glob(".s.PGSQL.[0-9]*[0-9]"))
        raise BackupError(
            f"no PostgreSQL lets the superuser in at port {port} (postgresql_backup_port); ports with a server here:"
            f" {', '.join(answering) or 'none'}", error.details,
        ) from error  # fmt: skip
    if configured and not set(configured) & set(there):
        raise BackupError(
            f"the PostgreSQL at port {port} (postgresql_backup_port) has none of the databases that are to be backed up:"
            f" {printable(', '.join(configured))}"
        )
    return report(arguments, {"port": int(port)}, [f"the server at port {port} can be backed up"])


def command_list(backup, arguments):
    both = [*backup.store.backups(arguments.database), *backup.store.backups(arguments.database, proven=False)]
    found = sorted((manifest for manifest in both if manifest["database"] != ROLES), key=age, reverse=True)
    keys = ("database", "taken", "file", "size", "tables", "sha256", "proven")
    lines = [
        f"{printable(manifest['database']):<24} {manifest['taken']}  {human(manifest['size']):>9}  {printable(manifest['file'])}"
        + ("" if manifest["proven"] else "  UNPROVEN")
        for manifest in found
    ]
    return report(arguments, [{key: manifest.get(key) for key in keys} for manifest in found], lines or ["no backups"])


def command_forget(backup, arguments):
    files = backup.forget(arguments.database, arguments.wait, arguments.dry_run)
    verb = "would remove" if arguments.dry_run else "removed"
    return report(arguments, files, [f"{verb} {printable(file)}" for file in files] or ["no backups"])


def command_restore(backup, arguments):
    result = backup.restore(
        arguments.database,
        arguments.file,
        arguments.wait,
        arguments.dry_run,
        arguments.timeout,
        arguments.owner_takes_all,
        arguments.source,
    )
    database, kept = result["database"], result["kept"]
    if arguments.dry_run:
        lines = [f"would restore {database} from {result['file']}, taken {result['taken'] or 'at an unknown time'}"]
        lines += [f"would keep the present one as {kept}"] if kept else [f"{database} does not exist now"]
        lines += [] if result["proven"] else ["nobody has proven that this one can be restored"]
        if result["newer_unproven"]:
            lines += [f"there is a newer one that could not be proven: --file {result['newer_unproven']}"]
    else:
        lines = [f"restored {database} from {result['file']}: {result['tables']} tables"]
        if kept:
            lines += [
                f"kept the one before as {kept}; when nobody needs it: runuser --pty -u postgres -- dropdb {kept}"
            ]
        lines += result["problems"]
        syslog.syslog(syslog.LOG_NOTICE, "; ".join(lines))
    return report(arguments, result, lines)


def report(arguments, content, lines):
    if arguments.json:
        print(json.dumps(content))
    elif not arguments.quiet:
        print("\n".join(map(printable, lines)))
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
    commands.add_parser("check", parents=[common], help="see whether the server is there")
    show = commands.add_parser("list", parents=[common], help="show what there is")
    show.add_argument("database", nargs="?", metavar="DATABASE")
    forget = commands.add_parser("forget", parents=[working], help="remove every backup of a database that is gone")
    forget.add_argument("database", metavar="DATABASE")
    restore = commands.add_parser("restore", parents=[working], help="put a backup in a database's place")
    restore.add_argument("database", metavar="DATABASE")
    restore.add_argument(
        "--file",
        default="latest",
        help="a file of the backup directory, or a path (default: the newest that is proven)",
    )
    restore.add_argument(
        "--from",
        dest="source",
        metavar="DATABASE",
        help="a backup of this other database, whose owner's objects shall belong to the database's owner",
    )
    restore.add_argument(
        "--timeout", type=int, metavar="SECONDS", help="how long it may take (default: as for a backup)"
    )
    restore.add_argument(
        "--owner-takes-all",
        action="store_true",
        help="also what other roles have in the backup shall belong to the database's owner",
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
        commands = {
            "run": command_run,
            "check": command_check,
            "list": command_list,
            "forget": command_forget,
            "restore": command_restore,
        }
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
