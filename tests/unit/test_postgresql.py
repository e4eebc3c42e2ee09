"""What the role postgresql decides: bad input, pg_hba.conf, and the plan made from the server's answer."""

from __future__ import annotations

import base64
import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.postgresql import (
    postgresql_access,
    postgresql_backup_problems,
    postgresql_foreign,
    postgresql_kept,
    postgresql_limits,
    postgresql_plan,
    postgresql_problems,
    postgresql_troubles,
    postgresql_used,
    postgresql_value,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.scram import scram_verifier

SECRET = "a-secret-of-shop"
GOOD = {
    "postgresql_users": [{"name": "shop", "password": SECRET}, {"name": "blog", "password": "b"}],
    "postgresql_databases": [{"name": "shop", "extensions": ["uuid-ossp"]}, {"name": "pages", "owner": "blog"}],
    "postgresql_access": [
        {"database": "shop", "user": "shop", "address": "10.0.0.1"},
        {"type": "hostssl", "database": "shop", "user": "blog", "address": "2001:db8::/64", "method": "scram-sha-256"},
        {"type": "local", "database": "pages", "user": "blog"},
    ],
    "postgresql_listen_addresses": ["10.0.0.2", "::1", "localhost"],
    "postgresql_settings": {
        "work_mem": "8MB",
        "shared_preload_libraries": ["a", "b"],
        "auto_explain.log_timing": False,
    },
    "postgresql_user_settings": {"statement_timeout": "5min"},
    "postgresql_certificate": "/etc/ssl/a.pem",
    "postgresql_certificate_key": "/etc/ssl/a.key",
    "postgresql_port": "5432",
    "postgresql_max_connections": 100,
}


def test_good_input_has_no_problems():
    assert postgresql_problems(GOOD) == []
    empty = {
        key: []
        for key in ("postgresql_users", "postgresql_databases", "postgresql_access", "postgresql_listen_addresses")
    }
    assert postgresql_problems({**GOOD, **empty}) == []


def user(**keys):
    return {"postgresql_users": [{"name": "shop", "password": SECRET, **keys}, {"name": "blog", "password": "b"}]}


def database(**keys):
    return {"postgresql_databases": [{"name": "shop", **keys}, {"name": "pages", "owner": "blog"}]}


def access(**keys):
    return {"postgresql_access": [{"database": "shop", "user": "shop", "address": "10.0.0.1", **keys}]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (user(password=None), "postgresql_users[0] ('shop'): password is missing"),
        (user(password=""), "postgresql_users[0] ('shop'): password is missing"),
        (user(password=12345678), "postgresql_users[0] ('shop'): password must be a string; quote it"),
        (user(password=scram_verifier(SECRET)), "postgresql_users[0] ('shop'): password looks like a stored verifier"),
        (user(password=SECRET + "\0"), "postgresql_users[0] ('shop'): password holds a NUL character"),
        (user(connections=-1), "postgresql_users[0] ('shop'): connections: -1 is not between 0 and"),
        (
            user(connections=95),
            "100 are too few: shop needs 95, blog needs 1, and 10 are kept for management. Set it to 106",
        ),
        (user(connection_limit=90), "Set it to 101"),
        (user(connection_limit="many"), "postgresql_users[0] ('shop'): connection_limit: 'many' is not a whole number"),
        (user(settings={"search_path": "x"}), "postgresql_users[0] ('shop'): settings: search_path is a list"),
        (user(settings={"a b": 1}), "'a b' is not the name of a setting"),
        (user(name="postgres"), "postgresql_users[0].name: 'postgres' is reserved"),
        (user(name="pg_monitor"), "postgresql_users[0].name: 'pg_monitor' is reserved"),
        (user(name="vivarium_scratch"), "postgresql_users[0].name: 'vivarium_scratch' is reserved"),
        (user(name="Shop"), "postgresql_users[0].name: 'Shop' is not a valid name"),
        (user(name="s" * 64), "is not a valid name"),
        (user(name="blog"), "postgresql_users[1].name: 'blog' is there twice"),
        (database(name="template1"), "postgresql_databases[0].name: 'template1' is reserved"),
        (database(name='shop"; DROP'), "is not a valid name"),
        (database(owner="forum"), "postgresql_databases[0] ('shop'): owner 'forum' is not in postgresql_users"),
        (database(name="forum"), "postgresql_databases[0] ('forum'): owner 'forum' is not in postgresql_users"),
        (
            database(extensions=["a; b"]),
            "postgresql_databases[0] ('shop'): extensions: 'a; b' is not the name of an extension",
        ),
        (database(locale="C' x"), "locale 'C' x' is not the name of a locale"),
        (access(database="forum"), "postgresql_access[0]: database 'forum' is not in postgresql_databases"),
        (access(database="all"), "postgresql_access[0]: database 'all' is not in postgresql_databases"),
        (access(user="all"), "postgresql_access[0]: user 'all' is not in postgresql_users"),
        (access(address=None), "postgresql_access[0]: address is missing"),
        (
            access(address="db.example.com"),
            "postgresql_access[0]: address 'db.example.com' is not an IP address or network",
        ),
        (access(address="all"), "postgresql_access[0]: address 'all' is not an IP address or network"),
        (access(address="10.0.0.1/24"), "did you mean 10.0.0.1 or 10.0.0.0/24?"),
        (access(type="local"), "postgresql_access[0]: address has no meaning for type local"),
        (access(method="peer"), "postgresql_access[0]: method peer works with type local only"),
        ({"postgresql_listen_addresses": ["eth0"]}, "postgresql_listen_addresses[0]: 'eth0' is not an IP address"),
        ({"postgresql_settings": {"ssl": False}}, "postgresql_settings: ssl cannot be set here: TLS is always on"),
        ({"postgresql_settings": {"port": 1}}, "postgresql_settings: port cannot be set here: use postgresql_port"),
        (
            {"postgresql_settings": {"work_mem": "1\ninclude 'x'"}},
            "postgresql_settings: the value of work_mem must be one line",
        ),
        ({"postgresql_settings": {"work_mem": {}}}, "postgresql_settings: the value of work_mem must be a string"),
        ({"postgresql_certificate": "a.pem"}, "postgresql_certificate: must be an absolute path on the server"),
        ({"postgresql_port": 0}, "postgresql_port: 0 is not between 1 and 65535"),
        ({"postgresql_max_connections": "x"}, "postgresql_max_connections: 'x' is not a whole number"),
    ],
)
def test_bad_input_is_named(bad, message):
    problems = "\n".join(postgresql_problems({**GOOD, **bad}))
    assert message in problems
    assert SECRET not in problems
    assert "SCRAM" not in problems


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "'on'"), (8, "'8'"), ("it's", "'it''s'"), ("a\\b", "'a\\\\b'"), (["a", "b"], "'a, b'"), ("", "''")],
)
def test_a_value_is_quoted(value, text):
    assert postgresql_value(value) == text


