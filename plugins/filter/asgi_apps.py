# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Completes and checks ``asgi_apps``, the one description of the applications of an inventory."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.env_file import text
from ansible_collections.vivarium.server.plugins.module_utils._asgi.headings import STANDING_WAIVERS
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import domain_problem
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import (
    ACCOUNT,
    ENV_NAME,
    LONGEST,
    LONGEST_VALUE,
    environment_problems,
    is_form,
    is_line,
    is_number,
    is_switch,
    is_true,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.hsts import decided, header, hsts_problems

SERVERS = ("uvicorn", "gunicorn", "hypercorn", "daphne", "granian")
# Gunicorn's worker classes that speak ASGI, and the row of the role's table of servers that knows how to run with each.
WORKER_CLASSES = {"uvicorn_worker.UvicornWorker": "gunicorn", "asgi": "gunicorn_asgi"}
FRAMEWORKS = ("django", "none")
SOURCES = ("git", "path", "archive", "package")

# Users, units, databases and directories are named after the application: the narrowest of their rules counts
# (useradd's 32 characters, less the room that names of processes need; a PostgreSQL name without quotes).
NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")
UNIT_PART = re.compile(r"[a-z][a-z0-9_-]{0,31}")
DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# The module that a release gets where a call makes the application.
MADE = "vivarium_application"
CHECK_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}\.[A-Z][0-9]{3}")
DIRECTIVE = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# A path, a name such as cpython@3.13, or a range of versions.
INTERPRETER = re.compile(r"[A-Za-z0-9/<>=~!][A-Za-z0-9/_.@+=<>~!,-]{0,254}")
SIZE = re.compile(r"[0-9]{1,12}[kKmMgG]?")
NUMBER = re.compile(r"[0-9]{1,9}")
URL = re.compile(r"/(?:(?!\.\.?/)[A-Za-z0-9._~-]{1,255}/)+")
# What of a path and a query stays as it is when the rest is percent-encoded.
SAFE = "/?&=%:@!$'()*+,;~#[]"
HEALTH_PATH = re.compile(r"/[!-~]{0,1023}")
# What git-check-ref-format(1) allows, without a '-' at the head.
VERSION = re.compile(r"(?!-)(?!.*\.\.)[^\s~^:?*\[\\]{1,255}")
EXTENSION = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
KIND = re.compile(r"[a-z][a-z_]{0,31}")
RELEASE = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
# systemd.time(7), with names of time zones; a '%' would be a specifier.
CALENDAR = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*~,.:/+_ -]{0,254}")
STATES = ("started", "stopped")
# Directives that decide what runs, and as whom, rather than in what sandbox.
NO_SANDBOX = re.compile(r"Exec.*|Type|User|Group|EnvironmentFile")

# Names that come to a host with packages, perhaps later, or that PostgreSQL keeps for itself. Of what it has already the host
# itself is asked (asgi_names).
RESERVED = frozenset(
    """
    apache2 asgi avahi bluetooth certbot chrony containerd cron cups dnsmasq docker etcd exim4 fail2ban fwupd haproxy keepalived
    libvirt lighttpd logrotate lxd mariadb memcached mysql nftables nginx nscd ntp ntpsec patroni pgbouncer podman polkit polkitd
    postfix postgres postgresql prometheus public rabbitmq redis root rsync rsyslog smartd snapd ssh sshd sudo sysstat template0
    template1 ufw upower user valkey varnish
    """.split()
)
# What a decision about HSTS is called among Django's settings.
HSTS_SETTINGS = {
    "max_age": "SECURE_HSTS_SECONDS",
    "include_subdomains": "SECURE_HSTS_INCLUDE_SUBDOMAINS",
    "preload": "SECURE_HSTS_PRELOAD",
}
# Keys that were renamed, and how the same is said now.
RENAMED = {"hsts_subdomains": "hsts: {include_subdomains: …}", "hsts_preload": "hsts: {preload: …}"}
# What a project with sessions in its database needs, and what does nothing for others.
CLEARSESSIONS = {"command": "python -m vivarium_clearsessions", "on_calendar": "daily"}
# The role's own units beside an application's processes and timers.
OWN_UNITS = frozenset(["drain"])

