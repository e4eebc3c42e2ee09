"""The database server, spoken to as its superuser: the statements of ours, and PostgreSQL's own programs.

The superuser's sessions go into databases that an application owns. There it can have put functions, tables and operators of any
name, and settings for whoever connects. So each session says first what it finds by a name and who it is (PINNED, SESSION), each
statement names the schema of what it uses, and no value becomes part of a statement's text.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from .messages import BackupError, Refused, ending, printable, without_rows
from .names import SCRATCH, SCRATCHES

# What a statement answers, and what asks one: the statement, its values, and its names by keyword.
Rows = list[Any]
Ask = Callable[..., Rows]

SOCKET_DIRECTORY = "/var/run/postgresql"
# In the name of a database whose place another one has taken.
BEFORE_RESTORE = "_before_restore_"
# How much the settings may take that an application made for whoever connects to its database.
SETTINGS_BYTES = 1024 * 1024
# How much of what a program complains of is kept.
COMPLAINT_BYTES = 64 * 1024
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
NO_LOCKS = (
    "the server's table of locks is full, which one role can bring about; end its sessions from the shell:"
    " ps -C postgres -o pid,args (postgres: ROLE DATABASE …), kill PID"
)

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
DISCONNECT = """
SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_catalog.pg_backend_pid() AND (datname = %s OR usename = %s OR application_name = %s AND usename = 'postgres')
"""


def psycopg2() -> Any:
    """The driver, from Debian's python3-psycopg2. Its statements are composed of identifiers and values.

    Imported only where a statement is made: --help, list and a message about a missing package need none.
    """
    try:
        importlib.import_module("psycopg2.sql")
        importlib.import_module("psycopg2.extensions")
        return importlib.import_module("psycopg2")
    except ImportError as error:
        raise BackupError("the package python3-psycopg2 is missing") from error


class Cluster:
    """The server behind the unix socket, and the name of the scratch database that is in use (scratch.py chooses it)."""

    def __init__(self, port: int) -> None:
        self.port = str(port)
        self.scratch = SCRATCH
        self.later: str | None = None
        self.end: float | None = None  # when what is done now has to be done
        self.seconds = 0
        self.application = f"postgresql-backup-{secrets.token_hex(8)}"

    @contextlib.contextmanager
    def limited(self, seconds: int) -> Iterator[None]:
        """Programs that run meanwhile have so many seconds together."""
        self.end, self.seconds = time.monotonic() + seconds, seconds
        try:
            yield
        finally:
            self.end = None

    def run(
        self,
        *command: str,
        stdin: int | IO[str] = subprocess.DEVNULL,
        options: str = PROGRAM,
        user: str = "postgres",
        password: str = "",
    ) -> str:
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
            complaint = Tail(cast("IO[bytes]", process.stderr))
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
                    # The server notices late that nobody waits for it any more: its session would go on with its statement, and
                    # keep the scratch database from being dropped.
                    self.disconnect()
                said = complaint.text()
            if process.returncode != 0:
                raise BackupError(f"{command[0]} failed ({ending(process.returncode)})", without_rows(said))
            printed.seek(0)
            return printed.read().decode(errors="replace")

    def pinned_later(self) -> str:
        """What this server's version has to be told beside PINNED; in the database postgres only the superuser makes settings."""
        if self.later is None:
            self.later = ""
            version = int(self.sql("SELECT pg_catalog.current_setting('server_version_num')")[0][0])
            self.later = "".join(
                f" -c {setting}" for first, more in PINNED_LATER.items() if version >= first for setting in more
            )
        return self.later

    def place(self, database: str) -> str:
        """How a program is told the database, whose name may look like anything."""
        return f"--dbname={psycopg2().extensions.make_dsn(dbname=database)}"

    @contextlib.contextmanager
    def session(self, where: str = "postgres", transaction: bool = False) -> Iterator[Ask]:
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

                def ask(statement: str, *values: Any, **names: Any) -> Rows:
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

    def sql(self, statement: str, *values: Any, where: str = "postgres", **names: Any) -> Rows:
        """Run one statement as the superuser and return its rows."""
        with self.session(where) as ask:
            return ask(statement, *values, **names)

    def databases(self) -> list[str]:
        """Every database that somebody might miss, also where its owner made it a template or lets nobody in."""
        return [row[0] for row in self.sql(DATABASES, list(SCRATCHES), BEFORE_RESTORE)]

    def facts(self, database: str) -> dict[str, Any] | None:
        """What CREATE DATABASE has to know to make one like it; None if it is not there."""
        rows = self.sql(FACTS, SETTINGS_BYTES, database)
        return rows[0][0] if rows else None

    def extensions(self, database: str) -> list[list[str]]:
        """A database's extensions, each with its schema."""
        return [list(row) for row in self.sql(EXTENSIONS, where=database)]

    def superusers(self) -> set[str]:
        return {row[0] for row in self.sql("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")}

    def is_superuser(self, role: str) -> bool | None:
        """Whether the role is a superuser; None if there is no such role."""
        rows = self.sql("SELECT rolsuper FROM pg_catalog.pg_authid WHERE rolname = %s", role)
        return rows[0][0] if rows else None

    def tables(self, database: str) -> int:
        """How many tables a database has."""
        return int(self.sql("SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_user_tables", where=database)[0][0])

    def disconnect(self, database: str | None = None) -> None:
        """End the sessions in a database, those of the scratch role and those of this program's own programs."""
        self.sql(DISCONNECT, database or self.scratch, self.scratch, None if database else self.application)


class Tail:
    """The end of what a program complains of, which code in a dump can make endless."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.end = stream, b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        while part := self.stream.read(COMPLAINT_BYTES):
            self.end = (self.end + part)[-COMPLAINT_BYTES:]

    def text(self) -> str:
        self.reader.join(5)
        # Somebody whom the program left behind may hold the other end; that is not waited for.
        if not self.reader.is_alive():
            self.stream.close()
        return self.end.decode(errors="replace")