def test_the_owners_come_first_and_no_line_twice():
    lines = postgresql_access(
        [
            {"type": "local", "database": "shop", "user": "shop"},
            {"database": "shop", "user": "blog", "address": "10.0.0.3"},
        ],
        [{"name": "shop"}, {"name": "pages", "owner": "blog"}],
    )
    assert [line.split() for line in lines] == [
        ["local", '"shop"', '"shop"', "scram-sha-256"],
        ["local", '"pages"', '"blog"', "scram-sha-256"],
        ["hostssl", '"shop"', '"blog"', "10.0.0.3/32", "scram-sha-256"],
    ]


# --- the plan


def role(**keys):
    return {
        "verifier": scram_verifier(SECRET), "superuser": False, "createdb": False, "createrole": False, "replication": False,
        "bypassrls": False, "login": True, "connection_limit": 90, "expires": False, "settings": ["statement_timeout=5min"],
        **keys,
    }  # fmt: skip


def detail(name, **keys):
    return {
        "database": name,
        "schema_owner": "pg_database_owner",
        "public_creates": False,
        "extensions": ["plpgsql"],
        **keys,
    }


def server(roles=None, databases=None, details=()):
    private = {"public": False, "connects": ["shop"]}
    answer = {
        "roles": {"shop": role()} if roles is None else roles,
        "databases": {"shop": {"owner": "shop", "login": True, **private}} if databases is None else databases,
        "available_extensions": {"pg_trgm": True, "postgres_fdw": False},
    }
    answer["databases"] |= {name: {"owner": "postgres", **private} for name in ("postgres", "template1")}
    rows = [
        answer,
        *(details or (detail("shop"), detail("postgres", schema_owner="pg_database_owner"), detail("template1"))),
    ]
    return "\n".join(json.dumps(row) for row in rows)


