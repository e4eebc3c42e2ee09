"""Fill the scratch database from a dump, as a role that can do nothing else, and give all of it to its owner.

Code that lies in a dump runs while it is restored: what a CHECK constraint, an index or a materialized view calls. As the
superuser it would have the whole server; as the owner, the application's live data and all that the owner was granted. So it runs
as the scratch role, which may do nothing outside this database, is a member of nothing and may log in only while this goes on.
What that role cannot do, the superuser does before anything of the dump is there (extensions), or after the role has lost its
login and its sessions (owners, default privileges).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .cluster import DISCONNECT, PINNED, Cluster, psycopg2
from .listing import (
    DEFAULT_ACL_ENTRY,
    EXTENSION_ENTRY,
    EXTENSION_NAME,
    ROW_SECURITY_ENTRY,
    SCHEMA_ENTRY,
    default_privileges,
)
from .messages import BackupError
from .names import SCRATCHES

# What the sessions of the scratch role say first; they may log what they like, and are over when the time of the database is.
RESTORING = " ".join(f"-c {setting}" for setting in (*PINNED, "statement_timeout=0", "lock_timeout=1min"))
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


def fill(cluster: Cluster, dump: Path, facts: dict[str, Any], analyzed: bool) -> None:
    """Restore a dump into the scratch database, as a role that can become nobody else."""
    entries = cluster.run("pg_restore", "--list", str(dump)).split("\n")
    password = secrets.token_urlsafe(32)
    # Materialized views are filled after rows are hidden, from the owner of their table too (FORCE ROW LEVEL SECURITY). All
    # tables here are this role's, which could as well take that away; in no other database it may do anything.
    hidden = "BYPASSRLS" if any(map(ROW_SECURITY_ENTRY.match, entries)) else "NOBYPASSRLS"
    with cluster.session() as ask:
        ask(
            f"CREATE ROLE {{scratch}} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {hidden}"
            " PASSWORD %s",
            password,
            scratch=cluster.scratch,
        )
        ask("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {scratch} TO {scratch}", scratch=cluster.scratch)
    mine = prepare(cluster, entries, dict(facts["extensions"]))
    rest = [entry for entry in entries if entry not in mine]
    login: dict[str, Any] = {"user": cluster.scratch, "password": password, "options": RESTORING}
    try:
        restore_entries(cluster, dump, [entry for entry in rest if not DEFAULT_ACL_ENTRY.match(entry)], **login)
        if analyzed:
            analyze(cluster, **login)
    except BackupError as error:
        if "no pg_hba.conf entry" in error.details or "authentication failed" in error.details:
            message = f"pg_hba.conf lacks the line: local sameuser {','.join(SCRATCHES)} scram-sha-256"
            raise BackupError(message, error.details) from error
        if re.search("permission denied|must be (owner|superuser|able to|a member)", error.details):
            raise BackupError(f"{error}; {NEEDS_SUPERUSER}", error.details) from error
        if re.search(r"ERROR: +(relation|function|type|operator|text search \w+) .*does not exist", error.details):
            raise BackupError(f"{error}; {NO_SEARCH_PATH}", error.details) from error
        raise
    hand_over(cluster, facts["owner"], privileges_in(cluster, dump, rest), facts.get("former_owner"))


def prepare(cluster: Cluster, entries: list[str], schemas: dict[str, str]) -> list[str]:
    """Make the extensions that a dump needs, before anything of the dump is there; returns the entries that this does."""
    names: list[str] = []
    mine: list[str] = []
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
    with cluster.session(cluster.scratch) as ask:
        ask("ALTER SCHEMA public OWNER TO {scratch}", scratch=cluster.scratch)
        for name in names:
            schema = schemas.get(name, "public")
            in_dump = dumped.get(re.sub("[\r\n]", " ", schema))  # as pg_restore lists it
            available = ask(AVAILABLE, name)
            if not available:
                raise BackupError(f"the server does not have the extension {name}: install its package")
            trusted, its_own = available[0]
            if in_dump:
                ask(
                    "CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {scratch}",
                    schema=schema,
                    scratch=cluster.scratch,
                )
                mine.append(in_dump)
            elif schema != "public" and not its_own:
                raise BackupError(f"the extension {name} is in a schema that the dump does not have")
            # Those that PostgreSQL calls trusted are for any owner of a database to make.
            if trusted:
                ask("SET ROLE {scratch}", scratch=cluster.scratch)
            where = "" if its_own else " SCHEMA {schema}"
            ask("CREATE EXTENSION {extension}" + where, extension=name, schema=schema)
            ask("RESET ROLE")
        # Rows that users put into an extension's tables, which belong to the superuser.
        for schema, table, is_sequence in ask(EXTENSION_TABLES):
            ask(
                "GRANT UPDATE ON SEQUENCE {schema}.{table} TO {scratch}" if is_sequence else
                "GRANT SELECT, INSERT ON {schema}.{table} TO {scratch}", schema=schema, table=table, scratch=cluster.scratch,
            )  # fmt: skip
    return mine


def restore_entries(cluster: Cluster, dump: Path, entries: list[str] | None = None, **login: Any) -> None:
    """Restore what is on the list, or all; the first error ends it."""
    command = [
        "pg_restore",
        "--exit-on-error",
        cluster.place(cluster.scratch),
        "--no-publications",
        "--no-subscriptions",
        str(dump),
    ]
    if entries is None:
        cluster.run(*command)
    elif any(entry and not entry.startswith(";") for entry in entries):
        with listed(entries) as lines:
            cluster.run(*command, "--no-owner", "--use-list=/dev/stdin", stdin=lines, **login)


def analyze(cluster: Cluster, **login: Any) -> None:
    """Let the planner know what is in the tables; indexes over functions run these."""
    cluster.run("vacuumdb", "--analyze-only", "--quiet", cluster.place(cluster.scratch), **login)


def privileges_in(cluster: Cluster, dump: Path, entries: list[str]) -> list[dict[str, Any]]:
    """The words of a dump's ALTER DEFAULT PRIVILEGES."""
    chosen = [entry for entry in entries if DEFAULT_ACL_ENTRY.match(entry)]
    if not chosen:
        return []
    with listed(chosen) as lines:
        script = cluster.run("pg_restore", "--file=-", "--use-list=/dev/stdin", str(dump), stdin=lines)
    return default_privileges(script)


