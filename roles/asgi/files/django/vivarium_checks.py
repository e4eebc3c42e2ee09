"""Checks of a deployment that Django's own do not make, in Django's check framework: `check --deploy` shows them too once this
module is imported. Each has an id, which a waiver names; docs/checklist.md lists them.

What the settings alone do not tell (how many processes and hosts there are) is in `context`, which vivarium_gate fills.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections
from vivarium_code import READABLE, is_inside, repeated, revealed

DOCS = "https://docs.djangoproject.com/en/stable/"
TAG = "vivarium"
KINDS = {"E": checks.Error, "W": checks.Warning, "I": checks.Info}
context: dict[str, Any] = {
    "workers": 1,
    "hosts": 1,
    "processes": 0,
    "migrate": True,
    "hsts_header": None,
    "settings": "",
    "commands": [],
}

LOCAL_CACHE = "django.core.cache.backends.locmem.LocMemCache"
LOCAL_LAYER = "channels.layers.InMemoryChannelLayer"
DUMMY_CACHE = "django.core.cache.backends.dummy.DummyCache"
CACHED_SESSIONS = "django.contrib.sessions.backends.cache"
CACHED_DB_SESSIONS = "django.contrib.sessions.backends.cached_db"
DEVELOPMENT_MAIL = tuple(
    f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "dummy", "filebased", "locmem")
)
SMTP = "django.core.mail.backends.smtp.EmailBackend"
CACHE_MIDDLEWARE = ("django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware")
CHOSEN = re.compile(r"""^[^#\n]{0,200}\benviron\[["']DJANGO_SETTINGS_MODULE["']\]\s{0,20}=[^=]""", re.MULTILINE)
# How long to wait for a server (seconds).
PATIENCE = 3


# What a check yields.
Messages = Iterator[checks.CheckMessage]


def check(function: Callable[..., Messages]) -> Callable[..., Messages]:
    return checks.register(function, TAG, deploy=True)


def message(identifier: str, text: str, hint: str, source: str = "") -> checks.CheckMessage:
    """A message of a check; the first letter of its id says how grave it is, `source` where Django's documentation tells more."""
    more = f" See {DOCS}{source}" if source else ""
    return KINDS[identifier[0]](text, hint=f"{hint}{more}", id=f"vivarium.{identifier}")


def processes() -> int:
    """How many processes of the application run at a time, on all hosts."""
    return context["hosts"] * (context["workers"] + context["processes"])


@check
def settings_in_force(app_configs: Any, **kwargs: Any) -> Messages:
    found = str(getattr(settings, "SETTINGS_MODULE", "none: settings.configure() was called"))
    if context["settings"] and found != context["settings"]:
        yield message(
            "E031",
            f"The application's callable runs with other settings ({found}) than everything else of the release"
            f" ({context['settings']}): migrations, timers and commands would not see what visitors get.",
            'Where it says os.environ["DJANGO_SETTINGS_MODULE"] = …, write os.environ.setdefault("DJANGO_SETTINGS_MODULE", …);'
            " the inventory's `settings` names the module.",
            "howto/deployment/asgi/#configuring-the-settings-module",
        )  # fmt: skip
    # Not run to find out: that would be a second start of Django.
    program = Path("manage.py")
    if program.is_file() and program.stat().st_size < READABLE and CHOSEN.search(program.read_text(errors="replace")):
        yield message(
            "E031",
            "manage.py chooses settings of its own: migrations and commands would not see what visitors get.",
            'Where it says os.environ["DJANGO_SETTINGS_MODULE"] = …, write os.environ.setdefault("DJANGO_SETTINGS_MODULE", …).',
            "ref/django-admin/#django-admin-and-manage-py",
        )  # fmt: skip


@check
def hosts(app_configs: Any, **kwargs: Any) -> Messages:
    if "*" in settings.ALLOWED_HOSTS:
        yield message(
            "E001", "ALLOWED_HOSTS is a wildcard: the application answers to any name.",
            "Name the hosts; the domains of the application are in the environment, as ALLOWED_HOSTS.",
            "ref/settings/#allowed-hosts",
        )  # fmt: skip


@check
def kept_connections(app_configs: Any, **kwargs: Any) -> Messages:
    for alias in connections:
        if connections[alias].settings_dict.get("CONN_MAX_AGE") != 0:
            yield message(
                "E002",
                f"CONN_MAX_AGE of the database '{alias}' is not 0: under ASGI connections pile up until the server refuses more.",
                'Set it to 0 and use a pool, OPTIONS = {"pool": {…}}.', "ref/databases/#persistent-database-connections",
            )  # fmt: skip


@check
def number_of_connections(app_configs: Any, **kwargs: Any) -> Messages:
    """Two releases overlap while one gives way to the other, so everything counts twice."""
    if not is_postgresql():
        return
    pool = pool_size()
    if not pool:
        yield message(
            "I025", "Connections to the database are not pooled: each request that is under way opens its own.",
            "Put psycopg[pool] among the requirements.", "ref/databases/#connection-pool",
        )  # fmt: skip
        return
    limits = database_limits()
    if limits and 2 * processes() * pool > limits["connections"]:
        yield message(
            "E003",
            f"The pools may open {2 * processes() * pool} connections while a release gives way to the next (2 x {processes()}"
            f" processes x {pool}), and the database server takes {limits['connections']}.",
            "Lower DATABASE_POOL_SIZE or workers, or raise max_connections.", "ref/databases/#connection-pool",
        )  # fmt: skip


@check
def caches(app_configs: Any, **kwargs: Any) -> Messages:
    local = [alias for alias, cache in settings.CACHES.items() if cache.get("BACKEND") == LOCAL_CACHE]
    if not local or processes() < 2:
        return
    used = settings.is_overridden("CACHES") or any(name in settings.MIDDLEWARE for name in CACHE_MIDDLEWARE)
    text = f"The cache '{local[0]}' is in the memory of each of {processes()} processes: none sees what another writes."
    hint = "Give the application a Redis with CACHE_URL."
    if used:
        yield message("W004", text, hint, "topics/cache/#local-memory-caching")
    else:
        yield message("I005", f"{text} The project sets no cache.", hint, "topics/cache/#local-memory-caching")


@check
def channel_layers(app_configs: Any, **kwargs: Any) -> Messages:
    for alias, layer in (getattr(settings, "CHANNEL_LAYERS", None) or {}).items():
        if layer.get("BACKEND") == LOCAL_LAYER and processes() > 1:
            yield message(
                "W029",
                f"The channel layer '{alias}' is in the memory of each of {processes()} processes: what one sends, others do not"
                " hear.",
                "Use channels_redis.", "topics/async/",
            )  # fmt: skip


@check
def once_for_all(app_configs: Any, **kwargs: Any) -> Messages:
    """What the inventory has each host run, and is meant to run once."""
    for identifier, text, hint in repeated(context["commands"], context["hosts"]):
        yield message(identifier, text, hint)


@check
def services(app_configs: Any, **kwargs: Any) -> Messages:
    """What the settings name beside databases and mail, and that is not there."""
    for setting, host, port in dict.fromkeys(named_services()):
        if not takes_connections(host, port):
            yield message(
                "W030", f"{setting} names {host}:{port}, and nothing answers there.",
                "Start it, or take it out of the settings.", "topics/cache/",
            )  # fmt: skip


@check
def sessions(app_configs: Any, **kwargs: Any) -> Messages:
    if not sessions_used():
        return
    engine = settings.SESSION_ENGINE
    backend = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {}).get("BACKEND")
    alone = backend == DUMMY_CACHE or (backend == LOCAL_CACHE and processes() > 1)
    if engine in (CACHED_SESSIONS, CACHED_DB_SESSIONS) and alone:
        yield message(
            "E010", "Sessions are in a cache that the processes do not share: visitors are signed out at random.",
            "Give the application a Redis with CACHE_URL, or keep sessions in the database.",
            "topics/http/sessions/#using-cached-sessions",
        )  # fmt: skip
    if engine == "django.contrib.sessions.backends.file":
        yield message(
            "E013", "Sessions are in files: /tmp is each release's own, so a deploy signs everybody out.",
            "Keep sessions in the database or in a cache.", "topics/http/sessions/#using-file-based-sessions",
        )  # fmt: skip