def plan(state, databases=({"name": "shop"},), user_settings=None, access=(), **user_keys):
    users = postgresql_limits([{"name": "shop", "password": SECRET, **user_keys}], 100)
    return postgresql_plan(state, users, list(databases), list(access), user_settings or {"statement_timeout": "5min"})


def queries(result):
    found = {}
    for each in result["statements"]:
        found.setdefault(each["database"], []).extend(each["queries"])
    return found


def test_a_server_in_order_needs_nothing():
    result = plan(server())
    assert not any(result.values()), result


def test_an_empty_server_needs_everything():
    state = server(roles={}, databases={}, details=(detail("postgres"), detail("template1")))
    result = plan(state, [{"name": "shop", "extensions": ["pg_trgm", "postgis"], "locale": "de_DE.UTF-8"}])
    assert result["roles"] == ["shop"]
    assert result["databases"] == [{"name": "shop", "owner": "shop", "locale": "de_DE.UTF-8"}]
    assert queries(result) == {
        "postgres": [
            'ALTER ROLE "shop" SET "statement_timeout" TO \'5min\'',
            'REVOKE ALL ON DATABASE "shop" FROM PUBLIC',
        ]
    }
    assert [(each["name"], each["role"]) for each in result["extensions"]] == [("pg_trgm", "shop"), ("postgis", None)]
    assert [change.split(":")[0] for change in result["changes"]] == [
        "the role shop",
        "the database shop",
        "the role shop",
        "the database shop",
        "the extension pg_trgm in the database shop",
        "the extension postgis in the database shop",
    ]
    assert len(result["unknown_extensions"]) == 1
    assert "'postgis'" in result["unknown_extensions"][0]


@pytest.mark.parametrize(
    "off",
    [{"superuser": True}, {"createdb": True}, {"createrole": True}, {"replication": True}, {"bypassrls": True}, {"login": False},
     {"connection_limit": 3}, {"expires": True}, {"verifier": None}, {"verifier": scram_verifier("another")},
     {"verifier": "md5" + "a" * 32}],
)  # fmt: skip
def test_a_role_that_is_off_is_set_right(off):
    assert plan(server(roles={"shop": role(**off)}))["roles"] == ["shop"]


def test_nobody_takes_the_connections_of_the_others():
    def limits(*users, most=100):
        return [user["connection_limit"] for user in postgresql_limits(list(users), most)]

    assert limits({"name": "shop"}) == [90]
    assert limits({"name": "shop", "connections": 20}, {"name": "blog"}) == [20 + 34, 1 + 34]
    assert limits({"name": "shop", "connection_limit": 30}, {"name": "blog"}) == [30, 60]
    assert limits({"name": "shop", "connection_limit": -1}, {"name": "blog"}) == [-1, 90]
    for number in range(1, 12):
        assert sum(limits(*({"name": str(each), "connections": 5} for each in range(number)))) <= 90


def test_a_limit_is_kept():
    assert plan(server(roles={"shop": role(connection_limit=3)}), connection_limit=3)["roles"] == []
    assert plan(server(), connection_limit="3")["roles"] == ["shop"]


def test_the_settings_of_a_role_are_these_and_no_others():
    state = server(roles={"shop": role(settings=["statement_timeout=1s", "work_mem=1GB"])})
    result = plan(
        state, user_settings={"statement_timeout": "5min", "lock_timeout": 0, "jit": True}, settings={"jit": None}
    )
    assert queries(result) == {
        "postgres": [
            'ALTER ROLE "shop" RESET ALL',
            'ALTER ROLE "shop" SET "lock_timeout" TO \'0\'',
            'ALTER ROLE "shop" SET "statement_timeout" TO \'5min\'',
        ]
    }


def test_what_everybody_may_is_taken_away():
    open_database = {"shop": {"owner": "shop", "public": True, "connects": []}}
    details = (
        detail("shop", public_creates=True, schema_owner="blog"),
        detail("postgres"),
        detail("template1", public_creates=True),
    )
    assert queries(plan(server(databases=open_database, details=details))) == {
        "postgres": ['REVOKE ALL ON DATABASE "shop" FROM PUBLIC', 'GRANT CONNECT ON DATABASE "shop" TO "shop"'],
        "shop": ["REVOKE CREATE ON SCHEMA public FROM PUBLIC", "ALTER SCHEMA public OWNER TO pg_database_owner"],
        "template1": ["REVOKE CREATE ON SCHEMA public FROM PUBLIC"],
    }