# name: (type, default). A default of ... means required. Callables compute from the completed application.
FIELDS = {
    "name": (str, ...),
    "source": (dict, ...),
    "application": (str, ...),
    "server": (str, "uvicorn"),
    "workers": (int, 2),
    "worker_class": (str, None),
    "server_options": (list, []),
    "access_log": (bool, False),
    "domains": (list, ...),
    "state": (str, "started"),
    "framework": (str, "django"),
    "settings": (str, None),
    "env": (dict, {}),
    "secrets": (dict, {}),
    "required_secrets": (list, None),
    "database": (object, None),
    "database_extensions": (list, []),
    "migrate": (bool, True),
    "static_url": (str, None),
    "media_url": (str, None),
    "health_path": (str, None),
    "vivarium_settings": (bool, None),
    "asgi_middleware": (list, []),
    "hsts": (object, True),
    "check_fail_level": (str, "WARNING"),
    "waivers": (dict, {}),
    "lifespan": (str, None),
    "python": (str, "python3"),
    "step_timeout": (int, 3600),
    "start_timeout": (int, 60),
    "drain_timeout": (int, None),
    "settle_time": (int, 10),
    "hang_timeout": (int, 60),
    "keep_releases": (int, 5),
    "port": (int, None),
    "certificate": (dict, {}),
    "site": (dict, {}),
    "client_max_body_size": (str, "10m"),
    "install": (dict, {}),
    "build": (list, []),
    "static": (list, []),
    "hooks": (dict, {}),
    "processes": (dict, {}),
    "timers": (dict, {}),
    "sandbox": (dict, {}),
    "sandbox_allow": (list, []),
}
SANDBOX_SWITCHES = ("jit", "gpu", "programs", "namespaces", "netlink")
SOURCE_FIELDS = {
    "git": ("git", "version", "key", "subdirectory", "exclude"),
    "path": ("path", "subdirectory", "include", "exclude"),
    "archive": ("archive", "subdirectory"),
    "package": ("package",),
}
# A path inside the code: neither absolute nor with '..'.
INSIDE = re.compile(
    r"(?!\.{1,2}(/|\Z))[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,99}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,99}){0,19}"
)
INSIDE_MEANING = (
    "must be a path inside the code, such as frontend/dist: relative, without '..', and with no '/' at its end"
)
INSTALL_FIELDS = {"extras": (list, []), "groups": (list, []), "requirements": (list, [])}
# PEP 508 and PEP 735; a file of requirements lies in the code, and is no option.
EXTRA = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
REQUIREMENTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){0,9}")
HOOK_FIELDS = {
    "before_migrate": (list, []),
    "after_migrate": (list, []),
    "before_switch": (list, []),
    "after_switch": (list, []),
}
PROCESS_FIELDS = {"command": (str, ...), "stop_timeout": (int, 30), "overlap": (bool, True)}
TIMER_FIELDS = {"command": (str, ...), "on_calendar": (str, ...), "timeout": (int, 3600)}
DERIVED_FIELDS = ("env", "secrets", "verify", "hosts")
DATABASE_FIELDS = {"tcp": (bool, False), "variables": (dict, {})}
# What a variable can say of the database; any other word is the scheme of an address.
DATABASE_PARTS = ("url", "host", "port", "user", "password", "name")
DATABASE_SCHEME = re.compile(
    r"postgres|postgresql|postgis|pgsql|psql|psycopg|asyncpg|(postgres|postgresql)\+[a-z][a-z0-9_]{0,31}"
)
SITE_FIELDS = {"read_timeout": (int, None), "internal": (dict, {})}
# A directory of uploads.
DIRECTORY = re.compile(
    r"(?!\.\.?(/|\Z))[A-Za-z0-9_.][A-Za-z0-9._-]{0,99}(/(?!\.\.?(/|\Z))[A-Za-z0-9._-]{1,100}){0,9}/?"
)
# Seconds.
READ = 60
DRAIN = 30
CERTIFICATE_FIELDS = {"type": (str, "self_signed"), "certificate": (str, None), "key": (str, None)}
TYPE_NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list", dict: "a dictionary"}


