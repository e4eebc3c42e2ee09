# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a project is, as far as its files tell: where it lies, what serves it, what it needs. Nothing of it is imported or run."""

from __future__ import annotations

import ast
import json
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._deploy.packages import FOREIGN, LOCKS
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.code import INSIDE, callable_of
from ansible_collections.vivarium.server.plugins.plugin_utils._init import (
    asgi,
    django,
    environment,
    packages,
    repository,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import (
    MOST_LOCKED,
    Tree,
    assigned,
    dotted,
    name_of,
    string_of,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import MODULE

DRIVERS = ("psycopg", "psycopg-binary", "psycopg-c", "psycopg2", "psycopg2-binary", "asyncpg")
# What runs tasks in the background beside Celery.
NO_LOCK = ("", "pyproject.toml")
QUEUES = ("rq", "django-rq", "dramatiq", "huey", "arq", "taskiq", "procrastinate", "django-q2", "apscheduler")
ENGINES = ("django.db.backends.", "django.contrib.gis.db.backends.")
MAILS = {"send_mail", "send_mass_mail", "mail_admins", "EmailMessage", "EmailMultiAlternatives", "PasswordResetView"}


class InitError(Exception):
    """What stops before anything is written; the message says what to type."""


@dataclass
class Project:
    """``within`` is the directory of it in which commands run; ``notes`` is what somebody has to decide."""

    root: Path
    within: str = ""
    framework: str = "django"
    application: str = ""
    settings: str = ""
    health_path: str = ""
    packages: packages.Packages = field(default_factory=packages.Packages)
    database: Any = None
    env: dict[str, str] = field(default_factory=dict)
    # Names of variables; the first of those that are the secret key is SECRET_KEY.
    secret_key: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hooks: dict[str, list[str]] = field(default_factory=dict)
    celery: str = ""
    beat: str = ""
    says_admins: bool = False
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(root: Path, application: str = "", settings: str = "") -> Project:
    """The project in a directory; ``application`` and ``settings`` are what somebody has said of it."""
    if not root.is_dir():
        raise InitError(f"project: there is no directory {root}")
    tree = Tree(root)
    tree, project = _with_its_lock(tree, Project(tree.root, _within(tree)))
    if project.within and not INSIDE.fullmatch(project.within):
        raise InitError(f"project: the project lies in {project.within!r}, a name that no description can have")
    project.settings = settings or django.settings_module(tree, project.within)
    if project.settings and not MODULE.fullmatch(project.settings):
        raise InitError("settings must be the dotted path of a module, such as shop.settings")
    is_django = bool(project.settings) and (project.packages.has("django") or tree.has(_at(project, "manage.py")))
    if is_django or settings:
        _django(tree, project, application)
    else:
        _plain(tree, project, application)
    try:
        callable_of(project.application)
    except ValueError as error:
        raise InitError(f"application {error}") from None
    _packages(project)
    _tasks(tree, project)
    _around(tree, project)
    return project


def _with_its_lock(tree: Tree, project: Project) -> tuple[Tree, Project]:
    """A directory whose packages are locked further up in its repository is a directory of that."""
    project.packages = packages.read(tree, project.within)
    top = repository.top_of(project.root)
    if top and top != project.root and project.packages.kind in NO_LOCK:
        around = Tree(top)
        within = posixpath.join(project.root.relative_to(around.root).as_posix(), project.within).rstrip("/")
        found = packages.read(around, within)
        if found.kind not in NO_LOCK:
            return around, Project(around.root, within, packages=found)
    return tree, project


def _at(project: Project, name: str) -> str:
    return posixpath.join(project.within, name)


def _within(tree: Tree) -> str:
    """The directory that has manage.py, or else says which packages there are: at the top, or the only one below."""
    managed = [path for path in tree.named("manage.py") if "DJANGO_SETTINGS_MODULE" in (tree.text(path) or "")]
    described = [path for name in (*LOCKS, *FOREIGN) for path in tree.named(name) if path.count("/") < 3]
    top = tree.toml("pyproject.toml")
    for paths in (managed, described):
        places = {posixpath.dirname(path) for path in paths}
        if paths is described and "tool" in top and "project" not in top and len(places) > 1:
            # The top of a workspace is no project by itself.
            places -= {""}
        if "" in places:
            return ""
        if len(places) > 1:
            shown = ", ".join(f"-e project={tree.root / place}" for place in sorted(places)[:5])
            raise InitError(f"project: there are {len(places)} projects in {tree.root}. Say which: {shown}")
        if places:
            return places.pop()
    return ""


def _django(tree: Tree, project: Project, application: str) -> None:
    project.application = application or django.callable_module(tree, project.within, project.settings)
    files = django.settings_files(tree, project.within, project.settings)
    modules = [module for path in files if (module := tree.parsed(path)).body]
    if not modules:
        project.notes.append(f"The settings {project.settings} could not be read: what they need is for you to say")
    names = {name for module in modules for name, _value, _annotation in assigned(module)}
    texts = [text for module in modules for node in ast.walk(module) if (text := string_of(node))]
    project.health_path = django.health_path(tree, project.within, files)
    reads = environment.read(modules)
    project.secret_key = [
        "SECRET_KEY",
        *(name for name in reads.own_keys() if name != "SECRET_KEY" and name in reads.secret_key),
    ]
    project.keys = [name for name in reads.own_keys() if name not in project.secret_key]
    # An empty list of them, or a Sentry that is told no address, hears of nothing.
    admins = [value for module in modules for name, value, _annotation in assigned(module) if name == "ADMINS"]
    project.says_admins = "ADMINS" not in reads.read and any(
        not isinstance(value, ast.List | ast.Tuple) or value.elts for value in admins
    )
    variables = reads.database_variables(needed=True)
    engines = [text.rpartition(".")[2] for text in texts if text.startswith(ENGINES)]
    if not project.packages.has(*DRIVERS):
        if "mysql" in engines or project.packages.has("mysqlclient", "pymysql"):
            project.database = False
            project.notes.append(
                "MySQL is not set up here: `database: false`, and DATABASE_URL among the secrets says where it is;"
                " or go to PostgreSQL"
            )
        elif (
            any(engine in ("postgresql", "postgis") for engine in engines) or variables or "DATABASE_URL" in reads.read
        ):
            project.notes.append(
                "The project has no driver for PostgreSQL: add `psycopg[binary,pool]` to its packages first"
            )
        else:
            project.database = False
            project.notes.append(
                "SQLite, in the application's home, as the project has no driver for PostgreSQL. For PostgreSQL, before the"
                " first `site`: add `psycopg[binary,pool]` to its packages, remove the inventory, and run `init` again"
            )
    if project.database is None and variables:
        project.database = {"variables": variables}
    if "postgis" in engines and project.database is not False:
        project.notes.append("PostGIS: `database_extensions: [postgis]`, and the package in `postgresql_packages`")
    said = {*project.secret_key, *project.keys, *variables}
    _left(project, reads.left(said))
    _django_beside(tree, project, names)


def _django_beside(tree: Tree, project: Project, names: set[str]) -> None:
    """Channels, uploads and mail of a Django project."""
    words = tree.words
    project.found.append(f"Django, settings {project.settings}")
    if project.packages.has("channels"):
        project.found.append("Channels: WebSockets pass through nginx")
        if "CHANNEL_LAYERS" in names and not project.packages.has("channels-redis", "channels-postgres"):
            project.notes.append("A channel layer in memory is for one process alone: `workers: 1`, or channels_redis")
    if project.packages.has("django-storages"):
        project.notes.append(
            'django-storages: name its bucket in `env`, its keys in the vault, and say `media_url: ""`'
        )
    elif words & {"FileField", "ImageField"} or "MEDIA_ROOT" in names:
        project.notes.append("Uploads lie in /srv/{name}/media and are served at /media/: backups of them are yours")
    if words & MAILS or project.packages.has("django-allauth") or any(name.startswith("EMAIL_") for name in names):
        project.notes.append(
            "It sends mail: EMAIL_URL in the vault, such as smtp+tls://user:password@mail.example.com:587"
        )


def _plain(tree: Tree, project: Project, application: str) -> None:
    project.framework, project.settings = "none", ""
    served = asgi.callables(tree, project.within)
    said = application or asgi.said_in(tree.toml(_at(project, "pyproject.toml")))
    if not said and not served:
        if asgi.speaks_wsgi(tree) or project.packages.has("flask", "bottle"):
            raise InitError(
                "project: it speaks WSGI (Flask, Bottle), and what is served here speaks ASGI: Django, FastAPI, Quart …"
            )
        raise InitError(
            f"project: no ASGI application was found in {tree.root / project.within}. Say where it is:"
            " -e application=package.module:callable"
        )
    found = next((one for one in served if one.application == said), None) if said else served[0]
    project.application = said or served[0].application
    if not said and len(served) > 1:
        others = ", ".join(one.application for one in served[1:4])
        project.notes.append(
            f"There are other callables than {project.application}: {others}. `application` says which is served"
        )
    if found:
        project.health_path = asgi.health_path(tree, found)
        packaged = "build-system" in tree.toml(_at(project, "pyproject.toml"))
        if found.base and not packaged:
            project.env["PYTHONPATH"] = found.base
    project.found.append(f"ASGI application {project.application}")
    inner = [path for path in tree.code if not project.within or path.startswith(f"{project.within}/")]
    reads = environment.read(tree.code[path] for path in inner)
    driver = next(
        (name for name in ("asyncpg", "psycopg", "psycopg2") if project.packages.has(name, f"{name}-binary")), ""
    )
    variables: dict[str, str] = {}
    project.database = bool(driver)
    if driver:
        alchemy = project.packages.has("sqlalchemy", "sqlmodel")
        variables = reads.database_variables(f"postgresql+{driver}" if alchemy else "")
        if not variables and alchemy:
            variables = {"DATABASE_URL": f"postgresql+{driver}"}
        project.database = {"variables": variables} if variables else True
    elif project.packages.has("sqlalchemy", "sqlmodel", "tortoise-orm", "piccolo"):
        project.notes.append(
            "A database without a driver for PostgreSQL: nothing is set up for it. A file of SQLite belongs into"
            " /var/lib/asgi-{name}; for PostgreSQL add asyncpg or psycopg, and say `database: true`"
        )
    if project.packages.has("alembic") and tree.has(_at(project, "alembic.ini")) and driver:
        project.hooks = {"before_migrate": ["alembic upgrade head"]}
    project.keys = reads.own_keys()
    _left(project, reads.left({*project.keys, *variables}))


def _left(project: Project, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        project.notes.append(
            f"It reads {shown} from the environment, and has no default: `env`, or the vault for what is secret"
        )


def _packages(project: Project) -> None:
    said = project.packages
    if said.kind:
        project.found.append(f"packages from {said.kind}")
    if said.foreign and said.kind in ("", "pyproject.toml"):
        project.notes.append(
            f"{said.foreign} is not read here. In the project, and commit what it makes: {FOREIGN[said.foreign]}"
        )
    elif not said.kind:
        unsaid = "othing says which packages it needs: requirements.txt, uv.lock, pylock.toml or pyproject.toml"
        if project.framework == "django":
            # It could not run, and which database it is for is not known either.
            raise InitError(
                f"project: n{unsaid}. Write {project.root / project.within / 'requirements.txt'} with the lines Django"
                " and, for PostgreSQL, psycopg[binary,pool]"
            )
        project.notes.insert(0, f"N{unsaid}")
    elif said.kind == "pyproject.toml":
        project.notes.append("No lock file: each release gets the newest packages. `uv lock` makes one")
    if said.python_wanted:
        project.found.append(f"Python {said.python_wanted}, which Debian does not have and `python_versions` brings")
    elif said.python and said.python not in packages.DEBIAN:
        project.notes.append(
            f"It is tried with Python {said.python}, and the host's own runs it (Debian 12: 3.11, Debian 13: 3.13)."
            f' `python_versions: ["{said.python}"]` and, of the application, `python: python{said.python}` bring that one'
        )


def _tasks(tree: Tree, project: Project) -> None:
    """Celery and its like, and what they need."""
    has = project.packages.has
    if has("celery"):
        project.celery = _celery_application(tree, project.within)
        if not project.celery:
            project.notes.append(
                "Celery is among its packages, and no `Celery(…)` was found: `processes` (docs/celery.md)"
            )
        elif has("django-celery-beat"):
            project.beat = " --scheduler django_celery_beat.schedulers:DatabaseScheduler"
        elif tree.words & {"beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE", "add_periodic_task"}:
            project.beat = " --schedule /var/lib/asgi-{name}/beat"
        if project.celery:
            project.found.append("Celery: a worker" + (" and a scheduler" if project.beat else ""))
        if project.beat:
            project.notes.append(
                "Celery's scheduler is for one application server alone: several would send everything as often"
            )
    if queues := [name for name in QUEUES if has(name)]:
        project.notes.append(
            f"{', '.join(queues)}: `processes: {{worker: {{command: …}}}}` runs what works off its queue"
        )
    if has("redis", "channels-redis", "django-redis", "valkey", "aioredis", "hiredis"):
        project.notes.append(
            "Redis: there is no role for it yet. `python_packages: [build-essential, pkg-config, python3-dev, redis-server]`"
            " brings Debian's to the host, at redis://127.0.0.1:6379/0; name it in `env` before the first run"
            " (docs/projects.md#redis)"
        )


def _celery_application(tree: Tree, within: str) -> str:
    for path, module in tree.code.items():
        inner = path if not within else path.removeprefix(f"{within}/") if path.startswith(f"{within}/") else ""
        name = dotted(inner) if inner else None
        for _name, value, _annotation in assigned(module) if name else ():
            if isinstance(value, ast.Call) and name_of(value.func) == "Celery":
                package, _dot, last = (name or "").rpartition(".")
                return package if last == "celery" and package else name or ""
    return ""


def _around(tree: Tree, project: Project) -> None:
    """What lies beside the Python."""
    for name in dict.fromkeys((_at(project, "package.json"), "package.json")):
        try:
            said = json.loads(tree.text(name, MOST_LOCKED) or "{}")
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict) and isinstance(said.get("scripts"), dict) and "build" in said["scripts"]:
            project.notes.append(
                f"{name} has a `build`: `build: [npm ci, npm run build]`, and nodejs and npm in `python_packages`"
                " (docs/projects.md)"
            )
            break
    if project.packages.has("sentry-sdk"):
        project.notes.append("Sentry: SENTRY_DSN among the secrets")
