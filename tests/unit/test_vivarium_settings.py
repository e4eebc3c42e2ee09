"""Production settings on top of a project's own: which of the environment, the checklist and the project wins."""

from __future__ import annotations

import importlib.util
import logging
import os
import pathlib
import subprocess
import sys

import django
import django.http.cookie
import pytest
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "roles/asgi/files/django"

_spec = importlib.util.spec_from_file_location("vivarium_settings_here", LIBRARY / "vivarium_settings.py")
module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(module)

SECRET = "hunter2-" + "x7Kq" * 15
ENVIRONMENT = {
    "SECRET_KEY": SECRET,
    "ALLOWED_HOSTS": "shop.example.com,www.shop.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://shop.example.com",
    "STATIC_ROOT": "/srv/shop/releases/r/static",
    "STATIC_URL": "/static/",
    "MEDIA_ROOT": "/srv/shop/media",
    "MEDIA_URL": "/media/",
    "ADMINS": "Ann <ann@example.com>, bob@example.com",
    "CACHE_KEY_PREFIX": "shop",
}
# What `startproject` writes, as far as it matters here.
PLAIN = {
    "SECRET_KEY": "django-insecure-abc",
    "DEBUG": True,
    "ALLOWED_HOSTS": [],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": pathlib.Path("db.sqlite3")}},
    "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {}}],
    "STATIC_URL": "static/",
    **({"MAILERS": {"default": {"BACKEND": module.development_mail[0]}}} if django.VERSION >= (6, 1) else {}),
}
POSTGRESQL = "postgresql://shop:p%40ss%2Fw@/shop?host=%2Fvar%2Frun%2Fpostgresql"


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """Which packages a release has."""
    found = {"psycopg", "psycopg_pool", "redis"}
    monkeypatch.setattr(module, "installed", found.__contains__)
    return found


def settings(project=None, **variables):
    return module.production(PLAIN | (project or {}), ENVIRONMENT | variables)


def mistake(**variables):
    with pytest.raises(ImproperlyConfigured) as raised:
        settings(**variables)
    assert "hunter2" not in str(raised.value)
    return str(raised.value)


# 1. What the environment says wins.


def test_the_environment_wins_over_the_project():
    project = {
        "SECRET_KEY_FALLBACKS": ["old"],
        "ALLOWED_HOSTS": ["*"],
        "STATIC_URL": "/s/",
        "MEDIA_ROOT": "/x",
        "ADMINS": ["a@b.c"],
    }
    got = settings(project, SECRET_KEY_FALLBACKS="one,two", SECURE_HSTS_SECONDS="60")
    assert got["SECRET_KEY"] == SECRET and got["SECRET_KEY_FALLBACKS"] == ["one", "two"]
    assert got["ALLOWED_HOSTS"] == ["shop.example.com", "www.shop.example.com"]
    assert (got["STATIC_URL"], got["STATIC_ROOT"]) == ("/static/", "/srv/shop/releases/r/static")
    assert (got["MEDIA_URL"], got["MEDIA_ROOT"]) == ("/media/", "/srv/shop/media")
    assert got["SECURE_HSTS_SECONDS"] == 60


def test_fallbacks_of_the_secret_key_come_from_the_environment_alone():
    assert settings({"SECRET_KEY_FALLBACKS": ["django-insecure-abc"]})["SECRET_KEY_FALLBACKS"] == []


def test_people_are_written_as_this_django_wants_them():
    assert settings()["ADMINS"] == (
        ["Ann <ann@example.com>", "bob@example.com"]
        if django.VERSION >= (6, 0)
        else [("Ann", "ann@example.com"), ("", "bob@example.com")]
    )
    assert "MANAGERS" not in settings()


def test_trusted_origins_are_those_of_the_site_and_of_the_project_over_https():
    project = {
        "CSRF_TRUSTED_ORIGINS": ["https://forms.example.com", "http://localhost:3000", "https://shop.example.com"]
    }
    assert settings(project)["CSRF_TRUSTED_ORIGINS"] == ["https://shop.example.com", "https://forms.example.com"]


def test_a_database_is_named_by_its_url():
    database = settings(DATABASE_URL=POSTGRESQL)["DATABASES"]["default"]
    assert {key: database[key] for key in ("ENGINE", *module.place)} == {
        "ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "shop", "PASSWORD": "p@ss/w",
        "HOST": "/var/run/postgresql", "PORT": "",
    }  # fmt: skip
    assert database["OPTIONS"]["pool"] == {"min_size": 1, "max_size": 4, "timeout": 10}
    assert database["CONN_MAX_AGE"] == 0 and database["CONN_HEALTH_CHECKS"] is True
    remote = settings(DATABASE_URL="postgres://u:p@[2001:db8::1]:5433/n?sslmode=require")["DATABASES"]["default"]
    assert (remote["HOST"], remote["PORT"], remote["OPTIONS"]["sslmode"]) == ("2001:db8::1", "5433", "require")


