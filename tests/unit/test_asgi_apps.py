"""The description of the applications: what it is completed to, and what is said about each mistake in it."""

from __future__ import annotations

import copy
import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.asgi_apps import asgi_apps, asgi_only
from ansible_collections.vivarium.server.plugins.filter.asgi_library import asgi_library
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS

SHOP = {
    "name": "shop",
    "source": {"git": "https://git.example.com/shop.git", "version": "v1"},
    "application": "shop.asgi:application",
    "settings": "shop.settings",
    "domains": ["shop.example.com", "www.shop.example.com"],
    "secrets": {"SECRET_KEY": "hunter2", "DATABASE_PASSWORD": "swordfish"},
}
PLAIN = {
    "name": "api",
    "source": {"path": "../api"},
    "application": "api:app",
    "framework": "none",
    "domains": ["api.example.com"],
}


def shop(**changes):
    return copy.deepcopy(SHOP) | changes


def error(*apps, **options):
    with pytest.raises(AnsibleFilterError) as raised:
        asgi_apps(list(apps), **options)
    message = str(raised.value)
    assert "hunter2" not in message and "swordfish" not in message
    return message


def test_a_django_project_needs_little():
    (app,) = asgi_apps([SHOP])
    assert app["server"] == "uvicorn" and app["database"] is True and app["lifespan"] == "off"
    assert app["user"] == "shop" and app["root"] == "/srv/shop" and app["port"] == 8100
    assert app["static_url"] == "/static/" and app["media_url"] == "/media/"
    assert app["required_secrets"] == ["SECRET_KEY", "DATABASE_PASSWORD"]
    assert app["health_path"] == "/" and app["health_strict"] is False
    assert app["public_env"]["ALLOWED_HOSTS"] == "shop.example.com,www.shop.example.com"
    assert app["public_env"]["DEBUG"] == "0"
    assert app["public_env"]["MEDIA_ROOT"] == "/srv/shop/media"


def test_a_django_project_runs_with_our_settings_unless_it_says_otherwise():
    (app,) = asgi_apps([SHOP])
    assert app["vivarium_settings"] is True
    assert app["public_env"]["DJANGO_SETTINGS_MODULE"] == "vivarium_settings"
    assert app["public_env"]["VIVARIUM_PROJECT_SETTINGS"] == "shop.settings"
    assert app["timers"]["clearsessions"] == {
        "command": "python -m vivarium_clearsessions",
        "on_calendar": "daily",
        "timeout": 3600,
    }
    assert "shop-clearsessions.timer" in app["units"]
    (own,) = asgi_apps([shop(vivarium_settings=False)])
    assert own["public_env"]["DJANGO_SETTINGS_MODULE"] == "shop.settings" and own["timers"] == {}
    assert "VIVARIUM_PROJECT_SETTINGS" not in own["public_env"]


def test_the_timer_of_sessions_gives_way():
    mine = {"command": "python manage.py clearsessions", "on_calendar": "hourly"}
    assert asgi_apps([shop(timers={"clearsessions": mine})])[0]["timers"] == {"clearsessions": mine | {"timeout": 3600}}
    assert asgi_apps([shop(timers={"clearsessions": None})])[0]["timers"] == {}
    assert asgi_apps([shop(vivarium_settings=False, timers={"clearsessions": None})])[0]["timers"] == {}


def test_answers_that_may_take_long_outlive_a_deploy():
    def timeouts(**change):
        (app,) = asgi_apps([shop(**change)])
        return app["site"]["read_timeout"], app["drain_timeout"]

    assert timeouts() == timeouts(site={}) == timeouts(site={"read_timeout": None}) == (60, 30)
    assert timeouts(site={"read_timeout": 300}) == (300, 300)
    assert timeouts(site={"read_timeout": 20}) == (20, 30)
    assert timeouts(site={"read_timeout": 300}, drain_timeout=0) == (300, 0)


def test_a_wildcard_is_a_domain_and_django_has_its_own_way_to_write_it():
    (app,) = asgi_apps([shop(domains=["blogs.example.com", "*.blogs.example.com"])])
    assert app["domains"] == ["blogs.example.com", "*.blogs.example.com"]
    assert app["public_env"]["ALLOWED_HOSTS"] == "blogs.example.com,.blogs.example.com"