def test_an_access_entry_lets_a_role_in():
    entry = {"database": "shop", "user": "blog", "address": "10.0.0.1"}
    assert queries(plan(server(), access=[entry, entry])) == {
        "postgres": ['GRANT CONNECT ON DATABASE "shop" TO "blog"']
    }
    assert queries(plan(server(), access=[{**entry, "method": "reject"}])) == {}
    there = {"shop": {"owner": "shop", "public": False, "connects": ["shop", "blog"]}}
    assert queries(plan(server(databases=there), access=[entry])) == {}


def test_no_name_that_a_role_made_gets_into_a_statement():
    state = server(roles={"shop": role(settings=['x"; ALTER ROLE shop SUPERUSER; --=1', "statement_timeout=5min"])})
    assert queries(plan(state)) == {
        "postgres": ['ALTER ROLE "shop" RESET ALL', 'ALTER ROLE "shop" SET "statement_timeout" TO \'5min\'']
    }


def test_a_database_of_somebody_else_is_named_and_not_taken():
    state = server(databases={"shop": {"owner": "blog", "public": False, "connects": ["shop"]}})
    assert plan(state)["databases"] == []
    (problem,) = postgresql_foreign(state, [{"name": "shop"}, {"name": "pages", "owner": "blog"}])
    assert "a database 'shop' is there and belongs to the role 'blog', not to 'shop': nothing was changed" in problem
    assert 'ALTER DATABASE "shop" OWNER TO "shop"' in problem
    assert postgresql_foreign(server(), [{"name": "shop"}]) == []


def test_a_locale_that_the_host_lacks_is_told_before_anything_is_written():
    wanted = [
        {"name": "shop", "locale": "xx_XX.UTF-8"},
        {"name": "pages", "locale": "de_DE.UTF-8"},
        {"name": "new", "locale": "C.UTF-8"},
    ]
    there = server() + "\nlocales: C C.utf8 de_DE.utf8 POSIX\n"
    assert postgresql_foreign(there, wanted) == []
    (problem,) = postgresql_foreign(there.replace("de_DE", "de_AT"), wanted)
    assert "'pages' wants the locale de_DE.UTF-8" in problem and "nothing was changed" in problem
    # There may be no server yet.
    assert len(postgresql_foreign("locales: C\n", wanted)) == 2


def test_a_script_that_would_run_as_the_superuser_among_others_functions_is_refused():
    details = (detail("shop", foreign_functions=True), detail("postgres"), detail("template1"))
    result = plan(server(details=details), [{"name": "shop", "extensions": ["pg_trgm", "postgres_fdw"]}])
    # An owner can bring this about with a function: it stops nothing else.
    assert result["unknown_extensions"] == []
    assert [each["name"] for each in result["extensions"]] == ["pg_trgm"]
    (problem,) = result["refused"]
    assert "the extension 'postgres_fdw' is not a trusted one" in problem
    details = (detail("shop", foreign_functions=False), detail("postgres"), detail("template1"))
    result = plan(server(details=details), [{"name": "shop", "extensions": ["pg_trgm", "postgres_fdw"]}])
    assert result["unknown_extensions"] == [] and result["refused"] == []


def test_a_database_that_does_not_answer_is_named_and_holds_nothing_up():
    details = (detail("postgres"), detail("template1"))
    result = plan(server(details=details), [{"name": "shop", "extensions": ["pg_trgm"]}])
    (problem,) = result["refused"]
    assert "the database shop: it does not answer" in problem
    assert result["extensions"] == [] and result["statements"] == []


def test_each_role_and_each_database_is_changed_on_its_own():
    users = [{"name": name, "password": SECRET, "connection_limit": 5} for name in ("shop", "blog")]
    state = server(roles={"shop": role(settings=["a=1"]), "blog": role(settings=["a=1"])})
    result = postgresql_plan(state, users, [{"name": "shop"}], [], {})
    assert [each["about"] for each in result["statements"]] == ["the role shop", "the role blog"]


