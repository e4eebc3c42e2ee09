"""The gate of a deploy: Django's deployment checks and ours in one start of Django, with waivers and with facts for the report.
An application without Django has the checks that concern any.

    vivarium_gate.py [--json] [CONTEXT]

Runs in the release's code with the service's environment. CONTEXT is a JSON file (vivarium_gate.json beside this one): what the
inventory says of the application, and its waivers. Exits 1 where a message stops the deploy. No output holds a secret.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vivarium_headings import CRITICAL, FELL_OVER, IDLE_WAIVER, MIDDLEWARE, STRANGER, UNKNOWN_WAIVER, is_ours

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SILENCED = "the project silences it (SILENCED_SYSTEM_CHECKS)"


def main(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    paths = [argument for argument in arguments if argument != "--json"]
    context = json.loads(Path(paths[0] if paths else Path(__file__).with_name("vivarium_gate.json")).read_text())
    # As `python manage.py` has it: the project's code comes first.
    sys.path.insert(0, os.getcwd())
    found, known_facts = (of_django if context["framework"] == "django" else of_others)(context)
    messages = judged(found, context)
    failed = [message for message in messages if message["state"] == "failed"]
    report = {"passed": not failed, "fail_level": context["fail_level"], "messages": messages, "facts": known_facts}
    report["text"] = text_of(messages, report["passed"])
    # The last line, whatever the project printed before.
    print(json.dumps(report, default=str) if as_json else report["text"])
    return 0 if report["passed"] else 1


def of_django(context: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What is in force once the callable is imported as the server does it: it may choose settings of its own."""
    meant = os.environ["DJANGO_SETTINGS_MODULE"]
    import vivarium_running

    vivarium_running.load(context["callable"])
    import django

    django.setup()
    import vivarium_checks

    told = context | {"settings": meant}
    vivarium_checks.context.update({key: told[key] for key in vivarium_checks.context if key in told})
    try:
        return run_checks(context["migrate"]), facts() | {"running": vivarium_running.running(context["callable"], ())}
    finally:
        let_go()