def test_hsts_of_the_whole_domain_is_the_users_decision():
    (app,) = asgi_apps([SHOP])
    assert set(app["standing_waivers"]) == {"security.W005", "security.W021"}
    assert hsts_settings(app) == ["63072000", "false", "false"]
    (app,) = asgi_apps([shop(hsts={"include_subdomains": True, "preload": True})])
    assert app["standing_waivers"] == {}
    assert hsts_settings(app) == ["63072000", "true", "true"]
    assert app["hsts_header"] == "max-age=63072000; includeSubDomains; preload"
    assert asgi_apps([PLAIN])[0]["standing_waivers"] == {}


def hsts_settings(app):
    names = ("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD")
    return [app["public_env"][name] for name in names]


@pytest.mark.parametrize("own", [True, False])
def test_hsts_is_one_decision_for_nginx_django_and_the_report(own):
    (off,) = asgi_apps([shop(hsts=False, vivarium_settings=own)])
    assert off["hsts_decision"] is None and off["hsts_header"] == ""
    assert hsts_settings(off) == ["0", "false", "false"]
    assert set(off["standing_waivers"]) == {"security.W004", "security.W005", "security.W021"}
    (short,) = asgi_apps([shop(hsts={"max_age": 3600}, vivarium_settings=own)])
    assert short["hsts_header"] == "max-age=3600" and hsts_settings(short) == ["3600", "false", "false"]
    (forgotten,) = asgi_apps([shop(hsts={"max_age": 0}, vivarium_settings=own)])
    assert forgotten["hsts_header"] == "max-age=0" and "security.W004" in forgotten["standing_waivers"]
    (plain,) = asgi_apps([PLAIN | {"hsts": {"max_age": 60}}])
    assert plain["hsts_header"] == "max-age=60" and "SECURE_HSTS_SECONDS" not in plain["public_env"]


@pytest.mark.parametrize(
    ("hsts", "variables", "expected"),
    [
        (True, {"SECURE_HSTS_SECONDS": "0"}, "hsts: false"),
        (None, {"SECURE_HSTS_SECONDS": 3600}, "hsts: {max_age: 3600}"),
        (False, {"SECURE_HSTS_SECONDS": "3600"}, "nginx sends nothing"),
        (True, {"SECURE_HSTS_PRELOAD": "on"}, "hsts: {preload: true}"),
        ({"include_subdomains": True}, {"SECURE_HSTS_INCLUDE_SUBDOMAINS": False}, "hsts: {include_subdomains: false}"),
        (True, {"SECURE_HSTS_SECONDS": "63072000", "SECURE_HSTS_PRELOAD": "no"}, None),
        (False, {"SECURE_HSTS_SECONDS": "0"}, None),
    ],
)
@pytest.mark.parametrize("where", ["env", "secrets"])
def test_an_environment_that_contradicts_hsts_is_named(where, hsts, variables, expected):
    app = shop(hsts=hsts, **{where: {**SHOP.get(where, {}), **variables}})
    if expected is None:
        asgi_apps([app])
        return
    with pytest.raises(AnsibleFilterError) as error:
        asgi_apps([app])
    assert f"{where}.{next(iter(variables))} contradicts hsts" in str(error.value)
    assert expected in str(error.value) or where == "secrets"
    # A value of a secret is not shown, not even this one.
    assert where == "env" or "3600" not in str(error.value)


def test_middleware_is_put_around_the_application():
    for app in (SHOP, PLAIN):
        (wrapped,) = asgi_apps([app | {"asgi_middleware": ["a.B", "c.d.E"]}])
        assert wrapped["callable"] == "vivarium_asgi:application"
        assert wrapped["public_env"]["VIVARIUM_ASGI_APPLICATION"] == app["application"]
        assert wrapped["public_env"]["VIVARIUM_ASGI_MIDDLEWARE"] == "a.B,c.d.E"