def test_what_the_server_refused_is_told_without_the_statement():
    user = {"name": "shop", "password": SECRET}
    query = "Cannot execute SQL 'ALTER ROLE \"shop\" SET a TO 'None: '' None: role \x9b2J is busy\nLINE 1, query list: ['ALTER']"
    extension = {"name": "pg_trgm", "database": "shop", "about": "the extension pg_trgm in the database shop"}
    results = [
        {"changed": True, "__postgresql_user": user},
        {"msg": "tuple concurrently updated", "__postgresql_user": user},
        {"msg": query, "__postgresql_statements": {"about": "the database shop"}},
        {"msg": "Management of PostgreSQL extension failed: it exists", "__postgresql_extension": extension},
        {"skipped": True},
    ]
    assert postgresql_troubles(results) == [
        "the role shop: tuple concurrently updated",
        "the database shop: role  2J is busy LINE 1",
        "the extension pg_trgm in the database shop: it exists",
    ]


def answer(lines, **state):
    return f"{json.dumps(state)}\n" * bool(state) + base64.b64encode("\n".join(lines).encode()).decode()


def test_what_leaves_the_lists_keeps_its_access():
    access = [
        {"database": "blog", "user": "blog", "address": "10.0.0.3"},
        {"database": "shop", "user": "shop", "address": "::1"},
    ]
    lines = postgresql_access(access, [{"name": "shop"}, {"name": "blog"}])
    scratch = 'local "vivarium_scratch","vivarium_scratch_2" "vivarium_scratch" scram-sha-256'
    text = ["# comment", "local all postgres peer map=superuser", *lines, scratch, "host all all 0.0.0.0/0 trust"]
    state = {"names": ["shop", "blog"], "listen_addresses": "localhost, 10.0.0.2", "max_connections": 150}
    kept = postgresql_kept(answer(text, **state), [{"name": "shop"}], [])
    assert kept["databases"] == ["blog"]
    assert kept["access"] == [line for line in lines if '"blog"' in line] and len(kept["access"]) == 2
    assert (kept["listen_addresses"], kept["max_connections"]) == (["localhost", "10.0.0.2"], 150)
    # The server does not answer: nobody knows that it is gone.
    assert postgresql_kept(answer(text), [{"name": "shop"}], [])["databases"] == ["blog"]
    for listed, remove, names in (([{"name": "shop"}], ["blog"], ["shop", "blog"]), ([{"name": "shop"}], [], ["shop"])):
        kept = postgresql_kept(answer(text, **{**state, "names": names}), listed, remove)
        assert kept.pop("closed") == [name for name in remove if name in names]
        assert kept == {"databases": [], "access": [], "listen_addresses": [], "max_connections": 0}
    assert postgresql_kept("", [], [])["access"] == []


DEBIANS = [
    "# comment",
    "local   all   postgres   peer",
    "host    all             all             127.0.0.1/32            scram-sha-256",
]


@pytest.mark.parametrize(
    ("lines", "state", "lost"),
    [
        (DEBIANS, {"names": ["postgres", "template1"], "listen_addresses": "localhost", "max_connections": 100}, []),
        ([*DEBIANS, "host crm crm 10.0.0.0/8 md5"], {}, ["the line 'host crm crm 10.0.0.0/8 md5' of pg_hba.conf"]),
        (DEBIANS, {"names": ["shop", "crm"]}, ["access to the database crm"]),
        (DEBIANS, {"listen_addresses": "*"}, ["the address * that it answers on"]),
        (DEBIANS, {"max_connections": 300}, ["connections: 300 there, 100 here"]),
        (
            [
                "# The first line that fits a connection decides; a connection that no line fits is refused.",
                "host x x all trust",
            ],
            {},
            [],
        ),
        ([], {}, []),
    ],
)
def test_what_a_used_server_would_lose_is_named(lines, state, lost):
    assert postgresql_used(answer(lines, **state), "17", 5432, [{"name": "shop"}], [], 100) == lost


def test_a_used_server_on_another_port_is_noticed():
    said = "15 main 5432 down\n17 main 5433 online postgres /var/lib/postgresql/17/main\n" + answer(DEBIANS)
    assert postgresql_used(said, "17", 5432, [], [], 100) == ["its port 5433 (postgresql_port)"]
    assert postgresql_used(said, "17", 5433, [], [], 100) == []


