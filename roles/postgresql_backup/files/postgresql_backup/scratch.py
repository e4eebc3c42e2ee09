"""The scratch database, in which a dump is proven and from which it takes the place of another; and the role of the same name.

A dump may hold a statement that does not end and that the server cannot interrupt, so everything here takes for granted that the
last scratch database may still be there, and that it cannot be dropped (SCRATCHES).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cluster import Cluster, psycopg2
from .disk import read_json, write_json
from .fill import analyze, fill, restore_entries
from .messages import BackupError, Refused
from .names import SCRATCH, SCRATCHES

# What a role is called that cannot be dropped yet and has made room for the next.
LEFT = f"{SCRATCH}_left_"
DROP_SECONDS = 30
IN_USE = ("55006", "55P03")  # of SQLSTATE: in use, or locked
NAMES = "SELECT datname FROM pg_catalog.pg_database UNION SELECT rolname FROM pg_catalog.pg_roles"
GRANTED = """
SELECT DISTINCT datname FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid
JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND rolname = %s
"""


class Scratch:
    """What makes and removes it. Which of the names is in use, the cluster knows: the sessions that it ends are in there."""

    def __init__(self, cluster: Cluster, memory: Path) -> None:
        self.cluster = cluster
        self.memory = memory  # a file: whose proof keeps which scratch database

    def clean(self) -> None:
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

    def databases_and_roles(self) -> set[str]:
        return {row[0] for row in self.cluster.sql(NAMES)}

    def take(self, database: str) -> None:
        """Choose the name of the scratch database for a database: one that is free, unless its own last one is in use.

        A database whose last proof still hangs gets no other name: each night would take one more from the others.
        """
        there = self.databases_and_roles()
        users = read_json(self.memory)
        users = users if isinstance(users, dict) else {}
        for name in sorted(SCRATCHES, key=lambda each: (users.get(each) != database, each in there)):
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
            self.cluster.scratch = name
            write_json(self.memory, {**users, name: database}, 0o600)
            return
        raise BackupError(f"each of the databases {SCRATCHES[0]} to {SCRATCHES[-1]} is there and cannot be dropped")

    def drop(self, name: str) -> None:
        with self.cluster.session() as ask:
            ask("SET statement_timeout = %s", f"{DROP_SECONDS}s")
            ask("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name)

    def drop_role(self, role: str, patience: str = "5s") -> None:
        """Remove a scratch role. One that an application keeps from going, with a grant to it, may not log in and makes room.

        PostgreSQL drops no role that has rights somewhere, and an application may have granted some in its own database, where
        only a session of that database can take them away: hence the second try, and the other name when that is locked too.
        """
        driver = psycopg2()
        with self.cluster.session() as ask:
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
                    with contextlib.suppress(BackupError), self.cluster.session(database) as there:
                        there("SET lock_timeout = %s", patience)
                        there("DROP OWNED BY {role}", role=role)
            if not role.startswith(LEFT):
                ask("ALTER ROLE {role} RENAME TO {left}", role=role, left=LEFT + secrets.token_hex(8))

    def make(self, facts: dict[str, Any]) -> None:
        """Make an empty scratch database like the one that the facts describe; only the superuser may connect to it yet."""
        provider, *more = {
            "i": ("LOCALE_PROVIDER icu ICU_LOCALE %s", facts["locale"] or ""),
            "b": ("LOCALE_PROVIDER builtin BUILTIN_LOCALE %s", facts["locale"] or ""),
        }.get(facts["provider"], ("LOCALE_PROVIDER libc",))
        with self.cluster.session() as ask:
            ask(
                "CREATE DATABASE {scratch} TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s " + provider,
                facts["encoding"], facts["collate"], facts["ctype"], *more, scratch=self.cluster.scratch,
            )  # fmt: skip
            ask("REVOKE ALL ON DATABASE {scratch} FROM PUBLIC", scratch=self.cluster.scratch)

    @contextlib.contextmanager
    def restored(
        self, database: str, dump: Path, facts: dict[str, Any], superuser: bool, analyzed: bool = False
    ) -> Iterator[None]:
        """Restore a dump into the scratch database, which is gone again afterwards unless somebody renamed it."""
        self.take(database)
        try:
            self.make(facts)
            if superuser:
                restore_entries(self.cluster, dump)
                if analyzed:
                    analyze(self.cluster)
            else:
                fill(self.cluster, dump, facts, analyzed)
                self.drop_role(self.cluster.scratch)
            self.cluster.sql(
                "ALTER DATABASE {scratch} OWNER TO {owner}", scratch=self.cluster.scratch, owner=facts["owner"]
            )
            yield
        finally:
            # What cannot be dropped now, the next run drops.
            with contextlib.suppress(Refused):
                self.drop(self.cluster.scratch)
            with contextlib.suppress(Refused):
                self.drop_role(self.cluster.scratch)