@check
def places(app_configs: Any, **kwargs: Any) -> Messages:
    static, media = settings.STATIC_ROOT, settings.MEDIA_ROOT
    if static and media and (is_inside(media, static) or is_inside(static, media)):
        yield message(
            "E006", "MEDIA_ROOT and STATIC_ROOT lie in each other: uploads would pass for the site's own files.",
            "Keep them apart.", "ref/settings/#media-root",
        )  # fmt: skip
    url, media_url = settings.STATIC_URL, settings.MEDIA_URL
    if url and media and media_url != "/" and (media_url.startswith(url) or url.startswith(media_url)):
        yield message(
            "E006", "MEDIA_URL and STATIC_URL lie in each other: uploads would pass for the site's own files.",
            "Keep them apart.", "ref/settings/#media-url",
        )  # fmt: skip
    if media and is_inside(media, Path.cwd()):
        yield message(
            "E012", "MEDIA_ROOT is inside the release, where nothing can be written and nothing stays.",
            "Take it from the environment, as MEDIA_ROOT.", "ref/settings/#media-root",
        )  # fmt: skip
    mode = settings.FILE_UPLOAD_PERMISSIONS
    if media and (mode is None or not mode & 0o040):
        yield message(
            "W032", "FILE_UPLOAD_PERMISSIONS keeps nginx from reading uploads: visitors get 403.",
            "Set it to 0o640; None means 0o600 for what is larger than 2.5 MB.", "ref/settings/#file-upload-permissions",
        )  # fmt: skip
    if "django.contrib.staticfiles" in settings.INSTALLED_APPS and url and not static:
        yield message(
            "E026", "STATIC_ROOT is not set: static files cannot be collected.",
            "Take it from the environment, as STATIC_ROOT.", "ref/settings/#static-root",
        )  # fmt: skip
    elif static and "Manifest" not in static_storage():
        yield message(
            "I020", "Static files have no hash in their names: browsers may show those of an earlier release.",
            "Use ManifestStaticFilesStorage.", "ref/contrib/staticfiles/#manifeststaticfilesstorage",
        )  # fmt: skip