def test_a_database_keeps_what_the_project_says_beside_its_place():
    project = {
        "DATABASES": {
            "default": {
                "ENGINE": "django.contrib.gis.db.backends.postgis", "NAME": "dev", "HOST": "db", "ATOMIC_REQUESTS": True,
                "OPTIONS": {"pool": {"max_size": 9}, "application_name": "shop"}, "CONN_MAX_AGE": 60,
            },
            "replica": {"ENGINE": "django.db.backends.postgresql", "NAME": "r", "CONN_MAX_AGE": None},
        }
    }  # fmt: skip
    databases = settings(project, DATABASE_URL=POSTGRESQL)["DATABASES"]
    default = databases["default"]
    assert default["ENGINE"].endswith("postgis") and default["ATOMIC_REQUESTS"] and default["NAME"] == "shop"
    assert default["OPTIONS"]["pool"] == {"max_size": 9} and default["OPTIONS"]["application_name"] == "shop"
    assert databases["replica"]["NAME"] == "r"
    assert {database["CONN_MAX_AGE"] for database in databases.values()} == {0}
    assert project["DATABASES"]["default"]["CONN_MAX_AGE"] == 60, "the project's own settings are not written to"


def test_options_of_another_kind_of_database_go():
    project = {
        "DATABASES": {
            "default": {"ENGINE": module.sqlite, "NAME": "x", "OPTIONS": {"timeout": 5}, "ATOMIC_REQUESTS": True}
        }
    }
    default = settings(project, DATABASE_URL=POSTGRESQL)["DATABASES"]["default"]
    assert "timeout" not in default["OPTIONS"] and default["ATOMIC_REQUESTS"] is True


def test_the_pool_has_the_size_that_is_asked_for(packages):
    def pool(**variables):
        return settings(DATABASE_URL=POSTGRESQL, **variables)["DATABASES"]["default"]["OPTIONS"].get("pool")

    assert pool(DATABASE_POOL_SIZE="9", DATABASE_POOL_MIN_SIZE="3") == {"min_size": 3, "max_size": 9, "timeout": 10}
    assert pool(DATABASE_POOL_SIZE="0") is None
    packages.remove("psycopg_pool")
    assert pool() is None


def test_sqlite_lies_where_the_application_may_write_and_nothing_is_lost(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/var/lib/asgi-shop")

    def place(name, **variables):
        project = {"DATABASES": {"default": {"ENGINE": module.sqlite, "NAME": name}}}
        return str(settings(project, **variables)["DATABASES"]["default"]["NAME"])

    assert place(tmp_path / "db.sqlite3") == place("db.sqlite3") == "/var/lib/asgi-shop/db.sqlite3"
    assert place("/mnt/data/db.sqlite3") == "/mnt/data/db.sqlite3"
    assert place("x", DATABASE_URL="sqlite:///shop.sqlite3") == "/var/lib/asgi-shop/shop.sqlite3"
    assert place("x", DATABASE_URL="sqlite:////mnt/shop.sqlite3") == "/mnt/shop.sqlite3"
    assert place(":memory:") == ":memory:"


def test_redis_becomes_the_cache_and_keeps_sessions():
    got = settings(CACHE_URL="redis://:hunter2@cache:6379/1")
    assert got["CACHES"]["default"] == {
        "BACKEND": module.redis_cache, "LOCATION": "redis://:hunter2@cache:6379/1", "KEY_PREFIX": "shop",
    }  # fmt: skip
    assert got["SESSION_ENGINE"] == "django.contrib.sessions.backends.cached_db"
    assert settings(REDIS_URL="unix:///run/redis.sock?db=1")["CACHES"]["default"]["BACKEND"] == module.redis_cache


def test_a_cache_that_the_project_chose_stays_unless_cache_url_says_another(packages):
    memcached = {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": "x:1", "TIMEOUT": 9}
    project = {"CACHES": {"default": memcached, "other": {"BACKEND": module.local_cache}}}
    assert settings(project, REDIS_URL="redis://c")["CACHES"] == project["CACHES"]
    got = settings(project, CACHE_URL="redis://c")["CACHES"]
    assert got["default"] == {
        "BACKEND": module.redis_cache,
        "LOCATION": "redis://c",
        "TIMEOUT": 9,
        "KEY_PREFIX": "shop",
    }
    assert got["other"] == project["CACHES"]["other"]
    own = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://dev",
        "KEY_PREFIX": "p",
        "OPTIONS": {"a": 1},
    }
    assert settings({"CACHES": {"default": own}}, REDIS_URL="redis://c")["CACHES"]["default"] == own | {
        "LOCATION": "redis://c"
    }
    packages.remove("redis")
    assert "CACHES" not in settings(REDIS_URL="redis://c"), "it may be meant for other things"
    assert "package redis" in mistake(CACHE_URL="redis://c")


def test_sessions_stay_where_the_project_keeps_them():
    project = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}
    assert settings(project, CACHE_URL="redis://c")["SESSION_ENGINE"] == project["SESSION_ENGINE"]
    assert "SESSION_ENGINE" not in settings()