def test_a_release_gets_the_modules_that_it_wants():
    servers = {"uvicorn": {"library": []}}

    def names(app):
        (app,) = asgi_apps([app])
        return [entry["path"].removeprefix("/r/lib/vivarium_") for entry in asgi_library(app, "/r", servers)]

    assert names(SHOP) == [
        "gate.py",
        "headings.py",
        "code.py",
        "checks.py",
        "settings.py",
        "clearsessions.py",
        "gate.json",
    ]
    assert names(shop(vivarium_settings=False)) == ["gate.py", "headings.py", "code.py", "checks.py", "gate.json"]
    plain = ["gate.py", "headings.py", "code.py", "plain_checks.py"]
    assert names(PLAIN) == [*plain, "gate.json"]
    assert names(PLAIN | {"asgi_middleware": ["a.B"]}) == [*plain, "asgi.py", "gate.json"]
    (app,) = asgi_apps(
        [shop(workers=3, processes={"w": {"command": "x"}}, waivers={"a.W001": "b"})], {"shop": {"hosts": 2}}
    )
    told = json.loads(asgi_library(app, "/r", servers)[-1]["content"])
    assert (told["workers"], told["processes"], told["hosts"], told["waivers"]) == (3, 1, 2, {"a.W001": "b"})
    assert "hunter2" not in json.dumps(told)


def test_any_asgi_callable_needs_less():
    (app,) = asgi_apps([PLAIN])
    assert app["database"] is False and app["lifespan"] == "auto" and app["static_url"] == app["media_url"] == ""
    assert app["public_env"] == app["secret_env"] == {} and app["required_secrets"] == []


def test_an_application_may_be_made_by_a_call():
    (app,) = asgi_apps([PLAIN | {"application": "api.sites:Site(['/var/a.db'], key=environ['KEY'], limit=-1).app()"}])
    assert app["callable"] == "vivarium_application:application"
    assert app["made_by"]["module"] == "api.sites" and app["made_by"]["name"] == "Site"
    (app,) = asgi_apps([PLAIN])
    assert app["callable"] == "api:app" and app["made_by"] is None


def test_every_field_of_the_result_is_there_whatever_was_left_out():
    assert set(OPTIONS) <= set(asgi_apps([PLAIN])[0])


def test_the_input_is_not_changed():
    before = copy.deepcopy(SHOP)
    derived = {"shop": {"env": {"A": "1"}, "secrets": {"DATABASE_URL": "x"}}}
    asgi_apps([SHOP | {"processes": {"worker": {"command": "run"}}}], derived, "v2")
    assert before == SHOP and derived == {"shop": {"env": {"A": "1"}, "secrets": {"DATABASE_URL": "x"}}}


def test_what_the_user_says_wins_over_the_topology_and_that_over_defaults():
    derived = {
        "shop": {"env": {"DEBUG": "derived", "A": "derived"}, "secrets": {"DATABASE_URL": "derived", "B": "derived"}}
    }
    (app,) = asgi_apps([shop(env={"A": "user"}, secrets=SHOP["secrets"] | {"B": "user"})], derived)
    assert app["public_env"]["DEBUG"] == "derived" and app["public_env"]["A"] == "user"
    assert app["secret_env"] == {"DATABASE_URL": "derived", "B": "user", "SECRET_KEY": "hunter2"}


def test_the_database_password_is_passed_on_in_the_url_alone():
    assert "DATABASE_PASSWORD" not in asgi_apps([SHOP])[0]["secret_env"]


def test_version_overrides_git_sources_alone():
    apps = asgi_apps([SHOP, PLAIN], version="v9")
    assert apps[0]["source"]["version"] == "v9" and apps[1]["source"] == {"path": "../api"}


def test_a_version_without_a_git_source_is_a_mistake():
    assert "asgi_version 'v9' has no effect" in error(PLAIN, version="v9")


def test_yaml_turns_off_into_a_boolean_and_is_understood():
    assert asgi_apps([PLAIN | {"lifespan": False}])[0]["lifespan"] == "off"
    assert asgi_apps([PLAIN | {"lifespan": True}])[0]["lifespan"] == "on"