def of_others(context: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    import vivarium_plain_checks

    return vivarium_plain_checks.look(context)


def let_go() -> None:
    """Close what the checks opened: a pool has threads, which an interpreter on its way out warns of."""
    from django.db import connections

    for connection in connections.all():
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def run_checks(with_database: bool) -> list[Any]:
    """Every message of every check; one that falls over is a message too, and the others are still heard."""
    from django.core import checks
    from django.db import DEFAULT_DB_ALIAS

    databases = [DEFAULT_DB_ALIAS] if with_database else []
    messages = []
    for check in checks.registry.registry.get_checks(include_deployment_checks=True):
        if checks.Tags.database in check.tags and not databases:
            continue
        try:
            messages += check(app_configs=None, databases=databases)
        except Exception as error:
            where = f"{check.__module__}.{check.__qualname__}"
            last = traceback.format_exception_only(error)[-1].strip()
            messages.append(
                checks.Error(f"The check {where} fell over: {last}", hint="Find the reason first.", id=FELL_OVER)
            )
    return messages


def in_its_place(identifier: str) -> str | None:
    """Why a middleware that Django does not find is there all the same: one of the project's is derived from it."""
    if identifier not in MIDDLEWARE:
        return None
    from django.conf import settings
    from django.utils.module_loading import import_string

    wanted = import_string(MIDDLEWARE[identifier])
    for name in settings.MIDDLEWARE:
        try:
            found = import_string(name)
        except ImportError:
            continue
        if isinstance(found, type) and issubclass(found, wanted):
            return f"{name} is derived from it"
    return None


def judged(messages: list[Any], context: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages with what is to be done about each: failed, waived (with the reason) or told."""
    waivers, standing = context["waivers"], context["standing_waivers"]
    limit = LEVELS.index(context["fail_level"])
    result = []
    for message in messages:
        level = next(
            name for name in reversed(LEVELS) if message.level >= 10 * (LEVELS.index(name) + 1) or name == "DEBUG"
        )
        reason = waivers.get(message.id) or standing.get(message.id)
        if not reason and message.is_silenced() and message.id not in CRITICAL:
            reason = SILENCED
        reason = reason or in_its_place(message.id)
        state = "waived" if reason else "failed" if LEVELS.index(level) >= limit else "told"
        result.append({
            "id": message.id or "", "level": level, "state": state, "reason": reason,
            "message": str(message.msg), "hint": str(message.hint or ""), "object": name_of(message.obj),
        })  # fmt: skip
    seen = {message["id"] for message in result}
    for waiver in waivers:
        if waiver in seen:
            continue
        known = is_known(waiver, context["framework"])
        result.append({
            "id": IDLE_WAIVER if known else UNKNOWN_WAIVER, "level": "INFO" if known else "ERROR",
            "state": "told" if known else "failed", "reason": None, "object": "",
            "message": f"The waiver of {waiver} has no effect." if known else f"There is no check {waiver} to waive.",
            "hint": "Remove it." if known else "Look for a mistyped id.",
        })  # fmt: skip
    return sorted(result, key=lambda message: (-LEVELS.index(message["level"]), message["id"]))


def name_of(obj: object) -> str:
    """What a message is about, as Django's own output names it."""
    return "" if obj is None else str(getattr(getattr(obj, "_meta", None), "label", obj))


def is_known(identifier: str, framework: str) -> bool:
    """Whether a check can say an id: it is one of ours, or stands in the code of Django or of an installed application."""
    if identifier.startswith("vivarium."):
        return is_ours(identifier, framework)
    wanted = re.compile(rb"['\"(]" + re.escape(identifier.encode()) + rb"['\")]")
    files = files_of_django() if framework == "django" else []
    return any(wanted.search(path.read_bytes()) for path in files if path.suffix == ".py")


def files_of_django() -> list[Path]:
    """Where Django and installed applications say the ids of their checks."""
    import django
    from django.apps import apps
    from django.core import checks

    modules = {sys.modules[check.__module__] for check in checks.registry.registry.get_checks(True)}
    directories = {Path(config.path) for config in apps.get_app_configs()}
    directories |= {Path(django.__file__).parent}
    files = [Path(path) for module in modules if (path := getattr(module, "__file__", None))]
    return files + [path for directory in directories for path in directory.rglob("*.py") if "locale" not in path.parts]


def text_of(messages: list[dict[str, Any]], passed: bool) -> str:
    """For people: what fails first, each with its id and hint."""
    lines = []
    for state, title in (("failed", "failed"), ("waived", "waived"), ("told", "to know")):
        chosen = [message for message in messages if message["state"] == state]
        if not chosen:
            continue
        lines.append(f"{title}:")
        for message in chosen:
            about = f"{message['object']}: " if message["object"] else ""
            lines.append(f"  {message['id']}  {about}{message['message']}")
            if message["reason"]:
                lines.append(f"      waived: {message['reason']}")
            elif message["hint"]:
                lines.append(f"      {message['hint']}")
    failed = sum(message["state"] == "failed" for message in messages)
    waived = sum(message["state"] == "waived" for message in messages)
    lines.append(f"Deployment checks {'passed' if passed else f'failed: {failed}'} ({waived} waived).")
    return "\n".join(lines)


def facts() -> dict[str, Any]:
    """What the report says of the settings; no secret is among it."""
    import django
    import vivarium_checks as look
    from django.conf import settings
    from django.db import DEFAULT_DB_ALIAS, connections
    from django.http import HttpRequest

    def first(function: Callable[[str], Any], *names: str) -> Any:
        for name in names:
            try:
                return function(name)
            except Exception:  # noqa: S112  (not there)
                continue
        return None

    def refuses_strangers() -> bool:
        request = HttpRequest()
        request.META = {"HTTP_HOST": STRANGER, "SERVER_PORT": "443"}
        return first(lambda _name: request.get_host(), "") is None

    from django.shortcuts import resolve_url
    from django.template import engines
    from django.template.loader import get_template
    from django.template.loaders.cached import Loader
    from django.urls import reverse

    postgresql = look.is_postgresql()
    database = connections[DEFAULT_DB_ALIAS]
    handlers = look.handlers_of("django.request")
    reporters = [type(handler).__name__ for handler in look.handlers_of("django.security.DisallowedHost")]
    login = first(reverse, "login", "admin:login") or first(resolve_url, settings.LOGIN_URL)
    compiled = [
        any(isinstance(loader, Loader) for loader in engine.engine.template_loaders)
        for engine in engines.all() if hasattr(engine, "engine")
    ]  # fmt: skip
    limits = first(lambda _name: look.database_limits(), "") if postgresql else None
    return {
        "django": django.get_version(),
        "python": platform.python_version(),
        "settings": os.environ.get("VIVARIUM_PROJECT_SETTINGS") or os.environ.get("DJANGO_SETTINGS_MODULE"),
        "vivarium_settings": settings.SETTINGS_MODULE == "vivarium_settings",
        "debug": settings.DEBUG,
        "secret_key": {
            "length": len(settings.SECRET_KEY),
            "from_environment": os.environ.get("SECRET_KEY") == settings.SECRET_KEY,
            "fallbacks": len(settings.SECRET_KEY_FALLBACKS),
        },
        "allowed_hosts": list(settings.ALLOWED_HOSTS),
        "refuses_strangers": refuses_strangers(),
        # Whether an unknown host would be reported to somebody: then nobody asks with one just to see.
        "strangers_are_reported": look.sentry_is_active() or (bool(settings.ADMINS) and "AdminEmailHandler" in reporters),
        "caches": {alias: cache["BACKEND"].rsplit(".", 1)[-1] for alias, cache in settings.CACHES.items()},
        "sessions": settings.SESSION_ENGINE.rsplit(".", 1)[-1] if look.sessions_used() else None,
        "database": {
            "vendor": database.vendor,
            "host": str(database.settings_dict.get("HOST") or ""),
            "name": str(database.settings_dict.get("NAME") or ""),
            # A file is not to be seen from here.
            "empty": first(lambda _name: not database.introspection.table_names(), "") if database.vendor != "sqlite" else None,
            "limits": limits,
            "password_refused": look.password_refused() if limits else None,
            "pool": look.pool_size() if postgresql else 0,
            "connections": 2 * look.processes() * look.pool_size() if postgresql else 0,
            "kept": [alias for alias in connections if connections[alias].settings_dict.get("CONN_MAX_AGE") != 0],
        },
        "mail": {**look.mail_server(), "answers": look.mail_answers()},
        "senders": [settings.DEFAULT_FROM_EMAIL, settings.SERVER_EMAIL],
        "static": {"root": str(settings.STATIC_ROOT or ""), "url": settings.STATIC_URL, "storage": look.static_storage()},
        "media": {"root": str(settings.MEDIA_ROOT or ""), "url": settings.MEDIA_URL},
        "hsts": {
            "seconds": settings.SECURE_HSTS_SECONDS,
            "subdomains": settings.SECURE_HSTS_INCLUDE_SUBDOMAINS,
            "preload": settings.SECURE_HSTS_PRELOAD,
        },
        "cookies": {"session": settings.SESSION_COOKIE_SECURE, "csrf": settings.CSRF_COOKIE_SECURE},
        "login": login,
        "compiled_templates": all(compiled),
        "logs_to_stderr": any(getattr(handler, "stream", None) in (sys.stderr, sys.stdout) for handler in handlers),
        "admins": len(settings.ADMINS),
        "managers": len(settings.MANAGERS),
        "sentry": look.sentry_is_active(),
        "error_pages": [name for name in ("400", "403", "404", "500") if first(get_template, f"{name}.html")],
        "migrations": [str(migration) for migration in look.pending_migrations()] if limits else [],
        "atomic_migrations": all(migration.atomic for migration in look.pending_migrations()) if limits else None,
    }  # fmt: skip


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Not sys.exit: what the code began on import (a thread, say) is not waited for.
    os._exit(code)