@check
def sqlite(app_configs: Any, **kwargs: Any) -> Messages:
    for alias in connections:
        database = connections[alias].settings_dict
        if not database["ENGINE"].endswith("sqlite3") or str(database["NAME"]).startswith((":memory:", "file:")):
            continue
        if context["hosts"] > 1:
            yield message(
                "E011", f"The database '{alias}' is a file, and each of {context['hosts']} hosts has its own.",
                "Use PostgreSQL: `database: true`.", "ref/databases/#sqlite-notes",
            )  # fmt: skip
        if is_inside(database["NAME"], Path.cwd()):
            yield message(
                "E012", f"The database '{alias}' is a file inside the release, where nothing can be written.",
                "Put it into the application's home, or set DATABASE_URL.", "ref/databases/#sqlite-notes",
            )  # fmt: skip


@check
def secrets(app_configs: Any, **kwargs: Any) -> Messages:
    key, fallbacks = settings.SECRET_KEY, list(settings.SECRET_KEY_FALLBACKS)
    kept = {"SECRET_KEY": key, **{f"SECRET_KEY_FALLBACKS[{index}]": value for index, value in enumerate(fallbacks)}}
    kept |= {
        f"the password of the database '{alias}'": connections[alias].settings_dict.get("PASSWORD")
        for alias in connections
    }
    for identifier, text, hint in revealed(kept):
        yield message(identifier, text, hint, "howto/deployment/checklist/#secret-key")
    if key in fallbacks:
        yield message(
            "E009", "SECRET_KEY is one of SECRET_KEY_FALLBACKS: the key that was to go away is still in use.",
            "Remove it from the fallbacks.", "ref/settings/#secret-key-fallbacks",
        )  # fmt: skip


@check
def senders(app_configs: Any, **kwargs: Any) -> Messages:
    for name, default in (("DEFAULT_FROM_EMAIL", "webmaster@localhost"), ("SERVER_EMAIL", "root@localhost")):
        if getattr(settings, name) == default:
            yield message(
                "W007", f"{name} is {default}, which mail servers refuse.",
                f"Set {name}.", f"ref/settings/#{name.lower().replace('_', '-')}",
            )  # fmt: skip
    if mail_server()["backend"] in DEVELOPMENT_MAIL and not hasattr(settings, "MAILERS"):
        yield message(
            "W021", "EMAIL_BACKEND is one of development: no mail is sent.",
            "Use the SMTP backend.", "topics/email/#email-backends",
        )  # fmt: skip
    elif mail_answers() is False:
        place = f"{mail_server()['host'] or 'localhost (EMAIL_HOST is empty)'}:{mail_server()['port']}"
        yield message(
            "I019",
            f"No mail server answers at {place}: mail is lost, reports of errors too, and a page that sends some fails.",
            "Set EMAIL_URL.", "topics/email/#smtp-backend",
        )  # fmt: skip