def test_numbers_booleans_and_lists_are_good_values_of_the_environment():
    (app,) = asgi_apps([PLAIN | {"env": {"A": 1, "B": True, "C": 1.5, "D": ["x", "y"], "E": ""}}])
    assert app["public_env"] == {"A": 1, "B": True, "C": 1.5, "D": ["x", "y"], "E": ""}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # a missing or empty secret
        ({"secrets": {"DATABASE_PASSWORD": "swordfish"}}, "secrets.SECRET_KEY is required"),
        ({"secrets": {"SECRET_KEY": "hunter2"}}, "secrets.DATABASE_PASSWORD is required"),
        ({"secrets": {"SECRET_KEY": " ", "DATABASE_PASSWORD": "swordfish"}}, "secrets.SECRET_KEY is required"),
        ({"secrets": {"SECRET_KEY": None, "DATABASE_PASSWORD": "swordfish"}}, "secrets.SECRET_KEY is required"),
        ({"required_secrets": ["TOKEN"]}, "secrets.TOKEN is required"),
        ({"required_secrets": [{}]}, "required_secrets must be a list of strings"),
        # a wrong type
        ({"domains": "shop.example.com"}, "domains must be a list"),
        ({"workers": "2"}, "workers must be a whole number"),
        ({"workers": True}, "workers must be a whole number"),
        ({"database": "yes"}, "database must be true, false, or a dictionary"),
        ({"env": ["A=1"]}, "env must be a dictionary"),
        ({"secrets": "SECRET_KEY=hunter2"}, "secrets must be a dictionary"),
        ({"secrets": ["hunter2"]}, "secrets must be a dictionary"),
        ({"source": "hunter2"}, "source must be a dictionary"),
        ({"processes": {"worker": "celery"}}, "processes.worker must be a dictionary"),
        ({"settings": 5}, "settings must be a string"),
        # an unknown key
        ({"servr": "uvicorn"}, "unknown key 'servr' (known: name, "),
        ({"secret": {"SECRET_KEY": "hunter2"}}, "unknown key 'secret'"),
        ({"processes": {"worker": {"command": "a", "cmd": "b"}}}, "processes.worker: unknown key 'cmd'"),
        ({"timers": {"daily": {"command": "a", "on_calendar": "daily", "at": "x"}}}, "timers.daily: unknown key 'at'"),
        ({"certificate": {"type": "provided", "cert": "x"}}, "certificate: unknown key 'cert'"),
        # a domain that is none
        *(
            ({"domains": [name]}, f"domains: '{name}' is not a lower-case domain name")
            for name in (
                "Shop.example.com",
                "shop_.example.com",
                "-shop.example.com",
                "shop..example.com",
                "shop.example.com.",
                "http://shop.example.com",
                "shop.example.com:8000",
                "a;b",
                "a b",
                "a" * 64 + ".example.com",
            )
        ),
        *(({"domains": [name]}, f"domains: {name!r} is not a domain name") for name in ("", None, 5)),
        ({"domains": ["192.0.2.1"]}, "'192.0.2.1' is an address, not a domain name: TLS clients do not send addresses"),
        ({"domains": ["2001:db8::1"]}, "'2001:db8::1' is an address, not a domain name"),
        ({"domains": ["*.example.com"]}, "'*.example.com' comes first; the first is a full name, under which a deploy"),
        *(
            (
                {"domains": ["example.com", name]},
                f"'{name}' has its wildcard in the wrong place: it stands for the whole first label",
            )
            for name in ("*", "www.*.example.com", "*shop.example.com", "*.*.example.com", "example.*")
        ),
        (
            {"domains": ["münchen.example"]},
            "'münchen.example' is an international name, which is written 'xn--mnchen-3ya.example' here",
        ),
        ({"domains": ["a.example", "*.münchen.example"]}, "which is written '*.xn--mnchen-3ya.example' here"),
        ({"domains": ["straße.example"]}, "'straße.example' is an international name; write it in its xn-- form"),
        ({"static_url": "/dateien für alle/"}, "nginx decodes them"),
        ({"health_path": "/gesund/ä?x=1"}, "but those of ASCII: /gesund/%C3%A4?x=1 is the same"),
        # what nginx does for it
        (
            {"site": {"read_timout": 5}},
            "site: unknown key 'read_timout' (known: read_timeout, websocket_timeout, rate_limits,",
        ),
        ({"site": {"read_timeout": 0}}, "site.read_timeout must be between 1 and 86400"),
        ({"site": {"read_timeout": "2m"}}, "site: read_timeout must be a whole number"),
        ({"site": {"title": "a\nb"}}, "site.title must be a line of at most 200 characters"),
        ({"site": {"title": ""}}, "site.title must be a line of at most 200 characters"),
        ({"site": {"websocket_timeout": 0}}, "site.websocket_timeout must be between 1 and 86400"),
        ({"site": {"rate_limits": {"/login/": 5}}}, "site.rate_limits./login/: 5 is not a rate with a unit"),
        ({"site": {"connection_limit": -1}}, "site.connection_limit: -1 is not a number"),
        (
            {"site": {"protect": {"/admin/": {"users": {"ann": "hunter2"}}}}},
            "site.protect./admin/: users.ann is not a hash",
        ),
        ({"site": {"protect": {"/": {"addresses": ["::1"]}}}}, "site.protect./: is the path by which a deploy"),
        (
            {"health_path": "/up/?full", "site": {"protect": {"/up": {"addresses": ["::1"]}}}},
            "site.protect./up: is the path by which a deploy",
        ),
        (
            {"site": {"headers": {"Strict-Transport-Security": "x"}}},
            "site.headers: what Strict-Transport-Security says is decided by hsts",
        ),
        ({"site": {"pass_headers": ["Host"]}}, "site.pass_headers: nginx itself says Host"),
        (
            {"site": {"trusted_proxies": ["10.0.0.0/33"]}},
            "site.trusted_proxies: '10.0.0.0/33' is neither an address nor a network",
        ),
        (
            {"site": {"locations": {"/static/x/": {"return": 404}}}},
            "site.locations./static/x/: files lie there (/static/)",
        ),
        (
            {"health_path": "/up/now/", "site": {"locations": {"/up/": {"return": 404}}}},
            "site.locations./up/: is where a deploy asks",
        ),
        ({"site": {"locations": {"/.well-known/acme-challenge/": {"return": 404}}}}, "is answered by nginx itself"),
        ({"redirect_domains": ["shop.example.com"]}, "redirect_domains: 'shop.example.com' is one of its domains"),
        ({"redirect_domains": ["a b"]}, "redirect_domains: 'a b' is not a lower-case domain name"),
        (
            {"site": {"internal": {"protected": "x"}}},
            "site.internal: 'protected' must be a path that begins and ends with '/'",
        ),
        (
            {"site": {"internal": {"/media/": "x"}}},
            "site.internal: '/media/' is where visitors find files that are for all",
        ),
        *(
            (
                {"site": {"internal": {"/x/": path}}},
                "site.internal./x/ must be a directory of the application's uploads",
            )
            for path in ("", ".", "..", "a/../b", "/etc", "a//b", "./a", 5)
        ),
        ({"domains": []}, "domains needs at least one name"),
        ({"domains": ["a.example.com", "a.example.com"]}, "the domain 'a.example.com' is used more than once"),
        # what cannot be a name
        *(
            ({"name": name}, "name must be 1 to 24")
            for name in (
                "Shop",
                "1shop",
                "shop-1",
                "shop.x",
                "",
                "a" * 25,
                "root",
                "postgresql",
                "www-data",
                "user",
                "../x",
                "shop\n",
            )
        ),
        ({"name": None}, "name is required"),
        # an unknown choice
        ({"server": "unicorn"}, "server 'unicorn' is unknown (known: uvicorn"),
        ({"framework": "flask"}, "framework 'flask' is unknown"),
        ({"lifespan": "maybe"}, "lifespan 'maybe' is unknown"),
        ({"check_fail_level": "warning"}, "check_fail_level 'warning' is unknown"),
        # sources
        ({"source": {}}, "source needs exactly one of git, path, archive, package"),
        ({"source": {"git": "x", "path": "y", "version": "z"}}, "source needs exactly one of"),
        ({"source": {"git": "x"}}, "source.version is required for git"),
        ({"source": {"git": "x", "version": 1.10}}, "source.version must be a string (quote"),
        ({"source": {"git": "x", "version": "--upload-pack=x"}}, "source.version must not begin with '-'"),
        ({"source": {"path": "x", "version": "v1"}}, "source: unknown key 'version' beside path"),
        ({"source": {"path": ["x"]}}, "source.path must be a string"),
        *(
            (
                {"source": {"path": "x", "subdirectory": place}},
                f"source.subdirectory: '{place}' must be a path inside the code",
            )
            for place in ("/srv", "../other", "a/../../b", "a/..", ".", "./a", "a/", "a//b", "a/./b", "-a", "a\\b")
        ),
        ({"source": {"path": "x", "subdirectory": ["a"]}}, "source.subdirectory must be a string"),
        ({"source": {"package": "x", "subdirectory": "a"}}, "source: unknown key 'subdirectory' beside package"),
        ({"source": {"path": "x", "include": ["a", "../b"]}}, "source.include: '../b' must be a path inside the code"),
        ({"source": {"path": "x", "include": "a/"}}, "source.include: 'a/' must be a path inside the code"),
        (
            {"site": {"internal": {"/bills/": "bills", "/media/bills/": "other"}}},
            "site.internal: '/media/bills/' is where the uploads in 'bills' lie, which are internal too",
        ),
        ({"source": {"path": "x", "include": "dist"}}, "source.include: 'dist' must be a path inside the code"),
        ({"source": {"path": "x", "exclude": "d"}}, "source.exclude: 'd' must be a path inside the code"),
        ({"application": f"shop.asgi:make{'()' * 1500}"}, "application must look like 'package.module:callable'"),
        (
            {"source": {"git": "x", "version": "v1", "exclude": ["/a"]}},
            "source.exclude: '/a' must be a path inside the code",
        ),
        ({"source": {"git": "x", "version": "v1", "include": ["a"]}}, "source: unknown key 'include' beside git"),
        ({"source": {"package": "--index-url=x"}}, "source.package must not begin with '-'"),
        # an environment that cannot be carried
        ({"env": {"A-B": "1"}}, "env: 'A-B' is not a name of an environment variable"),
        ({"env": {1: "1"}}, "env: '1' is not a name"),
        ({"env": {"A": None}}, "env.A is not set"),
        ({"env": {"A": {"b": 1}}}, "env.A: must be text, a number, a boolean or a list"),
        ({"secrets": SHOP["secrets"] | {"TOKEN": "hunter2\0"}}, "secrets.TOKEN: contains a control character"),
        ({"secrets": SHOP["secrets"] | {"TOKEN": {"hunter2": 1}}}, "secrets.TOKEN: must be text"),
        ({"env": {"SECRET_KEY": "x"}}, "SECRET_KEY stands in env and in secrets"),
        # the rest
        ({"application": "shop.asgi"}, "application must look like 'package.module:callable'"),
        ({"application": "shop.asgi:app; rm -rf /"}, "application must look like"),
        ({"application": "shop.asgi:app.make() or 1"}, "application must look like"),
        ({"application": "shop.asgi:make('a'"}, "application must look like"),
        ({"application": "shop.asgi:make()()\nimport os"}, "application must look like"),
        (
            {"application": "shop.asgi:make(open('/etc/passwd'))"},
            "application may call with literals and environ['NAME'] alone",
        ),
        ({"application": "shop.asgi:make(*environ)"}, "application may call with literals"),
        ({"application": None}, "application is required"),
        ({"settings": None}, "settings is required for framework django"),
        ({"settings": "shop/settings.py"}, "settings must be a dotted module path"),
        ({"workers": 0}, "workers must be between 1 and 256"),
        ({"keep_releases": 1}, "keep_releases must be between 2 and 100"),
        ({"start_timeout": 0}, "start_timeout must be between"),
        ({"port": 70000}, "port must be between 1 and 65535"),
        ({"static_url": "static/"}, "static_url must be a path that begins and ends with '/'"),
        ({"static_url": "https://cdn.example.com/"}, "static_url must be a path"),
        ({"media_url": "/media"}, "media_url must be a path"),
        ({"health_path": "health/"}, "health_path must begin with '/'"),
        ({"health_path": "/a b"}, "health_path must begin with '/' and hold no white space"),
        ({"python": "--evil"}, "python must be a path, a name or a version"),
        ({"client_max_body_size": "10 MB"}, "client_max_body_size must be a size"),
        ({"processes": {"Worker": {"command": "x"}}}, "processes: 'Worker' must be lower-case"),
        ({"processes": {"drain": {"command": "x"}}}, "processes: 'drain' must"),
        ({"processes": {"worker": {}}}, "processes.worker: command is required"),
        ({"processes": {"worker": {"command": "a\nExecStart=b"}}}, "processes.worker.command must be one line"),
        ({"timers": {"daily": {"command": "x"}}}, "timers.daily: on_calendar is required"),
        ({"timers": {"daily": {"command": "x", "on_calendar": " "}}}, "timers.daily.on_calendar must be one line"),
        (
            {"processes": {"x": {"command": "x"}}, "timers": {"x": {"command": "x", "on_calendar": "daily"}}},
            "'x' is both a process and a timer",
        ),
        ({"vivarium_settings": "no"}, "vivarium_settings must be true or false"),
        ({"framework": "none", "vivarium_settings": True}, "vivarium_settings is for framework django"),
        ({"asgi_middleware": ["Wrap"]}, "asgi_middleware: 'Wrap' must be a dotted path"),
        ({"asgi_middleware": [5]}, "asgi_middleware must be a list of strings"),
        ({"hsts_preload": True}, "hsts_preload is said as hsts: {preload: …} now"),
        ({"hsts_subdomains": False}, "hsts_subdomains is said as hsts: {include_subdomains: …} now"),
        ({"hsts": {"preload": True}}, "hsts: preload needs include_subdomains: true"),
        ({"hsts": {"preload": True, "include_subdomains": True, "max_age": 3600}}, "a max_age of 31536000 at least"),
        ({"hsts": {"maxage": 60}}, "hsts: unknown key 'maxage'"),
        ({"hsts": {"max_age": "a year"}}, "hsts: max_age 'a year' is not a number of seconds"),
        ({"hsts": {"include_subdomains": "perhaps"}}, "include_subdomains 'perhaps' is neither true nor false"),
        ({"hsts": "off"}, "hsts must be true, false, or a dictionary"),
        ({"waivers": {"security.W021": ""}}, "waivers.security.W021 needs a reason"),
        ({"waivers": {"security.W021": None}}, "waivers.security.W021 needs a reason"),
        ({"waivers": {"security.W021": True}}, "waivers.security.W021 needs a reason"),
        ({"waivers": {"W021": "why"}}, "waivers: 'W021' is no id of a check"),
        ({"waivers": ["security.W021"]}, "waivers must be a dictionary"),
        ({"timers": {"other": None}}, "timers.other must be a dictionary"),
        ({"sandbox": {"PrivateTmp": "no\nUser=root"}}, "sandbox: 'PrivateTmp' must be"),
        ({"sandbox": {"not a directive": "x"}}, "sandbox: 'not a directive' must be"),
        ({"sandbox": {"DeviceAllow": ["char-drm rw", 7]}}, "sandbox: 'DeviceAllow' must be"),
        ({"sandbox_allow": ["jit", "everything"]}, "sandbox_allow: 'everything' is unknown (known: jit, gpu"),
        ({"server_options": ["--limit-concurrency", 200]}, "server_options must be a list of strings"),
        ({"server_options": ["--header\nExecStop=x"]}, "server_options must be a list of strings"),
        ({"server_options": "--limit-concurrency 200"}, "server_options must be a list"),
        ({"access_log": "yes"}, "access_log must be true or false"),
        ({"worker_class": "asgi"}, "worker_class has a meaning for server gunicorn alone"),
        ({"server": "gunicorn", "worker_class": "sync"}, "worker_class 'sync' is unknown"),
        ({"certificate": {"type": "provided", "certificate": "x"}}, "certificate.key is required"),
        # hooks
        ({"install": {"extras": ["-x"]}}, "install.extras must be a list of names of extras"),
        (
            {"install": {"requirements": ["../x.txt"]}},
            "install.requirements must be a list of paths of files in the code",
        ),
        (
            {"install": {"groups": ["a"], "requirements": ["x.txt"]}},
            "install.requirements says which packages there are",
        ),
        ({"install": {"all": True}}, "install: unknown key 'all' (known: extras, groups, requirements)"),
        ({"source": {"package": "a"}, "install": {"extras": ["x"]}}, "its extras belong into source.package"),
        ({"build": ["npm 'ci"]}, "build must be a list of commands: each must have its quotes closed"),
        ({"hooks": ["x"]}, "hooks must be a dictionary"),
        ({"hooks": {"before_lunch": ["x"]}}, "hooks: unknown key 'before_lunch' (known: before_migrate, "),
        ({"hooks": {"before_switch": "x"}}, "hooks: before_switch must be a list"),
        *(
            ({"hooks": {"after_switch": [command]}}, "hooks.after_switch must be a list of commands")
            for command in ("", "a\nb", "say 'hello", None, {"command": "x"})
        ),
        # a deploy key
        ({"source": {"path": "x", "key": "hunter2"}}, "source: unknown key 'key' beside path"),
        ({"source": {"git": "x", "version": "v1", "key": ["hunter2"]}}, "source.key must be a string"),
        ({"settle_time": -1}, "settle_time must be between"),
        # how a database is spoken of
        ({"database": {"socket": True}}, "database: unknown key 'socket' (known: tcp, variables)"),
        ({"database": {"tcp": "yes"}}, "database: tcp must be true or false"),
        ({"database": {"variables": ["DB_USER"]}}, "database: variables must be a dictionary"),
        ({"database": {"variables": {"DB USER": "user"}}}, "'DB USER' is not a name of an environment variable"),
        ({"database": {"variables": {"DB_USER": "usr"}}}, "database.variables.DB_USER must be one of url, host, port,"),
        (
            {"database": {"variables": {"DB_URL": "mysql+aiomysql"}}},
            "or the scheme of an address such as postgresql+asyncpg",
        ),
        ({"database": {"variables": {"DB_URL": "postgresql+x://h/?a="}}}, "database.variables.DB_URL must be one of"),
        ({"database": {"variables": {"SECRET_KEY": "password"}}}, "SECRET_KEY stands in env or secrets too, which win"),
        ({"hang_timeout": -1}, "hang_timeout must be between"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_is_named(change, expected):
    message = error(shop(**change))
    assert expected in message
    assert "asgi_apps[0]" in message or "used more than once" in message


def test_what_is_no_list_of_dictionaries():
    for wrong in ("shop", {"shop": {}}, None, 5):
        with pytest.raises(AnsibleFilterError, match="asgi_apps must be a list"):
            asgi_apps(wrong)
    assert "asgi_apps[1] must be a dictionary" in error(SHOP, "hunter2")


def test_names_domains_and_ports_are_used_once():
    message = error(SHOP, shop(port=8100))
    for expected in ("name 'shop'", "domain 'shop.example.com'", "port '8100'"):
        assert f"the {expected} is used more than once" in message


def test_all_mistakes_are_told_at_once():
    message = error(
        shop(servr="x", domains=["A"], secrets={}, env={"A-B": "1"}, processes={"w": {}}),
        PLAIN | {"workers": "two"},
        PLAIN | {"name": "sudo"},
    )
    for expected in (
        "asgi_apps[0] (shop): unknown key 'servr'",
        "asgi_apps[0] (shop): domains: 'A'",
        "asgi_apps[0] (shop): secrets.SECRET_KEY is required",
        "asgi_apps[0] (shop): secrets.DATABASE_PASSWORD is required",
        "asgi_apps[0] (shop): env: 'A-B'",
        "asgi_apps[0] (shop): processes.w: command is required",
        "asgi_apps[1] (api): workers must be a whole number",
        "asgi_apps[2] (sudo): name must be",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("app", "row", "worker_class"),
    [
        ({}, "uvicorn", None),
        ({"server": "daphne"}, "daphne", None),
        ({"server": "gunicorn"}, "gunicorn", "uvicorn_worker.UvicornWorker"),
        ({"server": "gunicorn", "worker_class": "asgi"}, "gunicorn_asgi", "asgi"),
    ],
)
def test_each_server_has_its_row(app, row, worker_class):
    (completed,) = asgi_apps([PLAIN | app])
    assert (completed["serve_with"], completed["worker_class"]) == (row, worker_class)


def test_hooks_and_a_deploy_key_are_taken_as_they_are():
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n"
    (app,) = asgi_apps([shop(hooks={"after_switch": ["say 'hello there'"]}, source=SHOP["source"] | {"key": key})])
    assert app["hooks"]["after_switch"] == ["say 'hello there'"] and app["hooks"]["before_switch"] == []
    assert app["source"]["key"] == key


def test_a_sandbox_may_be_loosened():
    sandbox = {"MemoryDenyWriteExecute": None, "ProtectHome": "", "PrivateTmp": False, "ReadOnlyPaths": "/mnt/x /mnt/y"}
    assert asgi_apps([PLAIN | {"sandbox": sandbox}])[0]["sandbox"] == sandbox


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "shop api blog"), ("", "shop api blog"), (["blog", "shop"], "shop blog"), ("api", "api"), ("blog, api", "api blog"),
    ],
)  # fmt: skip
def test_applications_are_chosen_by_name(names, expected):
    apps = [{"name": name} for name in ("shop", "api", "blog")]
    assert [app["name"] for app in asgi_only(apps, names)] == expected.split()


def test_a_name_that_no_application_has_is_told():
    with pytest.raises(AnsibleFilterError, match="asgi_only names cart, which is no application of asgi_apps"):
        asgi_only([{"name": "shop"}], ["shop", "cart"])
