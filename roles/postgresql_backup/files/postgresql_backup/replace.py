"""Put the scratch database in another's place: first what belongs to a database and is in no dump, then the names."""

from __future__ import annotations

import threading
import time
from typing import Any

from .cluster import Cluster, psycopg2
from .messages import BackupError, printable
from .names import LIST_SETTINGS, names_of

# How long a database that is in use is tried (seconds).
SWAP_SECONDS = 30
# What can be granted on a database: a word that becomes part of a statement is one of these.
PRIVILEGES = {"CONNECT", "CREATE", "TEMPORARY"}


def dress(cluster: Cluster, facts: dict[str, Any], trusted: bool) -> list[str]:
    """Give the scratch database the grants, settings and limit of the one whose place it takes; returns what it could not.

    What a manifest says is not trusted like the server itself: of its settings, only those that anybody may make are made.
    """
    driver = psycopg2()
    problems: list[str] = []
    with cluster.session() as ask:

        def change(what: str, statement: str, *values: Any, **names: Any) -> None:
            try:
                ask(statement, *values, scratch=cluster.scratch, **names)
            except driver.Error as error:
                problems.append(f"{printable(what)} was not taken over ({printable(error.diag.message_primary or '')})")

        kinds = dict(ask("SELECT pg_catalog.lower(name), context FROM pg_catalog.pg_settings"))
        ask("ALTER DATABASE {scratch} RESET ALL", scratch=cluster.scratch)
        for role, privilege, grantable in facts["grants"]:
            if privilege not in PRIVILEGES:
                problems.append("a privilege that databases do not have was not taken over")
                continue
            change(
                f"a grant to {role or 'PUBLIC'}",
                f"GRANT {privilege} ON DATABASE {{scratch}} TO {{role}}" + (" WITH GRANT OPTION" if grantable else ""),
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
                    *values, role=role or cluster.scratch,
                    setting=driver.sql.SQL(".").join(map(driver.sql.Identifier, setting.split("."))),
                )  # fmt: skip
        ask("ALTER DATABASE {scratch} CONNECTION LIMIT %s", int(facts["connection_limit"]), scratch=cluster.scratch)
    return problems


def swap(cluster: Cluster, database: str, kept: str) -> None:
    """Put the scratch database in the other's place in one transaction, closing the other's connections.

    PostgreSQL renames no database that somebody is connected to, and an application connects again within milliseconds. So the
    first rename waits for those that are there (five seconds, the server's own patience) and keeps new ones out until the end of
    its transaction; meanwhile, from another thread, a second session closes the old ones again and again. One session could not:
    it is waiting.
    """
    problems: list[BackupError] = []

    def rename() -> None:
        try:
            with cluster.session(transaction=True) as ask:
                ask("ALTER DATABASE {database} RENAME TO {kept}", database=database, kept=kept)
                ask("ALTER DATABASE {scratch} RENAME TO {database}", database=database, scratch=cluster.scratch)
        except BackupError as error:
            problems.append(error)

    deadline = time.monotonic() + SWAP_SECONDS
    while True:
        problems.clear()
        renaming = threading.Thread(target=rename)
        renaming.start()
        try:
            while renaming.is_alive():
                cluster.disconnect(database)
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
    cluster.sql("ALTER DATABASE {kept} CONNECTION LIMIT 0", kept=kept)


def rename_scratch(cluster: Cluster, database: str) -> None:
    """Make the scratch database the database that was not there."""
    cluster.sql("ALTER DATABASE {scratch} RENAME TO {database}", scratch=cluster.scratch, database=database)