def test_what_is_to_go_is_closed_and_dropped_by_name_alone():
    shop, blog = ({"owner": name, "public": False, "connects": ["shop"]} for name in ("shop", "blog"))
    details = tuple(detail(name) for name in ("shop", "blog", "postgres", "template1"))

    def planned(login, remove, purge):
        state = server(databases={"shop": shop, "blog": {**blog, "login": login}}, details=details)
        users = [{"name": "shop", "password": SECRET, "connection_limit": 90}]
        return postgresql_plan(state, users, [{"name": "shop"}], [], {"statement_timeout": "5min"}, remove, purge)

    closed = planned(True, ["blog"], [])
    assert [each["queries"][0] for each in closed["statements"]] == ['ALTER ROLE "blog" NOLOGIN PASSWORD NULL']
    assert closed["purge"] == [] and closed["refused"] == []
    assert planned(False, ["blog"], [])["statements"] == []
    assert planned(False, [], ["blog"])["purge"] == [{"name": "blog", "roles": ["blog"]}]
    assert planned(True, ["blog"], ["blog"])["purge"] == [{"name": "blog", "roles": ["blog"]}]
    blog["members"] = {"blog-12ab": True, "somebody": True}
    closed = planned(False, ["blog"], [])["statements"]
    assert [each["about"] for each in closed] == ["the role blog-12ab, which may not log in any more"]
    assert "blog: it is in use" in planned(False, [], ["blog"])["refused"][0]
    # A name that is more than one is nobody's that the collection has made.
    hostile = {**blog, "owner": "x$$;", "members": {"x$$;-12ab": True}}
    state = server(databases={"shop": shop, "blog": {**hostile, "login": False}}, details=details)
    assert postgresql_plan(state, [], [{"name": "shop"}], [], {}, ["blog"], [])["statements"] == []
    blog["members"]["blog-12ab"] = False
    assert planned(False, [], ["blog"])["purge"] == [{"name": "blog", "roles": ["blog-12ab", "blog"]}]
    blog["copies"] = True  # of before a restore, which its owner keeps
    assert planned(False, [], ["blog"])["purge"] == [{"name": "blog", "roles": []}]
    assert planned(True, ["blog"], [])["statements"]
    blog["shared"] = True  # its owner has another database, whoever that is for
    assert planned(True, ["blog"], [])["statements"] == []
    assert planned(False, [], ["blog"])["purge"] == [{"name": "blog", "roles": []}]
    (problem,) = planned(True, [], ["blog"])["refused"]
    assert "blog: it is in use" in problem


def test_a_new_password_is_another_role_and_the_one_before_goes_on_while_a_release_has_it():
    old, new = "shop-0a1b", "shop-2c3d"
    both = {"shop": role(login=False, verifier=None), old: role(member_of=["shop"])}
    owned = {
        "owner": "shop",
        "login": False,
        "members": {old: True, "report": True},
        "public": False,
        "connects": ["shop"],
    }

    def planned(roles=both, kept=(old,), password="new", databases=None):
        owner = {"name": "shop", "login": False, **({"logins": list(kept)} if kept is not None else {})}
        users = postgresql_limits([owner, {"name": new, "password": password, "member_of": "shop"}], 100)
        state = server(roles=roles, databases=databases or {"shop": {**owned}})
        return postgresql_plan(state, users, [{"name": "shop"}], [], {"statement_timeout": "5min"})

    result = planned()
    assert result["roles"] == [new]
    (made,) = result["statements"]
    assert made["queries"] == [
        f'GRANT "shop" TO "{new}"',
        f"""ALTER ROLE "{new}" SET "role" TO 'shop'""",
        f"""ALTER ROLE "{new}" SET "statement_timeout" TO '5min'""",
    ]
    # No release has the old one any more; where a host did not say, it stays.
    assert [each["about"] for each in planned(kept=[])["statements"]][1:] == [
        f"the login {old}, whose password no release has any more"
    ]
    assert planned(kept=None)["statements"] == [made]
    # A session that a pooler has reset makes things as the login.
    owning = [json.loads(line) for line in server(databases={"shop": {**owned}}, roles=both).splitlines()]
    owning[1]["owners"] = [old, "report"]
    users = [{"name": "shop", "login": False}]
    lent = postgresql_plan("\n".join(map(json.dumps, owning)), users, [{"name": "shop"}], [], {})["statements"]
    assert [(each["database"], each["queries"]) for each in lent] == [
        ("shop", [f'REASSIGN OWNED BY "{old}" TO "shop"'])
    ]
    # Before there were such roles the owner had the password.
    before = {"shop": role(), new: role(member_of=["shop"], settings=["role=shop", "statement_timeout=5min"])}
    had = {"shop": {**owned, "login": True, "members": {}}}
    (closed,) = planned(before, kept=[], databases=had)["statements"]
    assert closed["queries"][0] == 'ALTER ROLE "shop" NOLOGIN PASSWORD NULL'
    assert planned(before, kept=["shop"], databases=had)["statements"] == []
    assert planned(before, kept=[], password=SECRET, databases=had)["statements"] == []