def mail_of(got):
    """The mail server of settings in either way to write it."""
    if "MAILERS" in got:
        mailer = got["MAILERS"]["default"]
        return {"backend": mailer["BACKEND"], **mailer.get("OPTIONS", {})}
    options = {option: got[name] for option, name in module.mail_options.items() if name in got}
    return {"backend": got.get("EMAIL_BACKEND", global_settings.EMAIL_BACKEND), **options}


def test_mail_goes_where_the_environment_says():
    got = mail_of(settings(EMAIL_URL="smtp+tls://me:hunter2%21@mail.example.com"))
    assert got == {
        "backend": module.smtp, "host": "mail.example.com", "port": 587, "username": "me", "password": "hunter2!",
        "use_tls": True, "use_ssl": False, "timeout": 10,
    }  # fmt: skip
    assert mail_of(settings(EMAIL_HOST="mail", EMAIL_PORT="2525", EMAIL_USE_TLS="true"))["port"] == 2525


def test_mail_of_development_is_never_sent_that_way_in_production():
    assert mail_of(settings())["backend"] == module.smtp
    assert mail_of(settings({"EMAIL_BACKEND": module.development_mail[0]}))["backend"] == module.smtp


def test_mail_that_the_project_set_stays():
    own = "anymail.backends.mailgun.EmailBackend"
    if django.VERSION >= (6, 1):
        got = settings({"MAILERS": {"default": {"BACKEND": own}, "news": {"OPTIONS": {"host": "news"}}}})["MAILERS"]
        assert got == {"default": {"BACKEND": own}, "news": {"OPTIONS": {"host": "news"}}}
    project = {name: value for name, value in PLAIN.items() if name != "MAILERS"} | {
        "EMAIL_BACKEND": own,
        "EMAIL_HOST": "h",
    }
    got = module.production(project, ENVIRONMENT)
    assert (got["EMAIL_BACKEND"], got["EMAIL_HOST"]) == (own, "h") and "MAILERS" not in got


def test_sentry_hears_of_errors_where_it_is_installed(packages, monkeypatch):
    calls = []

    class Client:
        active = False

        def is_active(self):
            return self.active

    class Sentry:
        client = Client()

        def get_client(self):
            return self.client

        def init(self, **options):
            calls.append(options)

    monkeypatch.setitem(sys.modules, "sentry_sdk", Sentry())
    settings(SENTRY_DSN="https://k@sentry.example.com/1")
    assert calls == [], "the package is not there"
    packages.add("sentry_sdk")
    settings(SENTRY_DSN="https://k@sentry.example.com/1", RELEASE="r1")
    assert calls[0]["release"] == "r1" and calls[0]["send_default_pii"] is False
    Sentry.client.active = True
    settings(SENTRY_DSN="https://k@sentry.example.com/1")
    assert len(calls) == 1, "the project's own call counts"


def test_postgresql_in_the_place_of_another_engine_brings_its_application():
    apps = {"INSTALLED_APPS": ["django.contrib.auth"]}
    assert settings(apps, DATABASE_URL=POSTGRESQL)["INSTALLED_APPS"] == [
        "django.contrib.auth",
        "django.contrib.postgres",
    ]
    # A project that speaks to PostgreSQL knows what it needs, and what it has is not named twice.
    own = apps | {"DATABASES": {"default": {"ENGINE": "django.contrib.gis.db.backends.postgis"}}}
    assert settings(own, DATABASE_URL=POSTGRESQL)["INSTALLED_APPS"] == ["django.contrib.auth"]
    named = {"INSTALLED_APPS": ["django.contrib.postgres.apps.PostgresConfig"]}
    assert settings(named, DATABASE_URL=POSTGRESQL)["INSTALLED_APPS"] == named["INSTALLED_APPS"]
    assert settings(apps)["INSTALLED_APPS"] == ["django.contrib.auth"]


