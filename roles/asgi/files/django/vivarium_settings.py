"""Production settings on top of a Django project's own: its deployment checklist, read from the environment.

The environment names two modules: DJANGO_SETTINGS_MODULE is this one, VIVARIUM_PROJECT_SETTINGS is the project's. Everything
that the project sets is taken over; then, setting by setting, the first of these rules that applies decides:

1. What the environment says wins. A variable has the name of its setting (DATABASE_URL, CACHE_URL, REDIS_URL and EMAIL_URL
   stand for several). The secret key comes from there alone.
2. What the checklist demands wins over the project: no DEBUG, HTTPS and its cookies, no connection kept between requests
   under ASGI, compiled templates kept in memory. It is never made weaker than the project has it.
3. What the project set otherwise than Django does, or than `startproject` writes it, stays.
4. What is left at Django's default becomes what production needs: hashed names of static files, logging to the journal,
   sessions in the cache where there is one, senders under the site's own name.

A mistake in a variable is told by its name, never with its value. https://docs.djangoproject.com/en/stable/howto/deployment/checklist/
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from email.utils import formataddr, getaddresses
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import django
from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured

# Constants are written small here: Django takes every name in capitals for a setting.
hsts_seconds = 63072000  # two years, as Mozilla's guideline has it

postgresql = ("postgres", "postgresql", "psql", "pgsql")
engines = {
    **dict.fromkeys(postgresql, "django.db.backends.postgresql"),
    "postgis": "django.contrib.gis.db.backends.postgis",
    "mysql": "django.db.backends.mysql",
    "sqlite": "django.db.backends.sqlite3",
}
# What of a database's settings says where it is; the rest (ATOMIC_REQUESTS, OPTIONS, TEST …) is the project's to say.
place = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
sqlite = "django.db.backends.sqlite3"
local_cache = "django.core.cache.backends.locmem.LocMemCache"
redis_cache = "django.core.cache.backends.redis.RedisCache"
redis_schemes = ("redis", "rediss", "unix")
smtp = "django.core.mail.backends.smtp.EmailBackend"
smtp_ports = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
# They send no mail.
development_mail = tuple(
    f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "dummy", "filebased", "locmem")
)
# The option of MAILERS (Django 6.1), and the setting before it.
mail_options = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
}
hashed_static = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
plain_static = "django.contrib.staticfiles.storage.StaticFilesStorage"
cookies = ("SESSION", "CSRF", "LANGUAGE")
# What a path has and the name of a cookie should not.
separators = str.maketrans("/.~-", "____")
cached_loader = "django.template.loaders.cached.Loader"


class Environment:
    """Variables of the environment as values of settings."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables

    def __contains__(self, name: str) -> bool:
        return bool(self.text(name))

    def text(self, name: str, default: str = "") -> str:
        return self.variables.get(name, "").strip() or default

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name).lower()
        if value in ("1", "true", "yes", "on"):
            return True
        if value in ("0", "false", "no", "off"):
            return False
        if value:
            raise ImproperlyConfigured(f"{name} must be true or false.")
        return default

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.text(name) or default)
        except ValueError:
            raise ImproperlyConfigured(f"{name} must be a whole number.") from None

    def items(self, name: str) -> list[str]:
        return [item.strip() for item in self.text(name).split(",") if item.strip()]

    def url(self, name: str, meaning: str) -> SplitResult:
        """The parts of a URL; no part of it is quoted in an error, for it may hold a password."""
        try:
            url = urlsplit(self.text(name))
            url.port  # noqa: B018  (a port that is none is found when it is asked for)
        except ValueError:
            raise ImproperlyConfigured(f"{name} must be {meaning}; special characters are percent-encoded.") from None
        return url


