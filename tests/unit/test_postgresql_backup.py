"""Parts of the program postgresql-backup that need no server; molecule/postgresql_backup has the rest."""

from __future__ import annotations

import ast
import contextlib
import json
import sys
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"
ROLE = ROLES / "postgresql_backup"
PARTS = ROLE / "files/postgresql_backup"
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
ORDER = VARIABLES["__postgresql_backup_parts"]
NOW = datetime(2027, 1, 31, 2, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def installed():
    """The program's text as the role's task writes it on a host."""
    variables = {
        **{name: trust_as_template(value) if isinstance(value, str) else value for name, value in VARIABLES.items()},
        "ansible_managed": "Ansible managed",
        "role_path": str(ROLE),
    }
    text = trust_as_template((ROLE / "templates/postgresql-backup.j2").read_text())
    templar = Templar(loader=DataLoader(), variables=variables)
    return templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})


@pytest.fixture(scope="module")
def program(installed):
    """What a host runs, not the parts that it is made of."""
    module = types.ModuleType("postgresql_backup")
    exec(compile(installed, "postgresql-backup", "exec"), module.__dict__)
    return module


def parts():
    """The parts in their order, with what each imports from others and what it defines or imports from elsewhere."""
    for name in ORDER:
        own, names = {}, {}
        for node in ast.parse((PARTS / name).read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                own[node.module] = [(each.name, each.asname) for each in node.names]
            elif isinstance(node, ast.Import | ast.ImportFrom):
                origin = getattr(node, "module", None)
                names |= {each.asname or each.name: (origin, each.name) for each in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names[node.name] = name
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {
                    each.id: name for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
                }
        yield name, own, names


def test_every_part_is_in_the_program():
    assert {path.name for path in PARTS.iterdir() if path.name != "__pycache__"} == {"__init__.py", *ORDER}


def test_a_part_stands_below_what_it_imports_from():
    above = {}
    for name, own, names in parts():
        for module, imported in own.items():
            assert f"{module}.py" in above, f"{name} stands above {module}.py"
            # In the one file a name is what it was defined as.
            assert all(asname is None and each in above[f"{module}.py"] for each, asname in imported), (name, module)
        above[name] = {each for each, origin in names.items() if origin == name}


def test_a_name_means_the_same_in_all_parts():
    """They share one file on the host."""
    meaning = {}
    for _, _, names in parts():
        for name, origin in names.items():
            assert meaning.setdefault(name, origin) == origin, name


def test_the_program_is_all_of_its_parts(installed):
    """Nothing but imports from each other was left out."""
    assert installed.startswith("#!/usr/bin/python3\n")
    found = {ast.dump(node) for node in ast.parse(installed).body}
    for name in ORDER:
        for node in ast.parse((PARTS / name).read_text()).body:
            own = isinstance(node, ast.ImportFrom) and node.level
            assert (ast.dump(node) in found) is not own, (name, ast.unparse(node))
    assert "Back PostgreSQL's databases up" in ast.get_docstring(ast.parse(installed))


def test_the_parts_are_a_package(monkeypatch):
    monkeypatch.syspath_prepend(str(PARTS.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # nothing beside a role's files
    command = __import__("postgresql_backup.command").command
    assert command.parse(["restore", "shop"]).file == "latest"
    for name in [each for each in sys.modules if each.partition(".")[0] == "postgresql_backup"]:
        del sys.modules[name]


def test_pg_hba_has_all_names_of_the_scratch_role(program):
    template = (ROLES / "postgresql/templates/pg_hba.conf.j2").read_text()
    line = next(line for line in template.split("\n") if '"vivarium_scratch"' in line)
    rendered = Templar(loader=DataLoader(), variables={}).template(trust_as_template(line)).split()
    assert rendered == ["local", "sameuser", ",".join(f'"{name}"' for name in program.SCRATCHES), "scram-sha-256"]
    assert f"local sameuser {','.join(program.SCRATCHES)} scram-sha-256" in (ROLE / "README.md").read_text()


@pytest.fixture
def store(program, tmp_path):
    """Thirty nights of two databases and the roles."""
    store = program.Store(tmp_path)
    for age in reversed(range(30)):
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


def backup_of(store, program, number, suffix=".dump", proven=True, **more):
    """A backup of shop, made after all others whatever its clock says."""
    taken = more.pop("taken", NOW + timedelta(minutes=number))
    with contextlib.suppress(program.BackupError), store.new("shop", suffix, taken) as (temporary, manifest):
        temporary.write_text("content")
        manifest |= {"database": "shop", **more}
        if not proven:
            manifest["proven"] = False
            raise program.BackupError("it cannot be restored")
    return manifest["file"]


def test_the_newest_is_what_was_made_last_whatever_the_clock_said(program, store):
    backup_of(store, program, 1, taken=NOW + timedelta(days=400))
    newest = backup_of(store, program, 2, taken=NOW - timedelta(days=400))
    assert store.backups("shop")[0]["file"] == newest
    store.prune("shop", 1, 1, NOW)
    assert store.backups("shop")[0]["file"] == newest


def test_a_clock_that_was_set_back_overwrites_nothing(program, store):
    files = {backup_of(store, program, 1) for _ in range(3)}
    assert len(files) == 3
    assert all((store.directory / file).is_file() for file in files)


def test_backups_from_before_there_was_a_number_are_older(program, store):
    for path, manifest in store.manifests():
        del manifest["sequence"], manifest["proven"]
        path.write_text(json.dumps(manifest))
    assert store.backups("shop")[0]["taken"] == NOW.isoformat()
    assert store.next() == 1
    newest = backup_of(store, program, 1, taken=NOW - timedelta(days=400))
    assert store.backups("shop")[0]["file"] == newest


def test_what_nobody_could_prove_is_kept_and_is_never_the_newest(program, store):
    before = store.backups("shop")
    files = [backup_of(store, program, number, proven=False) for number in range(5)]
    assert all(file.endswith(".dump.unproven") for file in files)
    assert store.backups("shop") == before
    store.limit_unproven("shop")
    kept = [manifest["file"] for manifest in store.backups("shop", proven=False)]
    assert kept == [files[4], files[3], files[0]]
    # Nothing else removes them until a newer one is proven.
    store.prune("shop", 1, 1, NOW + timedelta(days=400))
    assert [manifest["file"] for manifest in store.backups("shop", proven=False)] == kept
    backup_of(store, program, 9)
    store.prune("shop", 14, 7, NOW)
    assert store.backups("shop", proven=False) == []


GOOD = {
    "database": "shop", "file": "shop.dump", "size": 7, "taken": NOW.isoformat(), "sha256": "0", "owner": "shop",
    "encoding": "UTF8", "collate": "C", "ctype": "C", "provider": "c", "locale": None, "connection_limit": -1,
    "grants": [["blog", "CONNECT", False]],
    "settings": [[None, ["work_mem=1MB"]]], "extensions": [["pg_trgm", "public"]],
}  # fmt: skip


def test_a_good_manifest_is_taken(program):
    assert program.checked(GOOD) == {**GOOD, "sequence": 0, "proven": True}


@pytest.mark.parametrize(
    "bad",
    [
        {"file": "/etc/passwd"}, {"file": "../shop.dump"}, {"file": ".."}, {"file": ""}, {"file": 7}, {"file": "a\0b"},
        {"size": "7"}, {"size": True}, {"taken": "yesterday"}, {"taken": "2027-01-31T02:17:00"}, {"taken": None},
        {"sequence": "9"}, {"sequence": 1.5}, {"proven": "yes"}, {"owner": None}, {"owner": ["shop"]}, {"encoding": 7},
        {"locale": 7}, {"connection_limit": "1; DROP"},
        {"grants": [["blog", "CONNECT"]]}, {"grants": "x"}, {"grants": [[7, "CONNECT", False]]},
        {"settings": [[None, "work_mem"]]}, {"settings": [[None, ["work_mem"]]]}, {"extensions": [["pg_trgm"]]},
        {"extensions": {"a": "b"}}, {"sha256": None},
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_is_none(program, store, bad):
    assert program.checked({**GOOD, **bad}) is None
    assert program.checked([]) is None
    missing = {key: value for key, value in GOOD.items() if key != "grants"}
    assert program.checked(missing) is None


def test_a_manifest_speaks_of_the_file_beside_it_alone(store):
    newest = store.backups("shop")[0]
    (store.directory / "evil.json").write_text(json.dumps(newest))
    assert len(store.backups("shop")) == 30


@pytest.mark.parametrize(
    ("entry", "made_here"),
    [
        ("2; 3079 16385 EXTENSION - pg_trgm ", True),
        ("3421; 0 0 COMMENT - EXTENSION pg_trgm ", True),
        ("215; 1259 16400 TABLE public EXTENSION shop", False),
        ("3412; 0 16386 TABLE DATA public EXTENSION - x shop", False),
        ("200; 1255 16390 FUNCTION public EXTENSION - () shop", False),
        ("; 2; 3079 16385 EXTENSION - x", False),
    ],
)
def test_which_entries_are_extensions(program, entry, made_here):
    assert bool(program.EXTENSION_ENTRY.match(entry)) is made_here


def test_whose_objects_are_in_a_dump(program):
    listing = "\n".join((
        "; Archive created at 2027-01-01",
        ";     dbname: shop",
        "2; 3079 16400 EXTENSION - unaccent ",
        "3; 0 0 COMMENT - EXTENSION unaccent ",
        "5; 2615 2200 SCHEMA - public pg_database_owner",
        "215; 1259 16385 TABLE public a name; 1; 2 TABLE public x shop shop",
        "216; 1259 16386 VIEW reports v report",
        "",
    ))  # fmt: skip
    assert program.owners_of(listing) == {"pg_database_owner", "shop", "report"}


def test_default_privileges_are_taken_apart(program):
    script = """SET search_path = '';
-- Name: DEFAULT PRIVILEGES FOR TABLES; Type: DEFAULT ACL
ALTER DEFAULT PRIVILEGES FOR ROLE shop IN SCHEMA sales GRANT SELECT,INSERT ON TABLES  TO blog;
ALTER DEFAULT PRIVILEGES FOR ROLE "my ""shop" REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT USAGE ON SEQUENCES TO "a;b" WITH GRANT OPTION;
"""
    first, second, third = program.default_privileges(script)
    assert first == {
        "role": "shop", "schema": "sales", "grantee": "blog", "verb": "GRANT", "kind": "TABLES",
        "privileges": ["SELECT", "INSERT"], "option": False,
    }  # fmt: skip
    assert (second["role"], second["schema"], second["grantee"], second["verb"]) == ('my "shop', None, None, "REVOKE")
    assert (third["grantee"], third["option"]) == ("a;b", True)


@pytest.mark.parametrize(
    "rest",
    [
        "GRANT ALL ON TABLES TO shop; ALTER ROLE shop SUPERUSER;",
        "GRANT ALL ON TABLES TO shop SUPERUSER;",
        "GRANT SUPERUSER ON TABLES TO shop;",
        "GRANT ALL ON DATABASES TO shop;",
        'IN SCHEMA "a" GRANT ALL ON TABLES TO "b"; DROP DATABASE shop; --";',
        "GRANT ALL ON TABLES TO shop",
    ],
)
def test_default_privileges_of_another_form_are_refused(program, rest):
    with pytest.raises(program.BackupError):
        program.default_privileges(f"ALTER DEFAULT PRIVILEGES FOR ROLE shop {rest}")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ('"$user", public, sales', ["$user", "public", "sales"]),
        ("", []),
        ('""', [""]),
        ('"a""b","c, d" ,E', ['a"b', "c, d", "e"]),
        ("x;\\! ,;touch${IFS}/x", ["x;\\!", ";touch${ifs}/x"]),
    ],
)
def test_a_list_of_names_is_read_as_postgresql_reads_it(program, value, names):
    assert program.names_of(value) == names


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


def test_an_error_moves_no_cursor(program):
    said = program.without_rows("pg_restore: error: \x1b[2J\x07\u202ebad\nERROR: \x9b1m")
    assert said == "pg_restore: error: ?[2J??bad\nERROR: ?1m"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (2048, "2 kB"), (3 * 1024**2, "3.0 MB"), (5 * 1024**4, "5.0 TB")]
)
def test_sizes_are_for_people(program, size, text):
    assert program.human(size) == text