# 2. What the checklist demands wins over the project.


def test_the_checklist_wins_over_the_project():
    project = {
        "DEBUG": True, "SECURE_SSL_REDIRECT": False, "SESSION_COOKIE_SECURE": False, "CSRF_COOKIE_SECURE": False,
        "SECURE_HSTS_SECONDS": 0, "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_SSL", "on"),
    }  # fmt: skip
    got = settings(project)
    assert got["DEBUG"] is False
    assert got["SECURE_SSL_REDIRECT"] and got["SESSION_COOKIE_SECURE"] and got["CSRF_COOKIE_SECURE"]
    assert got["SECURE_HSTS_SECONDS"] == 63072000
    assert got["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https"), (
        "the only header that nginx overwrites"
    )
    assert got["SECURE_HSTS_INCLUDE_SUBDOMAINS"] is got["SECURE_HSTS_PRELOAD"] is False


def test_compiled_templates_are_kept_whatever_loaders_there_are():
    loaders = ["django.template.loaders.filesystem.Loader"]
    engine = {"BACKEND": "x", "OPTIONS": {"loaders": loaders, "debug": True}}
    cached = settings({"TEMPLATES": [engine]})["TEMPLATES"]
    assert cached == [{"BACKEND": "x", "OPTIONS": {"loaders": [(module.cached_loader, loaders)]}}]
    assert settings({"TEMPLATES": cached})["TEMPLATES"] == cached
    assert engine["OPTIONS"]["debug"] is True


# 3. What the project set otherwise stays.


def test_what_the_project_set_stays():
    project = {
        "LOGGING": {"version": 1}, "SECURE_HSTS_SECONDS": 3600, "SECURE_HSTS_INCLUDE_SUBDOMAINS": True,
        "SERVER_EMAIL": "errors@example.com", "LANGUAGE_CODE": "de", "OWN": 1,
        "STORAGES": {"default": {"BACKEND": "s3"}, "staticfiles": {"BACKEND": "whitenoise.storage.X"}},
    }  # fmt: skip
    got = settings(project)
    assert {name: got[name] for name in project} == project
    assert got["DEFAULT_FROM_EMAIL"] == "webmaster@shop.example.com"


# 4. What is left at Django's default becomes what production needs.


def test_defaults_become_what_production_needs():
    got = settings()
    assert got["STORAGES"]["staticfiles"]["BACKEND"] == module.hashed_static
    assert got["STORAGES"]["default"] == global_settings.STORAGES["default"]
    assert (got["DEFAULT_FROM_EMAIL"], got["SERVER_EMAIL"]) == ("webmaster@shop.example.com", "root@shop.example.com")
    assert got["LOGGING"]["root"] == {"handlers": ["stderr"], "level": "INFO"}
    plain = settings(STATICFILES_STORAGE=module.plain_static)
    assert plain["STORAGES"]["staticfiles"]["BACKEND"] == module.plain_static
    without_static = {name: value for name, value in ENVIRONMENT.items() if name != "STATIC_ROOT"}
    assert module.production(PLAIN, without_static)["STORAGES"]["staticfiles"]["BACKEND"] == module.plain_static


def cookies_of(got):
    kinds = ("SESSION", "CSRF", "LANGUAGE")
    return [(got.get(f"{kind}_COOKIE_NAME"), got.get(f"{kind}_COOKIE_PATH")) for kind in kinds]


def test_below_a_path_links_and_cookies_are_its_own():
    got = settings(FORCE_SCRIPT_NAME="/api/v1.0")
    assert got["FORCE_SCRIPT_NAME"] == "/api/v1.0"
    assert (got["LOGIN_URL"], got["LOGIN_REDIRECT_URL"]) == ("/api/v1.0/accounts/login/", "/api/v1.0/accounts/profile/")
    names = ("sessionid", "csrftoken", "django_language")
    assert cookies_of(got) == [(f"{name}_api_v1_0", "/api/v1.0/") for name in names]
    # At the top of a domain nothing is said of them.
    assert "FORCE_SCRIPT_NAME" not in settings() and cookies_of(settings()) == [(None, None)] * 3


def test_below_a_path_the_project_and_the_environment_have_their_say():
    project = {"LOGIN_URL": "accounts:login", "SESSION_COOKIE_NAME": "mine", "CSRF_COOKIE_PATH": "/api/in/"}
    got = settings(project, FORCE_SCRIPT_NAME="/api", LANGUAGE_COOKIE_PATH="/", CSRF_COOKIE_NAME="token")
    assert got["LOGIN_URL"] == "accounts:login"
    assert cookies_of(got) == [("mine", "/api/"), ("token", "/api/in/"), ("django_language_api", "/")]
    # Browsers refuse it for a part of a host.
    whole = settings({"SESSION_COOKIE_NAME": "__Host-sessionid"}, FORCE_SCRIPT_NAME="/api")
    assert cookies_of(whole)[0] == ("__Host-sessionid", None)


