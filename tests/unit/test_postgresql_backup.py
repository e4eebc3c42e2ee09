"""Parts of the program postgresql-backup that need no server; molecule/postgresql_backup has the rest."""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "roles/postgresql_backup/files/postgresql_backup.py"
NOW = datetime(2027, 1, 31, 2, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("postgresql_backup", SOURCE)
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing beside a role's files
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = writes
    return module


@pytest.fixture
def store(program, tmp_path):
    """Thirty nights of two databases and the roles."""
    store = program.Store(tmp_path)
    for age in range(30):
        for database, label, suffix in (
            ("shop", "shop", ".dump"),
            ("blog", "blog", ".dump"),
            ("(roles)", "roles", ".sql"),
        ):
            with store.new(label, suffix, NOW - timedelta(days=age)) as (temporary, manifest):
                temporary.write_text("content")
                manifest["database"] = database
    return store


@pytest.mark.parametrize(("days", "last", "left"), [(14, 7, 15), (3, 7, 7), (1, 1, 2), (100, 1, 30), (1, 100, 30)])
def test_old_backups_go_and_the_newest_stay(store, days, last, left):
    removed = store.prune("shop", days, last, NOW)
    assert len(removed) == 30 - left
    newest = [manifest["taken"] for manifest in store.backups("shop")]
    assert len(newest) == left
    assert newest == sorted(newest, reverse=True)
    assert newest[0] == "2027-01-31T02:17:00+00:00"
    assert len(store.backups("blog")) == len(store.backups("(roles)")) == 30
    assert len(list(store.directory.iterdir())) == 2 * (60 + left)


def test_a_backup_that_fails_leaves_nothing(program, store):
    before = sorted(store.directory.iterdir())

    def half():
        with store.new("shop", ".dump", NOW + timedelta(days=1)) as (temporary, _):
            temporary.write_text("half")
            raise program.BackupError("no")

    with pytest.raises(program.BackupError):
        half()
    assert sorted(store.directory.iterdir()) == before


def test_what_a_killed_run_left_is_cleaned_up(store):
    before = sorted(store.directory.iterdir())
    (store.directory / ".shop-20270201T021700Z.dump.tmp").write_text("half")
    manifest = {
        "file": "shop-20270201T021700Z.dump",
        "database": "shop",
        "size": 4,
        "taken": "2027-02-01T02:17:00+00:00",
    }
    (store.directory / "shop-20270201T021700Z.dump.json").write_text(json.dumps(manifest))
    store.clean()
    assert sorted(store.directory.iterdir()) == before


def test_what_has_another_size_than_it_had_is_no_backup(store):
    newest = store.directory / store.backups("shop")[0]["file"]
    newest.write_text("cont")
    assert store.backups("shop")[0]["file"] != newest.name


@pytest.mark.parametrize(
    ("entry", "superuser"),
    [
        ("6; 2615 16400 SCHEMA - sales shop", True),
        ("2; 3079 16385 EXTENSION - pg_trgm ", True),
        ("3421; 0 0 COMMENT - EXTENSION pg_trgm ", True),
        ("215; 1259 16400 TABLE public customer shop", False),
        ("3412; 0 16386 TABLE DATA public extension shop", False),
        ("200; 1255 16390 FUNCTION public SCHEMA - () shop", False),
        ("; 2; 3079 16385 EXTENSION - x", False),
    ],
)
def test_the_superuser_restores_schemas_and_extensions_alone(program, entry, superuser):
    assert program.of_superuser(entry) is superuser


def test_an_error_is_told_without_the_rows_that_it_quotes(program):
    said = program.without_rows("""pg_restore: error: COPY failed for table "customer": ERROR:  invalid input syntax
DETAIL:  Failing row contains (1, alice@example.com).
CONTEXT:  COPY customer, line 1: "1 alice@example.com"
more of alice@example.com
pg_restore: error: could not go on
Command was: COPY public.customer FROM stdin;
alice@example.com""")
    assert "alice" not in said
    assert "invalid input syntax" in said
    assert "could not go on" in said


def test_identifiers_and_literals_are_quoted(program):
    assert program.name('a"b') == '"a""b"'
    assert program.literal("it's \\ fine") == "E'it''s \\\\ fine'"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (2048, "2 kB"), (3 * 1024**2, "3.0 MB"), (5 * 1024**4, "5.0 TB")]
)
def test_sizes_are_for_people(program, size, text):
    assert program.human(size) == text