@check
def reports(app_configs: Any, **kwargs: Any) -> Messages:
    if os.environ.get("SENTRY_DSN") and not sentry_is_active():
        yield message(
            "W018", "SENTRY_DSN is set, but nothing reports to Sentry.",
            "Put sentry-sdk[django] among the requirements.", "howto/deployment/checklist/#admins-and-managers",
        )  # fmt: skip
    if not settings.ADMINS and not sentry_is_active():
        yield message(
            "W008", "ADMINS is empty: nobody hears of errors.",
            "Set ADMINS, or SENTRY_DSN.", "ref/settings/#admins",
        )  # fmt: skip


@check
def transport_security(app_configs: Any, **kwargs: Any) -> Messages:
    """nginx sends what the inventory says, whatever the project does: whoever wrote otherwise hears of it."""
    said, decided = project_hsts(), context["hsts_header"]
    if decided is None or said in (None, decided):
        return
    yield message(
        "I028",
        f"The project's settings say {said} for Strict-Transport-Security, and the inventory (hsts) says"
        f" {decided or 'nothing'}, which is what visitors get.",
        "Make them the same: hsts of the application here, SECURE_HSTS_SECONDS and its like there.",
        "ref/settings/#secure-hsts-seconds",
    )  # fmt: skip


@checks.register(TAG, checks.Tags.database, deploy=True)
def database_role(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> Messages:
    if not is_postgresql() or DEFAULT_DB_ALIAS not in (databases or []):
        return
    if database_limits()["privileges"]:
        yield message(
            "W016", f"The database role may do too much ({', '.join(database_limits()['privileges'])}).",
            "Connect as a role that owns its database and nothing else.", "howto/deployment/checklist/#databases",
        )  # fmt: skip
    if password_refused() is False:
        yield message(
            "E017", "The database server lets the application in with a wrong password.",
            "Have pg_hba.conf ask for one (scram-sha-256).", "howto/deployment/checklist/#databases",
        )  # fmt: skip


@checks.register(TAG, checks.Tags.database, deploy=True)
def migrations(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> Messages:
    if not context["migrate"] or DEFAULT_DB_ALIAS not in (databases or []):
        return
    pending = pending_migrations()
    if pending:
        yield message(
            "I014", f"The deploy applies these migrations: {shortened([str(each) for each in pending])}.",
            "The release before must work with them: it serves until the switch, and after a rollback.", "topics/migrations/",
        )  # fmt: skip
    final = [
        str(each) for each in pending
        if any(not operation.reversible for operation in each.operations)
    ]  # fmt: skip
    if final:
        yield message(
            "I015", f"These migrations cannot be undone: {shortened(final)}.",
            "Be sure of the backup.", "topics/migrations/#data-migrations",
        )  # fmt: skip


# What the checks, and the facts of vivarium_gate, look at.


def is_postgresql() -> bool:
    return bool(context["migrate"] and connections[DEFAULT_DB_ALIAS].vendor == "postgresql")


def pool_size() -> int:
    pool = connections[DEFAULT_DB_ALIAS].settings_dict["OPTIONS"].get("pool")
    if not pool:
        return 0
    # psycopg's own defaults: four connections, and no more than that.
    pool = {} if pool is True else pool
    return pool.get("max_size") or pool.get("min_size", 4)


@functools.cache
def database_limits() -> dict[str, Any]:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " - coalesce(current_setting('reserved_connections', true), '0')::int,"
            " (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user), datconnlimit,"
            " bool_or(rolsuper), bool_or(rolcreaterole), bool_or(rolcreatedb), bool_or(rolbypassrls),"
            " current_setting('server_version')"
            # Who logs in may act as somebody else.
            " FROM pg_roles, pg_database WHERE rolname IN (session_user, current_user) AND datname = current_database()"
            " GROUP BY datconnlimit"
        )
        free, of_role, of_database, *privileges, version = cursor.fetchone()
    names = ("superuser", "may make roles", "may make databases", "bypasses row security")
    return {
        "connections": min(limit for limit in (free, of_role, of_database) if limit >= 0),
        "privileges": [name for name, has in zip(names, privileges, strict=True) if has],
        "version": version.split()[0],
    }


@functools.cache
def password_refused() -> bool | None:
    """Whether the server refuses the application's role with a wrong password; None where it needs none."""
    connection = connections[DEFAULT_DB_ALIAS]
    if not connection.settings_dict.get("PASSWORD"):
        return None
    parameters = {**connection.get_connection_params(), "password": "vivarium-tries-a-wrong-password"}
    parameters.pop("pool", None)
    try:
        connection.Database.connect(**parameters).close()
    except connection.Database.OperationalError:
        return True
    return False


@functools.cache
def pending_migrations() -> list[Any]:
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return [migration for migration, _backwards in executor.migration_plan(executor.loader.graph.leaf_nodes())]


def project_hsts() -> str | None:
    """What the project's own settings would send, below vivarium_settings; None where they leave it open."""
    own = sys.modules.get(os.environ.get("VIVARIUM_PROJECT_SETTINGS") or "") or settings
    seconds = getattr(own, "SECURE_HSTS_SECONDS", 0)
    subdomains = getattr(own, "SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
    preload = getattr(own, "SECURE_HSTS_PRELOAD", False)
    # Without seconds Django sends nothing, and vivarium_settings takes the inventory's.
    age = f"max-age={seconds}" if seconds else (context["hsts_header"] or "").partition(";")[0]
    if not age or not (seconds or subdomains or preload):
        return None
    return "; ".join([age, *(["includeSubDomains"] if subdomains else []), *(["preload"] if preload else [])])


def mail_server() -> dict[str, Any]:
    if hasattr(settings, "MAILERS"):
        mailer = settings.MAILERS.get("default", {})
        options = mailer.get("OPTIONS", {})
        return {
            "backend": mailer.get("BACKEND", SMTP),
            "host": options.get("host", "localhost"),
            "port": options.get("port") or (465 if options.get("use_ssl") else 587 if options.get("use_tls") else 25),
        }
    return {"backend": settings.EMAIL_BACKEND, "host": settings.EMAIL_HOST, "port": settings.EMAIL_PORT}


def named_services() -> Iterator[tuple[str, str, int]]:
    """Caches, channel layers and Celery's broker that are reached by TCP: the setting, the host and the port of each."""
    for alias, cache in settings.CACHES.items():
        if cache.get("BACKEND", "").rsplit(".", 1)[-1] in ("RedisCache", "PyMemcacheCache", "PyLibMCCache"):
            locations = cache.get("LOCATION") or []
            for location in re.split("[;,]", locations) if isinstance(locations, str) else locations:
                yield from address_of(f"CACHES['{alias}']", location, 11211)
    for alias, layer in (getattr(settings, "CHANNEL_LAYERS", None) or {}).items():
        if layer.get("BACKEND", "").startswith("channels_redis."):
            for host in (layer.get("CONFIG") or {}).get("hosts") or [("localhost", 6379)]:
                yield from address_of(f"CHANNEL_LAYERS['{alias}']", host, 6379)
    for name in ("CELERY_BROKER_URL", "BROKER_URL"):
        broker = getattr(settings, name, None) or ""
        for url in broker.split(";") if isinstance(broker, str) else broker:
            yield from address_of(name, url, None)


def address_of(setting: str, said: Any, default: int | None) -> Iterator[tuple[str, str, int]]:
    """The host and port that a URL, a pair or a dictionary means; none where it is a file, or a service without an address."""
    if isinstance(said, dict):
        said = said.get("address") or [said.get("host"), said.get("port", default)]
    try:
        if isinstance(said, (list, tuple)):
            host, port = said[0], said[1]
        elif "://" in (said := str(said).strip()):
            url = urlsplit(said)
            default = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671}.get(url.scheme)
            host, port = url.hostname, default and (url.port or default)
        else:
            host, _colon, port = said.partition(":")
            port = port or default
        if host and port and not str(host).startswith(("/", "unix")):
            yield setting, str(host), int(port)
    except (ValueError, IndexError):
        return  # what cannot be read is for whoever uses it to refuse


def takes_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


@functools.cache
def mail_answers() -> bool | None:
    """Whether the mail server can be reached; None where mail goes another way."""
    server = mail_server()
    if server["backend"] != SMTP:
        return None
    return takes_connections(server["host"], server["port"])


def sentry_is_active() -> bool:
    try:
        import sentry_sdk
    except ImportError:
        return False
    return sentry_sdk.get_client().is_active()


def sessions_used() -> bool:
    return "django.contrib.sessions.middleware.SessionMiddleware" in settings.MIDDLEWARE


def static_storage() -> str:
    return settings.STORAGES.get("staticfiles", {}).get("BACKEND", "").rsplit(".", 1)[-1]


def handlers_of(name: str) -> list[logging.Handler]:
    """The handlers that a record of a logger reaches."""
    logger: logging.Logger | None = logging.getLogger(name)
    found: list[logging.Handler] = []
    while logger:
        found += logger.handlers
        logger = logger.parent if logger.propagate else None
    return found


def shortened(names: list[str], most: int = 12) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