def test_why_a_path_is_not_enough_to_tell_cookies_apart():
    """A browser sends the one of the longer path first (RFC 6265, 5.4); Django takes the last."""
    assert django.http.cookie.parse_cookie("sessionid=api; sessionid=shop") == {"sessionid": "shop"}


def test_lines_of_the_journal_tell_their_level(monkeypatch):
    record = logging.LogRecord("django.request", logging.ERROR, "x.py", 1, "Oh\nno", (), None)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert module.JournalFormatter().format(record) == "<3>ERROR django.request: Oh\n<3>no"
    monkeypatch.delenv("JOURNAL_STREAM")
    assert module.JournalFormatter().format(record) == "ERROR django.request: Oh\nno"


# Mistakes.


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SECRET_KEY": " "}, "SECRET_KEY must be set"),
        ({"DEBUG": "hunter2"}, "DEBUG must be true or false"),
        ({"DATABASE_POOL_SIZE": "hunter2", "DATABASE_URL": POSTGRESQL}, "DATABASE_POOL_SIZE must be a whole number"),
        ({"DATABASE_URL": "oracle://u:hunter2@h/n"}, "DATABASE_URL must begin with one of"),
        ({"DATABASE_URL": "postgresql://u:hunter2/x@h:y/n"}, "DATABASE_URL must be"),
        ({"CACHE_URL": "memcached://hunter2"}, "CACHE_URL must begin with one of redis://"),
        ({"EMAIL_URL": "imap://u:hunter2@h"}, "EMAIL_URL must begin with one of smtp://"),
        ({"EMAIL_URL": "smtp://u:p@h:hunter2"}, "EMAIL_URL must be"),
        ({"EMAIL_PORT": "hunter2"}, "EMAIL_PORT must be a whole number"),
        ({"SECURE_HSTS_SECONDS": "hunter2"}, "SECURE_HSTS_SECONDS must be a whole number"),
    ],
)
def test_a_mistake_is_told_by_the_name_of_its_variable(variables, expected):
    assert expected in mistake(**variables)


# As Django itself takes them.


def start_project(place):
    command = [sys.executable, "-m", "django", "startproject", "shop", str(place)]
    subprocess.run(command, check=True, cwd=place, env={"PATH": os.environ["PATH"]})
    return place


def manage(place, *arguments, **variables):
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(place), "PYTHONPATH": str(LIBRARY), "PYTHONDONTWRITEBYTECODE": "1",
        "DJANGO_SETTINGS_MODULE": "vivarium_settings", "VIVARIUM_PROJECT_SETTINGS": "shop.settings",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments], cwd=place, env=environment | ENVIRONMENT | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_plain_project_passes_djangos_own_checks(tmp_path):
    project = start_project(tmp_path)
    run = manage(
        project,
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        SECURE_HSTS_INCLUDE_SUBDOMAINS="true",
        SECURE_HSTS_PRELOAD="true",
    )
    assert run.returncode == 0 and "no issues" in run.stdout, run.stderr
    shown = manage(project, "diffsettings", "--default", "shop.settings").stdout
    assert "DEBUG = False" in shown and "hsts_seconds" not in shown.lower().replace("secure_hsts_seconds", "")


def test_the_projects_module_has_to_be_named(tmp_path):
    run = manage(tmp_path, "check", VIVARIUM_PROJECT_SETTINGS="")
    assert run.returncode != 0 and "VIVARIUM_PROJECT_SETTINGS must name" in run.stderr


@pytest.mark.parametrize(("mode", "got"), [(None, 0o640), (0o600, 0o640), (0o644, 0o644), (0o660, 0o660)])
def test_nginx_can_read_uploads(mode, got):
    assert settings({"FILE_UPLOAD_PERMISSIONS": mode})["FILE_UPLOAD_PERMISSIONS"] == got
    assert settings({"FILE_UPLOAD_DIRECTORY_PERMISSIONS": 0o700})["FILE_UPLOAD_DIRECTORY_PERMISSIONS"] is None
    assert settings({"FILE_UPLOAD_DIRECTORY_PERMISSIONS": 0o755})["FILE_UPLOAD_DIRECTORY_PERMISSIONS"] == 0o755