def asgi_apps(apps, derived=None, version=None, inputs=None):
    """Return the applications with every default filled in, or raise one error that lists every mistake."""
    problems: list[str] = _input_problems(inputs or {}) + _derived_problems(derived or {})
    if not _is(apps, list):
        raise AnsibleFilterError("asgi_apps must be a list of applications")
    derived = {} if problems else derived or {}
    completed = [_complete(app, index, derived, version, problems) for index, app in enumerate(apps)]
    completed = [app for app in completed if app]
    _check_unique([app["name"] for app in completed], "name", problems)
    _check_unique([domain for app in completed for domain in app["domains"]], "domain", problems)
    _check_unique([app["port"] for app in completed], "port", problems)
    if version and not problems and not any(app["source"].get("git") for app in completed):
        problems.append(f"asgi_version '{version}' has no effect: no application has a git source")
    if problems:
        problems = [_shown(problem) for problem in problems]
        raise AnsibleFilterError("asgi_apps is not usable:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return completed


def _complete(raw, index, derived, version, problems):
    label = f"asgi_apps[{index}]"
    if not _is(raw, dict):
        problems.append(f"{label} must be a dictionary")
        return None
    if _is(raw.get("name"), str):
        label += f" ({raw['name']})"
    # YAML reads an unquoted on or off as a boolean.
    if isinstance(raw.get("lifespan"), bool):
        raw = {**raw, "lifespan": "on" if raw["lifespan"] else "off"}
    for key in sorted(set(raw) & set(RENAMED)):
        problems.append(f"{label}: {key} is said as {RENAMED[key]} now")
    app, sound = _fields({k: v for k, v in raw.items() if k not in RENAMED}, FIELDS, label, problems)
    if not sound:
        return None

    def wrong(message):
        problems.append(f"{label}: {message}")

    django = app["framework"] == "django"
    added = derived.get(app["name"], {})
    _choice(app, "server", SERVERS, wrong)
    _choice(app, "framework", FRAMEWORKS, wrong)
    _choice(app, "state", STATES, wrong)
    _choice(app, "check_fail_level", ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"), wrong)
    if not NAME.fullmatch(app["name"]) or app["name"] in RESERVED:
        wrong(
            "name must be 1 to 24 lower-case letters, digits and underscores, begin with a letter, and be no system name"
        )
    try:
        app["callable"], app["made_by"] = _callable(app["application"])
    except ValueError as error:
        app["callable"], app["made_by"] = "", None
        wrong(f"application {error}")
    if django and not app["settings"]:
        wrong("settings is required for framework django: the dotted path of the settings module")
    if app["settings"] and not MODULE.fullmatch(app["settings"]):
        wrong("settings must be a dotted module path")
    for key, pattern, meaning in (
        ("python", INTERPRETER, "a path, a name or a version of an interpreter"),
        ("client_max_body_size", SIZE, "a size in nginx's notation, such as 10m"),
    ):
        if not pattern.fullmatch(app[key]) or ".." in app[key].split("/"):
            wrong(f"{key} must be {meaning}")
    for key in ("required_secrets", "database_extensions", "asgi_middleware"):
        if not all(_is(item, str) for item in app[key] or []):
            wrong(f"{key} must be a list of strings")
            app[key] = []
    for extension in app["database_extensions"]:
        if not EXTENSION.fullmatch(extension):
            wrong(f"database_extensions: '{extension}' is not the name of an extension")
    for key, value in app["sandbox"].items():
        lines = value if _is(value, list) else ["" if value is None else str(value)]
        if (
            not _is(key, str)
            or not DIRECTIVE.fullmatch(key)
            # A line that ends in a backslash goes on in the next one.
            or not all(_is(line, str) and (line == "" or (is_line(line) and line[-1] != "\\")) for line in lines)
        ):
            wrong(f"sandbox: '{key}' must be a directive of systemd.exec(5) with one line of text, or a list of lines")
        elif NO_SANDBOX.fullmatch(key):
            wrong(f"sandbox: '{key}' is the role's own; it decides what runs, and as whom")
    for switch in app["sandbox_allow"]:
        if switch not in SANDBOX_SWITCHES:
            wrong(f"sandbox_allow: '{switch}' is unknown (known: {', '.join(SANDBOX_SWITCHES)})")
    _check_server(app, wrong)
    if not app["domains"]:
        wrong("domains needs at least one name")
    for domain in app["domains"]:
        if problem := domain_problem(domain):
            wrong(f"domains: {problem}")
    if app["domains"] and str(app["domains"][0]).startswith("*."):
        wrong(
            f"domains: '{app['domains'][0]}' comes first; the first is a full name, under which a deploy and the report ask for"
            f" the site, such as www.{app['domains'][0][2:]}"
        )
    app["domains"] = [str(domain) for domain in app["domains"]]
    for key, low, high in (
        ("workers", 1, 256),
        ("step_timeout", 1, 86400),
        ("start_timeout", 1, 3600),
        ("drain_timeout", 0, 86400),
        ("settle_time", 0, 3600),
        ("hang_timeout", 0, 3600),
        ("keep_releases", 2, 100),
    ):
        if app[key] is not None and not low <= app[key] <= high:
            wrong(f"{key} must be between {low} and {high}")
    _check_source(app, version, wrong)
    _check_environment(app, wrong)

    _complete_database(app, label, problems)
    if app["required_secrets"] is None:
        app["required_secrets"] = (["SECRET_KEY"] if django else []) + (
            ["DATABASE_PASSWORD"] if app["database"] else []
        )
    for key in app["required_secrets"]:
        if app["secrets"].get(key) is None or not str(app["secrets"][key]).strip():
            wrong(f"secrets.{key} is required and not set")

    for key, default in (("static_url", "/static/"), ("media_url", "/media/")):
        app[key] = app[key] if app[key] is not None else (default if django else "")
        if app[key] and not URL.fullmatch(app[key]):
            wrong(f"{key} must be a path that begins and ends with '/', and more than that{_url_hint(app[key])}")
    _complete_site(app, label, problems)
    # A path of the user's own must answer 2xx or 3xx; without one, any answer but a server error counts.
    app["health_strict"] = app["health_path"] is not None
    app["health_path"] = app["health_path"] or "/"
    if not HEALTH_PATH.fullmatch(app["health_path"]):
        written = (
            "" if app["health_path"].isascii() else f": {quote(app['health_path'], SAFE, errors='replace')} is the same"
        )
        wrong(f"health_path must begin with '/' and hold no white space and no characters but those of ASCII{written}")
    app["lifespan"] = app["lifespan"] or ("off" if django else "auto")
    _choice(app, "lifespan", ("on", "off", "auto"), wrong)
    app["port"] = app["port"] if app["port"] is not None else 8100 + index
    if not 1 <= app["port"] <= 65535:
        wrong("port must be between 1 and 65535")

    _complete_hsts(app, wrong)
    _complete_django(app, wrong)

    app["certificate"], sound = _fields(app["certificate"], CERTIFICATE_FIELDS, f"{label}: certificate", problems)
    if sound and not KIND.fullmatch(app["certificate"]["type"]):
        wrong("certificate.type must be self_signed or provided")
    if sound and app["certificate"]["type"] == "provided":
        for key in ("certificate", "key"):
            if not app["certificate"][key]:
                wrong(f"certificate.{key} is required for certificate.type provided")
    app["install"], sound = _fields(app["install"], INSTALL_FIELDS, f"{label}: install", problems)
    if sound:
        for key, form, meaning in (
            ("extras", EXTRA, "names of extras"),
            ("groups", EXTRA, "names of dependency groups"),
            ("requirements", REQUIREMENTS, "paths of files in the code, such as requirements/production.txt"),
        ):
            if not all(is_form(form, item) for item in app["install"][key]):
                wrong(f"install.{key} must be a list of {meaning}")
        if any(app["install"].values()) and app["source"].get("package"):
            wrong("install has no meaning for a source that is a package: its extras belong into source.package")
        if app["install"]["requirements"] and (app["install"]["extras"] or app["install"]["groups"]):
            wrong(
                "install.requirements says which packages there are; extras and groups are of uv.lock and pyproject.toml"
            )
    for key in ("build", "static"):
        for command in app[key]:
            problem = _command_problem(command)
            if problem:
                wrong(f"{key} must be a list of commands: each {problem}")
    if app["static"] and app["framework"] != "django":
        wrong("static is what follows Django's collectstatic, which this application does not have")
    app["hooks"], _sound = _fields(app["hooks"], HOOK_FIELDS, f"{label}: hooks", problems)
    for moment, commands in app["hooks"].items():
        if _is(commands, list):
            for command in commands:
                problem = _command_problem(command)
                if problem:
                    wrong(f"hooks.{moment} must be a list of commands: each {problem}")
    for kind, fields in (("processes", PROCESS_FIELDS), ("timers", TIMER_FIELDS)):
        for key, value in app[kind].items():
            if not _is(key, str) or not UNIT_PART.fullmatch(key) or key in OWN_UNITS:
                wrong(
                    f"{kind}: '{key}' must be lower-case letters, digits, '-' and '_', begin with a letter, and not be 'drain'"
                )
            app[kind][key], sound = _fields(value, fields, f"{label}: {kind}.{key}", problems)
            if not sound:
                continue
            problem = _command_problem(app[kind][key]["command"])
            if problem:
                wrong(f"{kind}.{key}.command {problem}")
            if kind == "timers" and not CALENDAR.fullmatch(app[kind][key]["on_calendar"]):
                wrong(f"{kind}.{key}.on_calendar must be one line as in systemd.time(7), such as daily or Mon 04:30")
            for field, low, high in (("stop_timeout", 0, 86400), ("timeout", 1, 2592000)):
                if not low <= app[kind][key].get(field, low) <= high:
                    wrong(f"{kind}.{key}.{field} must be between {low} and {high}")
    for key in sorted(set(app["processes"]) & set(app["timers"])):
        wrong(f"'{key}' is both a process and a timer; they would share a unit name")

    app["units"] = [
        f"{app['name']}.service",
        f"{app['name']}@.socket",
        *(f"{app['name']}{kind}@.service" for kind in ("", "-drain", *(f"-{process}" for process in app["processes"]))),
        *(f"{app['name']}-{timer}.{kind}" for timer in app["timers"] for kind in ("service", "timer")),
    ]
    app["timer_units"] = [f"{app['name']}-{timer}.timer" for timer in app["timers"]]
    app["user"] = app["name"]
    # Who makes releases: no name of an application has a '-'.
    app["build_user"] = f"{app['name']}-build"
    app["build_home"] = f"/var/cache/asgi-{app['name']}-build"
    app["root"] = f"/srv/{app['name']}"
    app["runtime"] = f"/run/asgi-{app['name']}"
    app["public_env"] = {**_derived_env(app), **added.get("env", {}), **app["env"]}
    if app["asgi_middleware"]:
        app["callable"] = "vivarium_asgi:application"
    # DATABASE_PASSWORD reaches the application as a part of DATABASE_URL only.
    app["secret_env"] = {
        **added.get("secrets", {}),
        **{k: v for k, v in app["secrets"].items() if k != "DATABASE_PASSWORD"},
    }
    return {**app, **{k: v for k, v in added.items() if k not in ("env", "secrets")}}


def _complete_site(app, label, problems):
    """What nginx does for it otherwise than for others."""
    app["site"], sound = _fields(app["site"], SITE_FIELDS, f"{label}: site", problems)
    longest = app["site"].get("read_timeout") if sound else None
    if longest is not None and not 1 <= longest <= 86400:
        problems.append(f"{label}: site.read_timeout must be between 1 and 86400")
    if app["drain_timeout"] is None:
        # An answer that may take long outlives a deploy.
        app["drain_timeout"] = max(DRAIN, longest or 0)
    app["site"]["read_timeout"] = longest or READ
    internal = app["site"]["internal"] if sound else {}
    # Where the uploads of each would be found by visitors; nobody finds them there either.
    public = {
        f"{app['media_url']}{str(directory).rstrip('/')}/": str(directory).rstrip("/")
        for directory in internal.values()
    }
    for url, directory in internal.items():
        where = f"{label}: site.internal"
        if not is_form(URL, url):
            problems.append(f"{where}: '{url}' must be a path that begins and ends with '/', and more than that")
        elif url in (app["static_url"], app["media_url"]):
            problems.append(f"{where}: '{url}' is where visitors find files that are for all")
        elif app["media_url"] and public.get(url, str(directory).rstrip("/")) != str(directory).rstrip("/"):
            problems.append(f"{where}: '{url}' is where the uploads in '{public[url]}' lie, which are internal too")
        if not is_form(DIRECTORY, directory):
            problems.append(f"{where}.{url} must be a directory of the application's uploads, such as private")


def _complete_database(app, label, problems):
    """Whether there is one, and how it is spoken to and of."""
    options = app["database"] if _is(app["database"], dict) else {}
    options, sound = _fields(options, DATABASE_FIELDS, f"{label}: database", problems)
    if app["database"] is None:
        app["database"] = app["framework"] == "django"
    elif not isinstance(app["database"], bool) and not _is(app["database"], dict):
        problems.append(f"{label}: database must be true, false, or a dictionary of {', '.join(DATABASE_FIELDS)}")
    app["database"] = app["database"] is not False
    app["database_tcp"] = sound and options["tcp"]
    app["database_variables"] = options["variables"] if sound else {}
    # DATABASE_PASSWORD is no variable of the application's by itself.
    own = app["env"].keys() | (app["secrets"].keys() - {"DATABASE_PASSWORD"})
    for key, value in app["database_variables"].items():
        where = f"{label}: database.variables"
        if not is_form(ENV_NAME, key):
            problems.append(f"{where}: '{key}' is not a name of an environment variable")
        elif key in own:
            problems.append(f"{where}: {key} stands in env or secrets too, which win; keep one")
        if value not in DATABASE_PARTS and not is_form(DATABASE_SCHEME, value):
            problems.append(
                f"{where}.{key} must be one of {', '.join(DATABASE_PARTS)}, or the scheme of an address such as"
                " postgresql+asyncpg"
            )


def _complete_hsts(app, wrong):
    """The decision that nginx, Django's settings and the report share; what the environment says besides must be the same."""
    problems = hsts_problems(app["hsts"])
    for problem in problems:
        wrong(problem)
    app["hsts_decision"] = decided(True if problems else app["hsts"])
    app["hsts_header"] = header(app["hsts_decision"])
    app["hsts_env"] = {
        name: str((app["hsts_decision"] or {}).get(key, 0 if key == "max_age" else False)).lower()
        for key, name in HSTS_SETTINGS.items()
        if app["framework"] == "django"
    }
    if problems:
        return
    for (key, name), where in itertools.product(HSTS_SETTINGS.items(), ("env", "secrets")):
        if name not in app["hsts_env"] or app[where].get(name) is None:
            continue
        said, derived = (str(each).strip().lower() for each in (app[where][name], app["hsts_env"][name]))
        same = said == derived if key == "max_age" else is_true(said) == is_true(derived)
        if not same:
            says = app["hsts_header"] or "nothing"
            wrong(
                f"{where}.{name} contradicts hsts, from which nginx sends {says} and this variable is derived. Remove it, and say"
                f" what is meant with hsts: {_hsts_example(key, said if where == 'env' else '')}"
            )


def _hsts_example(key, said):
    """How the same is said as a decision; nothing is quoted that has not the form of it."""
    if key == "max_age":
        return "false" if said == "0" else f"{{max_age: {said if NUMBER.fullmatch(said) else 'SECONDS'}}}"
    return f"{{{key}: true}}" if is_true(said) else f"{{{key}: false}}"


def _complete_django(app, wrong):
    """What belongs to the settings, checks and middleware that the release brings beside the project."""
    django = app["framework"] == "django"
    for path in app["asgi_middleware"]:
        if not MODULE.fullmatch(path) or "." not in path:
            wrong(f"asgi_middleware: '{path}' must be a dotted path to a class or function that wraps an ASGI callable")
    if app["vivarium_settings"] and not django:
        wrong("vivarium_settings is for framework django")
    for key, reason in app["waivers"].items():
        if not _is(key, str) or not CHECK_ID.fullmatch(key):
            wrong(f"waivers: '{key}' is no id of a check, such as security.W021")
        elif not _is(reason, str) or not reason.strip():
            wrong(f"waivers.{key} needs a reason")
        elif not is_line(reason.strip()):
            wrong(f"waivers.{key} must be one line of text")
    app["standing_waivers"] = {
        key: reason
        for key, (wish, reason) in STANDING_WAIVERS.items()
        if django and not (app["hsts_decision"] or {}).get(wish)
    }
    app["vivarium_settings"] = django if app["vivarium_settings"] is None else app["vivarium_settings"]
    if app["vivarium_settings"]:
        app["timers"] = {"clearsessions": dict(CLEARSESSIONS), **app["timers"]}
    # An application without the timer says so with null.
    if app["timers"].get("clearsessions", ...) is None:
        del app["timers"]["clearsessions"]
    app["hosts"] = 1


def _callable(application):
    """What a server is told to serve, and, where a call makes the application, how it is made."""
    if CALLABLE.fullmatch(application):
        return application, None
    module, _, expression = application.partition(":")
    try:
        tree = ast.parse(expression, mode="eval").body if is_line(expression) else None
    except (SyntaxError, RecursionError, MemoryError):
        tree = None
    try:
        name = _called(tree) if isinstance(tree, ast.Call) and MODULE.fullmatch(module) else None
    except RecursionError:
        name = None
    if not name:
        raise ValueError("must look like 'package.module:callable' or 'package.module:factory(…)'")
    return f"{MADE}:application", {"module": module, "name": name, "expression": expression}


def _called(node):
    """The name that a chain of attributes and calls begins with; None where it is anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return _called(node.value)
    if not isinstance(node, ast.Call):
        return None
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        try:
            # What differs from host to host, or is secret, comes from the environment.
            _is_from_environment(argument) or ast.literal_eval(argument)
        except (ValueError, TypeError):
            raise ValueError(
                "may call with literals and environ['NAME'] alone; what needs more belongs into a module of the code"
            ) from None
    return _called(node.func)


def _is_from_environment(node):
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "environ"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    )


def _derived_env(app):
    """What the application's description alone says about its environment, under Django's own setting names."""
    env = {}
    if app["asgi_middleware"]:
        env |= {
            "VIVARIUM_ASGI_APPLICATION": app["callable"],
            "VIVARIUM_ASGI_MIDDLEWARE": ",".join(app["asgi_middleware"]),
        }
    if app["framework"] != "django":
        return env
    if app["vivarium_settings"]:
        env |= {"VIVARIUM_PROJECT_SETTINGS": app["settings"], "CACHE_KEY_PREFIX": app["name"]}
    env |= app["hsts_env"]
    env |= {
        "DJANGO_SETTINGS_MODULE": "vivarium_settings" if app["vivarium_settings"] else app["settings"],
        # What int(), bool() of a library and a comparison with "True" take alike.
        "DEBUG": "0",
        # A wildcard as Django writes it.
        "ALLOWED_HOSTS": ",".join(domain.removeprefix("*") for domain in app["domains"]),
    }
    if app["static_url"]:
        env["STATIC_URL"] = app["static_url"]
    if app["media_url"]:
        env |= {"MEDIA_URL": app["media_url"], "MEDIA_ROOT": f"{app['root']}/media"}
    return env


def _fields(raw, fields, label, problems):
    """Copy the known fields of a dictionary, filled in and type-checked; tells also whether they can be worked with."""
    if not _is(raw, dict):
        problems.append(f"{label} must be a dictionary")
        return {}, False
    sound = True
    for key in sorted(str(key) for key in set(raw) - set(fields)):
        problems.append(f"{label}: unknown key '{key}' (known: {', '.join(fields)})")
    result = {}
    for key, (kind, default) in fields.items():
        value = raw.get(key)
        if value is None:
            if default is ...:
                problems.append(f"{label}: {key} is required")
                sound = False
            value = kind(default) if kind in (dict, list) and default not in (..., None) else default
        elif not _is(value, kind):
            problems.append(f"{label}: {key} must be {TYPE_NAMES[kind]}")
            sound = False
        elif kind in (dict, list):
            value = kind(value)
        elif kind is str and len(value) > LONGEST and key not in ("certificate", "key"):
            problems.append(f"{label}: {key} is longer than {LONGEST} characters")
            sound = False
        result[key] = value
    return result, sound


def _is(value, kind):
    if kind is dict:
        return isinstance(value, Mapping)
    if kind is list:
        return isinstance(value, Sequence) and not isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _command_problem(value):
    """Why a value is no command. Its words are data to whatever runs it, so nothing more is asked of them."""
    if not _is(value, str) or not is_line(value.replace("\t", " ")):
        return "must be one line of text (for a script, put it into the code)"
    try:
        words = shlex.split(value)
    except ValueError:
        return "must have its quotes closed"
    # A word with '=' at the head is a variable, as env(1) takes it.
    return None if words and words[0] and words[0][0] != "-" else "must begin with the name of a program"


def _shown(problem):
    """A sentence for a terminal, whatever is in the name that it quotes."""
    text = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in problem)
    return text if len(text) < 2000 else f"{text[:1500]} … {text[-100:]}"


def _input_problems(inputs):
    """What is wrong with the role's inputs beside the applications, as far as they are given."""
    problems = []
    for name in ("asgi_force", "asgi_break_lock", "asgi_wait"):
        if not is_switch(inputs.get(name, False)):
            problems.append(f"{name} must be true or false")
    if not is_number(inputs.get("asgi_serial", 1), 1, 1000):
        problems.append("asgi_serial must be a number of hosts, 1 at least")
    if not is_form(ACCOUNT, inputs.get("asgi_web_group", "www-data")):
        problems.append("asgi_web_group must be the name of a group: lower-case letters, digits, '-' and '_'")
    target = inputs.get("asgi_rollback_to", "")
    if target != "" and not is_form(RELEASE, target):
        problems.append("asgi_rollback_to must be the name of a release, such as 20261124-101500-1a2b3c")
    names = inputs.get("asgi_empty_database", "")
    if not isinstance(names, str) or not all(NAME.fullmatch(name) for name in names.split(",") if names):
        problems.append("asgi_empty_database must be names of applications with commas between them")
    return problems + environment_problems("asgi_build_environment", inputs.get("asgi_build_environment", {}))


def _derived_problems(derived):
    """What is wrong with what the topology adds; site.yml derives it, but an inventory may say it itself."""
    if not _is(derived, dict) or not all(_is(added, dict) for added in derived.values()):
        return ["asgi_derived must be a dictionary of dictionaries"]
    problems = []
    for name, added in derived.items():
        label = f"asgi_derived.{name}"
        problems += [f"{label}: unknown key '{key}'" for key in added if key not in DERIVED_FIELDS]
        for key in ("env", "secrets"):
            problems += environment_problems(f"{label}.{key}", added.get(key, {}))
        if not is_form(NAME, name):
            problems.append(f"asgi_derived: '{name}' is not the name of an application")
        way = added.get("verify", {})
        if not _is(way, dict):
            problems.append(f"{label}.verify must be a dictionary")
            continue
        problems += [
            f"{label}.verify: unknown key '{key}'" for key in way if key not in ("port", "http_port", "domain")
        ]
        if way and not all(is_number(way.get(key, 80), 1, 65535) for key in ("port", "http_port")):
            problems.append(f"{label}.verify: port and http_port must be numbers of ports")
        if way and not is_form(DOMAIN, way.get("domain")):
            problems.append(f"{label}.verify: domain must be a host name")
        if not is_number(added.get("hosts", 1), 1, 10000):
            problems.append(f"{label}.hosts must be a number of hosts")
    return problems


def _url_hint(url):
    """What is wrong with a path that looks like one."""
    if not url.startswith("/") or not url.endswith("/"):
        return ""
    return (
        "; of letters, digits and . _ ~ - of ASCII: a browser asks for others percent-encoded, and nginx decodes them"
    )


def _choice(app, key, choices, wrong):
    if app[key] not in choices:
        wrong(f"{key} '{app[key]}' is unknown (known: {', '.join(choices)})")


def _check_server(app, wrong):
    """Completes what the server is run with: `serve_with` is its row in the role's table."""
    app["serve_with"] = app["server"]
    if app["server"] == "gunicorn":
        app["worker_class"] = app["worker_class"] or next(iter(WORKER_CLASSES))
        _choice(app, "worker_class", tuple(WORKER_CLASSES), wrong)
        app["serve_with"] = WORKER_CLASSES.get(app["worker_class"], "gunicorn")
    elif app["worker_class"]:
        wrong("worker_class has a meaning for server gunicorn alone")
    if not all(_is(option, str) and (option == "" or is_line(option)) for option in app["server_options"]):
        wrong("server_options must be a list of strings, one for each word of the command line (quote numbers)")
        app["server_options"] = []


def _check_source(app, version, wrong):
    source = app["source"]
    kinds = [kind for kind in SOURCES if source.get(kind)]
    if len(kinds) != 1:
        wrong(f"source needs exactly one of {', '.join(SOURCES)}")
        return
    kind = kinds[0]
    for key, value in source.items():
        if key not in SOURCE_FIELDS[kind]:
            wrong(f"source: unknown key '{key}' beside {kind}")
        elif key in ("include", "exclude"):
            listed = _is(value, list) or value is None
            for item in (value or []) if listed else [value]:
                # The letters of a text would each be a path.
                if not listed or not is_form(INSIDE, item):
                    wrong(f"source.{key}: '{item}' {INSIDE_MEANING}, in a list")
        elif value is not None and not _is(value, str):
            wrong(f"source.{key} must be a string (quote a version that looks like a number)")
        elif value and key != "key" and not is_line(value):
            wrong(f"source.{key} must be one line of text")
        elif value and value.startswith("-") and key != "key":
            wrong(f"source.{key} must not begin with '-'")
        elif value and "\0" in value:
            wrong(f"source.{key} holds a NUL character")
    inside = source.get("subdirectory")
    if _is(inside, str) and inside and not INSIDE.fullmatch(inside):
        wrong(f"source.subdirectory: '{inside}' {INSIDE_MEANING}")
    if kind == "git":
        for key, value in (("source.version", source.get("version")), ("asgi_version", version)):
            if value and (not is_line(str(value)) or not VERSION.fullmatch(str(value))):
                wrong(f"{key} must be the name of a branch or a tag, or a full commit, and must not begin with '-'")
        own = str(source.get("version") or "")
        if version and own and own != str(version):
            source["inventory_version"] = own
        source["version"] = str(version or own)
        if not source["version"]:
            wrong("source.version is required for git: a branch, tag or full commit")


def _check_environment(app, wrong):
    for where in ("env", "secrets"):
        for key, value in app[where].items():
            if not _is(key, str) or not ENV_NAME.fullmatch(key):
                wrong(f"{where}: '{key}' is not a name of an environment variable")
            elif value is None:
                wrong(f"{where}.{key} is not set")
            else:
                try:
                    if len(text(key, value)) > LONGEST_VALUE:
                        wrong(f"{where}.{key} is longer than {LONGEST_VALUE} characters")
                except AnsibleFilterError as error:
                    wrong(f"{where}.{key}: {str(error).split(': ', 1)[1]}")
    for key in sorted(set(app["env"]) & set(app["secrets"]), key=str):
        wrong(f"{key} stands in env and in secrets; keep it in secrets alone")


def _check_unique(values, what, problems):
    for value in sorted({str(value) for value in values if values.count(value) > 1}):
        problems.append(f"the {what} '{value}' is used more than once")


def asgi_only(apps, names):
    """Those of the applications that are named, in a list or with commas between them; without names, all."""
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    unknown = sorted({name for name in names if name} - {app["name"] for app in apps})
    if unknown:
        raise AnsibleFilterError(f"asgi_only names {', '.join(unknown)}, which is no application of asgi_apps")
    return [app for app in apps if app["name"] in names] if any(names) else apps


def asgi_removable(names, apps, variable="asgi_remove"):
    """The names of applications that are to go, given in a list or with commas between them; never one that is in asgi_apps."""
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    names = list(dict.fromkeys(name for name in names if name != ""))
    bad = [name for name in names if not isinstance(name, str) or not NAME.fullmatch(name)]
    if bad:
        raise AnsibleFilterError(f"{variable}: {bad[0]!r} is not the name of an application")
    listed = [entry.get("name") for entry in apps or [] if isinstance(entry, dict)]
    wanted = [name for name in names if name in listed]
    if wanted:
        raise AnsibleFilterError(
            f"{variable}: {', '.join(wanted)} is in asgi_apps; take it out there first. Nothing was changed"
        )
    return names


def asgi_words(command, variable="manage_command"):
    """The words of a command as a shell would split them; nothing but quotes and backslashes has a meaning."""
    try:
        return shlex.split(str(command))
    except ValueError:
        raise AnsibleFilterError(f"{variable} must have its quotes closed") from None


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        return {
            "asgi_apps": asgi_apps,
            "asgi_only": asgi_only,
            "asgi_removable": asgi_removable,
            "asgi_words": asgi_words,
        }