def hand_over(cluster: Cluster, owner: str, privileges: list[dict[str, Any]], former: str | None) -> None:
    """Give what the scratch role made to the owner of the database. None of this runs anybody's code.

    What was the former owner's, in a backup of a database of another name, is this one's too.
    """
    sql = psycopg2().sql
    cluster.sql("ALTER ROLE {scratch} NOLOGIN", scratch=cluster.scratch)
    cluster.sql(DISCONNECT, None, cluster.scratch, None)
    # One transaction for all would need a lock for each of them, and the server has few.
    with cluster.session(cluster.scratch) as ask:
        for schema, relation in ask(RELATIONS, cluster.scratch):
            ask("ALTER TABLE {schema}.{relation} OWNER TO {owner}", schema=schema, relation=relation, owner=owner)
    with cluster.session(cluster.scratch, transaction=True) as ask:
        ask("REASSIGN OWNED BY {scratch} TO {owner}", scratch=cluster.scratch, owner=owner)
        ask("DROP OWNED BY {scratch}", scratch=cluster.scratch)
        if ask("SELECT true FROM pg_catalog.pg_namespace WHERE nspname = 'public'"):
            ask("ALTER SCHEMA public OWNER TO {owner}", owner=DATABASE_OWNER)
        for words in privileges:
            if former is not None:
                words = {**words, **{key: owner for key in ("role", "grantee") if words[key] == former}}
            if words["role"] != owner:
                raise BackupError(f"the dump has default privileges of another role than its owner; {NEEDS_SUPERUSER}")
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


@contextlib.contextmanager
def listed(entries: list[str]) -> Iterator[IO[str]]:
    """A file without a name, which pg_restore reads as its list."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        lines.write("\n".join(entries) + "\n")
        lines.seek(0)
        yield lines