class Production:
    """The settings of a project, brought to production step by step."""

    def __init__(self, project: Mapping[str, Any], environment: Environment) -> None:
        self.settings = dict(project)
        self.environment = environment

    def get(self, name: str) -> Any:
        """The value that the project's setting has, Django's default included."""
        return self.settings.get(name, getattr(global_settings, name, None))

    def untouched(self, name: str) -> bool:
        """Whether the project left a setting at Django's default."""
        return self.get(name) == getattr(global_settings, name, None)

    def set(self, **settings: Any) -> None:
        self.settings.update(settings)

    def all(self) -> dict[str, Any]:
        for step in (
            self.core, self.databases, self.caches, self.sessions, self.files, self.below, self.templates, self.mail,
            self.people, self.https, self.logging, self.sentry,
        ):  # fmt: skip
            step()
        return self.settings

    def core(self) -> None:
        env = self.environment
        if "SECRET_KEY" not in env:
            raise ImproperlyConfigured("SECRET_KEY must be set in the environment.")
        self.set(
            SECRET_KEY=env.text("SECRET_KEY"),
            SECRET_KEY_FALLBACKS=env.items("SECRET_KEY_FALLBACKS"),
            DEBUG=env.flag("DEBUG", False),
        )
        if "ALLOWED_HOSTS" in env:
            self.set(ALLOWED_HOSTS=env.items("ALLOWED_HOSTS"))
        # Origins of development (http://localhost:3000) stay at home.
        own = [origin for origin in self.get("CSRF_TRUSTED_ORIGINS") if origin.startswith("https://")]
        self.set(CSRF_TRUSTED_ORIGINS=list(dict.fromkeys([*env.items("CSRF_TRUSTED_ORIGINS"), *own])))

    def databases(self) -> None:
        databases = {alias: dict(database) for alias, database in (self.get("DATABASES") or {}).items()}
        if "DATABASE_URL" in self.environment:
            before = databases.get("default", {})
            databases["default"] = self.database_of_url(before)
            self.applications_of(databases["default"], before)
        for database in databases.values():
            # Under ASGI a kept connection belongs to a thread that may never come back.
            database["CONN_MAX_AGE"] = 0
            if database.get("ENGINE") == sqlite:
                self.settle_sqlite(database)
        if "default" in databases:
            self.pool(databases["default"])
        self.set(DATABASES=databases)

    def database_of_url(self, project: dict[str, Any]) -> dict[str, Any]:
        env = self.environment
        url = env.url("DATABASE_URL", "postgresql://user:password@host:port/name")
        if url.scheme not in engines:
            raise ImproperlyConfigured(
                f"DATABASE_URL must begin with one of {', '.join(f'{name}://' for name in engines)}."
            )
        engine, query = engines[url.scheme], dict(parse_qsl(url.query))
        path = unquote(url.path).removeprefix("/")
        if engine == sqlite:
            return {**without(project, "OPTIONS", *place), "ENGINE": engine, "NAME": path}
        # An engine of the same kind (PostGIS, one with metrics) and its options are deliberate.
        kind = engine.rsplit(".", 1)[1]
        kin = project.get("ENGINE", "").rsplit(".", 1)[-1] in {kind, "postgis" if kind == "postgresql" else kind}
        return {
            **without(project, "OPTIONS"),
            "ENGINE": project["ENGINE"] if kin else engine,
            "NAME": path,
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            # ?host=/var/run/postgresql is libpq's way to name a socket; in Django's words `dbshell` finds it too.
            "HOST": query.pop("host", unquote(url.hostname or "")),
            "PORT": query.pop("port", str(url.port or "")),
            "OPTIONS": {**(project.get("OPTIONS", {}) if kin else {}), **query},
        }

    def applications_of(self, database: dict[str, Any], before: dict[str, Any]) -> None:
        """A project written for another engine does not name what PostgreSQL's fields and indexes want (postgres.E005)."""
        kinds, applications = (".postgresql", ".postgis"), list(self.get("INSTALLED_APPS"))
        became = database["ENGINE"].endswith(kinds) and not before.get("ENGINE", "").endswith(kinds)
        if became and not any(name.startswith("django.contrib.postgres") for name in applications):
            self.set(INSTALLED_APPS=[*applications, "django.contrib.postgres"])

    def settle_sqlite(self, database: dict[str, Any]) -> None:
        """A file inside the release could not be written and would go with it: it lies in the application's home."""
        path, home = Path(str(database.get("NAME") or "")), Path(os.path.expanduser("~"))
        if str(path).startswith("file:") or str(path) == ":memory:":
            return
        if not path.is_absolute() or Path.cwd() in path.parents:
            database["NAME"] = home / path.name
        if django.VERSION < (5, 1):
            return
        options = database["OPTIONS"] = dict(database.get("OPTIONS", {}))
        # The write lock is taken at the start: two writers wait for each other instead of failing.
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")

    def pool(self, database: dict[str, Any]) -> None:
        """Keep connections in psycopg's pool, which ASGI's threads share; Django's own way is for one thread each."""
        if not database.get("ENGINE", "").endswith((".postgresql", ".postgis")):
            return
        env, options = self.environment, dict(database.get("OPTIONS", {}))
        database["OPTIONS"] = options
        options.setdefault("connect_timeout", 5)
        size = env.number("DATABASE_POOL_SIZE", 4)
        if not size:
            options.pop("pool", None)
        elif (
            (not options.get("pool") or "DATABASE_POOL_SIZE" in env)
            and installed("psycopg")
            and installed("psycopg_pool")
        ):
            least = min(size, env.number("DATABASE_POOL_MIN_SIZE", 1))
            options["pool"] = {"min_size": least, "max_size": size, "timeout": 10}
        # A connection that the server closed meanwhile (a restart) is found before a request gets it.
        database["CONN_HEALTH_CHECKS"] = True

    def caches(self) -> None:
        env, caches = self.environment, {alias: dict(cache) for alias, cache in (self.get("CACHES") or {}).items()}
        default = caches.get("default", {})
        # REDIS_URL may be meant for other things (a broker): it does not replace another cache that the project chose.
        chosen = default.get("BACKEND", local_cache)
        name = "CACHE_URL" if "CACHE_URL" in env else "REDIS_URL"
        if name not in env or (name == "REDIS_URL" and chosen != local_cache and "redis" not in chosen.lower()):
            return
        if env.url(name, "redis://:password@host:port/database").scheme not in redis_schemes:
            raise ImproperlyConfigured(
                f"{name} must begin with one of {', '.join(f'{way}://' for way in redis_schemes)}."
            )
        if not installed("redis"):
            if name == "CACHE_URL":
                raise ImproperlyConfigured("CACHE_URL needs the package redis among the project's requirements.")
            return
        if "redis" not in chosen.lower():
            default = {"BACKEND": redis_cache, **without(default, "BACKEND", "OPTIONS")}
        default["LOCATION"] = env.text(name)
        # Applications that share a server do not read each other's keys.
        default.setdefault("KEY_PREFIX", env.text("CACHE_KEY_PREFIX"))
        self.set(CACHES={**caches, "default": default})

    def sessions(self) -> None:
        """Sessions are read from the cache and written to the database too, where all processes share one cache."""
        cache = (self.get("CACHES") or {}).get(self.get("SESSION_CACHE_ALIAS"), {})
        if self.untouched("SESSION_ENGINE") and "redis" in cache.get("BACKEND", "").lower():
            self.set(SESSION_ENGINE="django.contrib.sessions.backends.cached_db")

    def files(self) -> None:
        env = self.environment
        for name in ("STATIC_ROOT", "STATIC_URL", "MEDIA_ROOT", "MEDIA_URL"):
            if name in env:
                self.set(**{name: env.text(name)})
        storages = {**global_settings.STORAGES, **self.get("STORAGES")}
        if "STATICFILES_STORAGE" in env:
            storages["staticfiles"] = {"BACKEND": env.text("STATICFILES_STORAGE")}
        # Names with a hash of the content: browsers keep them for good, and two releases do not clash.
        elif "STATIC_ROOT" in env and storages.get("staticfiles", {}).get("BACKEND") == plain_static:
            storages["staticfiles"] = {**storages["staticfiles"], "BACKEND": hashed_static}
        self.set(STORAGES=storages)
        self.uploads()

    def uploads(self) -> None:
        """nginx reads uploads as a member of their group. None is the mode of a temporary file, which nobody else may read."""
        mode, of_directories = self.get("FILE_UPLOAD_PERMISSIONS"), self.get("FILE_UPLOAD_DIRECTORY_PERMISSIONS")
        if mode is None or not mode & 0o040:
            self.set(FILE_UPLOAD_PERMISSIONS=0o640)
        # None is what the umask of the service leaves: its group may look there.
        if of_directories is not None and of_directories & 0o050 != 0o050:
            self.set(FILE_UPLOAD_DIRECTORY_PERMISSIONS=None)

    def below(self) -> None:
        """Below a path of its domain, beside other applications: links, login pages and cookies are its own."""
        env = self.environment
        path = env.text("FORCE_SCRIPT_NAME").rstrip("/")
        if not path:
            return
        # A request says it itself; commands and background processes make links too.
        self.set(FORCE_SCRIPT_NAME=path)
        for name in ("LOGIN_URL", "LOGIN_REDIRECT_URL"):
            if self.untouched(name):
                self.set(**{name: path + self.get(name)})
        for kind in cookies:
            path_of, name_of = f"{kind}_COOKIE_PATH", f"{kind}_COOKIE_NAME"
            # Of two cookies of one name a server takes the one of the shorter path: the path alone would not do.
            if name_of in env or self.untouched(name_of):
                self.set(**{name_of: env.text(name_of) or self.get(name_of) + path.translate(separators)})
            # Browsers take one of that prefix for the whole host alone.
            whole = str(self.get(name_of)).startswith("__Host-")
            if path_of in env or (self.untouched(path_of) and not whole):
                self.set(**{path_of: env.text(path_of) or f"{path}/"})

    def templates(self) -> None:
        engines = [dict(engine) for engine in self.get("TEMPLATES")]
        for engine in engines:
            options = engine["OPTIONS"] = dict(engine.get("OPTIONS", {}))
            options.pop("debug", None)
            # Without loaders of the project's own, Django keeps compiled templates by itself.
            loaders = options.get("loaders")
            if loaders and not any(
                isinstance(loader, (list, tuple)) and loader[0] == cached_loader for loader in loaders
            ):
                options["loaders"] = [(cached_loader, loaders)]
        self.set(TEMPLATES=engines)

    def mail(self) -> None:
        options = self.mail_options()
        old_way = [name for name in self.settings if name in mail_options.values() or name == "EMAIL_BACKEND"]
        if django.VERSION >= (6, 1) and ("MAILERS" in self.settings or not old_way):
            mailers = dict(self.settings.get("MAILERS") or {})
            default = mailers.get("default", {})
            if options or default.get("BACKEND", smtp) in development_mail or not default:
                default = {"BACKEND": smtp, "OPTIONS": options or {"host": "localhost", "timeout": 10}}
            mailers["default"] = default
            if default.get("BACKEND", smtp) == smtp:
                # A mail server that is down must not turn the report of an error into a second one.
                quiet = {**default.get("OPTIONS", {}), "fail_silently": True}
                mailers.setdefault("error_reports", {**default, "OPTIONS": quiet})
            self.set(MAILERS=mailers)
            return
        if options or self.get("EMAIL_BACKEND") in development_mail:
            self.set(EMAIL_BACKEND=smtp)
        self.set(**{mail_options[option]: value for option, value in options.items()})
        if self.untouched("EMAIL_TIMEOUT"):
            self.set(EMAIL_TIMEOUT=10)

    def mail_options(self) -> dict[str, Any]:
        """What the environment says of the mail server: EMAIL_URL, and the single EMAIL_ variables, which win."""
        env = self.environment
        options: dict[str, Any] = {}
        if "EMAIL_URL" in env:
            url = env.url("EMAIL_URL", "smtp+tls://user:password@host:port")
            if url.scheme not in smtp_ports:
                raise ImproperlyConfigured(
                    f"EMAIL_URL must begin with one of {', '.join(f'{way}://' for way in smtp_ports)}."
                )
            options = {
                "host": url.hostname or "localhost",
                "port": url.port or smtp_ports[url.scheme],
                "username": unquote(url.username or ""),
                "password": unquote(url.password or ""),
                "use_tls": url.scheme == "smtp+tls",
                "use_ssl": url.scheme == "smtps",
            }
        for option, name in mail_options.items():
            if name in env:
                options[option] = (
                    env.flag(name, False) if option.startswith("use_")
                    else env.number(name, 0) if option in ("port", "timeout")
                    else env.text(name)
                )  # fmt: skip
        return {**options, "timeout": options.get("timeout", 10)} if options else {}

    def people(self) -> None:
        """Who sends, and who hears of errors."""
        env = self.environment
        hosts = [host.lstrip(".") for host in self.get("ALLOWED_HOSTS") if host.strip(".*")]
        for name in ("DEFAULT_FROM_EMAIL", "SERVER_EMAIL"):
            if name in env:
                self.set(**{name: env.text(name)})
            elif self.untouched(name) and hosts:
                # Django's own local part, under the site's name: servers refuse mail from localhost.
                self.set(**{name: f"{self.get(name).split('@')[0]}@{hosts[0]}"})
        for name in ("ADMINS", "MANAGERS"):
            if name in env:
                people = [(who, address) for who, address in getaddresses([env.text(name)]) if address]
                # Pairs until Django 5.2, addresses since 6.0.
                self.set(**{name: [formataddr(person) for person in people] if django.VERSION >= (6, 0) else people})

    def https(self) -> None:
        """nginx alone reaches the application, ends TLS, and overwrites X-Forwarded-Proto."""
        env = self.environment
        self.set(
            SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
            SECURE_SSL_REDIRECT=env.flag("SECURE_SSL_REDIRECT", True),
            SESSION_COOKIE_SECURE=env.flag("SESSION_COOKIE_SECURE", True),
            CSRF_COOKIE_SECURE=env.flag("CSRF_COOKIE_SECURE", True),
            LANGUAGE_COOKIE_SECURE=env.flag("LANGUAGE_COOKIE_SECURE", True),
            SECURE_HSTS_SECONDS=env.number("SECURE_HSTS_SECONDS", self.get("SECURE_HSTS_SECONDS") or hsts_seconds),
        )
        for name in ("SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD"):
            self.set(**{name: env.flag(name, bool(self.get(name)))})

    def logging(self) -> None:
        """Everything goes to standard error, where the journal takes it with its level; errors also to ADMINS."""
        if not self.untouched("LOGGING"):
            return
        mailers = self.settings.get("MAILERS", {})
        using = {"using": "error_reports"} if "error_reports" in mailers else {}
        self.set(
            LOGGING={
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"journal": {"()": f"{__name__}.JournalFormatter"}},
                "filters": {"brief": {"()": f"{__name__}.Brief"}},
                "handlers": {
                    "stderr": {"class": "logging.StreamHandler", "formatter": "journal"},
                    "brief": {"class": "logging.StreamHandler", "formatter": "journal", "filters": ["brief"]},
                    "mail_admins": {"class": "django.utils.log.AdminEmailHandler", "level": "ERROR", **using},
                },
                "root": {"handlers": ["stderr"], "level": self.environment.text("LOG_LEVEL", "INFO").upper()},
                "loggers": {
                    # Django's own handler prints while DEBUG is on alone.
                    "django": {"handlers": ["mail_admins"], "level": "INFO"},
                    "django.server": {"handlers": [], "level": "INFO", "propagate": True},
                    # Whoever asks for a host that is not ours makes no error of ours: a line will do, and no mail.
                    "django.security.DisallowedHost": {"handlers": ["brief"], "level": "ERROR", "propagate": False},
                },
            }
        )

    def sentry(self) -> None:
        env = self.environment
        if "SENTRY_DSN" not in env or not installed("sentry_sdk"):
            return
        import sentry_sdk

        # The project's own call counts.
        if not sentry_sdk.get_client().is_active():
            sentry_sdk.init(
                dsn=env.text("SENTRY_DSN"),
                environment=env.text("SENTRY_ENVIRONMENT", "production"),
                release=env.text("RELEASE") or None,
                traces_sample_rate=float(env.text("SENTRY_TRACES_SAMPLE_RATE", "0")),
                send_default_pii=False,
            )


class JournalFormatter(logging.Formatter):
    """A line for the journal, which tells its level by a number in front (sd-daemon(3)); for a terminal, without."""

    LEVELS = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}

    def __init__(self) -> None:
        super().__init__("{levelname} {name}: {message}", style="{")
        self.journal = "JOURNAL_STREAM" in os.environ

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self.journal:
            return text
        level = self.LEVELS.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


class Brief(logging.Filter):
    """Lets records pass without their traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def production(project: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """The settings of production, from those of a project and the variables of an environment."""
    return Production(project, Environment(variables)).all()


def settings_of(module: ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in dir(module) if name.isupper()}


if os.environ.get("DJANGO_SETTINGS_MODULE") == __name__:
    if not os.environ.get("VIVARIUM_PROJECT_SETTINGS"):
        raise ImproperlyConfigured("VIVARIUM_PROJECT_SETTINGS must name the project's own settings module.")
    _project = settings_of(importlib.import_module(os.environ["VIVARIUM_PROJECT_SETTINGS"]))
    globals().update(production(_project, os.environ))