def test_members_of_a_role_come_in_by_its_line():
    users = [{"name": "shop", "login": False}, {"name": "shop-0a1b", "member_of": "shop"}]
    (line,) = postgresql_access([], [{"name": "shop"}], users)
    assert line.split() == ["local", '"shop"', '+"shop"', "scram-sha-256"]
    (alone,) = postgresql_access([], [{"name": "shop"}])
    assert alone.split()[2] == '"shop"'


def test_the_plan_holds_no_secret():
    text = json.dumps(plan(server(roles={"shop": role(superuser=True)})))
    assert SECRET not in text
    assert "SCRAM" not in text


def test_an_answer_that_is_none_is_refused_without_showing_it():
    with pytest.raises(AnsibleFilterError) as caught:
        plan("SCRAM-SHA-256$4096")
    assert "SCRAM" not in str(caught.value)


# --- the backup's inputs

BACKUP = {
    "postgresql_backup_databases": ["shop", "pages"],
    "postgresql_backup_superuser_databases": [],
    "postgresql_backup_timeouts": {"shop": 7200},
    "postgresql_backup_directory": "/var/backups/postgresql",
    "postgresql_backup_schedule": "17 2 * * *",
    "postgresql_backup_mailto": "root",
    "postgresql_backup_keep_days": 14,
    "postgresql_backup_keep_last": 7,
    "postgresql_backup_reserve_mb": 512,
    "postgresql_backup_port": 5432,
}


@pytest.mark.parametrize("schedule", ["17 2 * * *", "*/15 0-6,22 1 jan-mar mon,fri", "@daily"])
def test_a_good_backup_has_no_problems(schedule):
    assert postgresql_backup_problems({**BACKUP, "postgresql_backup_schedule": schedule}) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"postgresql_backup_databases": ["shop", "shop"]}, "postgresql_backup_databases[1]: 'shop' is there twice"),
        ({"postgresql_backup_databases": ["../shop"]}, "postgresql_backup_databases[0]: '../shop' is not a valid name"),
        ({"postgresql_backup_databases": ["template0"]}, "'template0' is not a database to back up"),
        ({"postgresql_backup_superuser_databases": ["Shop"]}, "postgresql_backup_superuser_databases[0]: 'Shop'"),
        ({"postgresql_backup_timeouts": {"Shop": 1}}, "postgresql_backup_timeouts: 'Shop' is not a valid name"),
        (
            {"postgresql_backup_timeouts": {"shop": 0}},
            "postgresql_backup_timeouts: shop: 0 is not between 1 and 604800",
        ),
        ({"postgresql_backup_directory": "/"}, "postgresql_backup_directory"),
        ({"postgresql_backup_directory": "/var"}, "postgresql_backup_directory"),
        ({"postgresql_backup_directory": "/var/../etc"}, "postgresql_backup_directory"),
        ({"postgresql_backup_directory": "backups"}, "postgresql_backup_directory"),
        ({"postgresql_backup_schedule": "17 2 * *"}, "postgresql_backup_schedule"),
        ({"postgresql_backup_schedule": "17 2 * * * root rm\n"}, "postgresql_backup_schedule"),
        ({"postgresql_backup_mailto": "a b"}, "postgresql_backup_mailto"),
        ({"postgresql_backup_keep_days": 0}, "postgresql_backup_keep_days: 0 is not between"),
        ({"postgresql_backup_keep_last": "x"}, "postgresql_backup_keep_last: 'x' is not a whole number"),
    ],
)
def test_a_bad_backup_is_named(bad, message):
    assert message in "\n".join(postgresql_backup_problems({**BACKUP, **bad}))
