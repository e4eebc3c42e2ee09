# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Completes and checks ``asgi_apps``, the one description of the applications of an inventory."""

from __future__ import annotations

import ast
import ipaddress
import re
import shlex
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.env_file import text

DOCUMENTATION = r"""
name: asgi_apps
short_description: Complete and check the list of applications
version_added: 0.1.0
description:
  - Takes what a user wrote in C(asgi_apps) and returns the same list with every default filled in, so that roles and
    templates never guess.
  - Stops with one message that lists every mistake by the name of its variable. Values of secrets are never shown.
positional: derived
options:
  _input:
    description: The applications, as documented for the role P(vivarium.server.asgi#role).
    type: list
    elements: dict
    required: true
  derived:
    description:
      - What the topology adds to each application, by application name. C(env) and C(secrets) go under the
        application's own, which win; other keys are added as they are.
    type: dict
  version:
    description: Overrides the C(version) of every git source.
    type: str
author: Vivarium maintainers
"""

EXAMPLES = r"""
- name: Show each application's unit and first domain
  ansible.builtin.debug:
    msg: "{{ asgi_apps | vivarium.server.asgi_apps | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: The applications, completed.
  type: list
  elements: dict
"""

SERVERS = ("uvicorn", "gunicorn", "hypercorn", "daphne", "granian")
# Gunicorn's worker classes that speak ASGI, and the row of the role's table of servers that knows how to run with each.
WORKER_CLASSES = {"uvicorn_worker.UvicornWorker": "gunicorn", "asgi": "gunicorn_asgi"}
FRAMEWORKS = ("django", "none")
SOURCES = ("git", "path", "archive", "package")

# Users, units, databases and directories are named after the application: the narrowest of their rules counts
# (useradd's 32 characters, less the room that names of processes need; a PostgreSQL name without quotes).
NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")
UNIT_PART = re.compile(r"[a-z][a-z0-9_-]{0,31}")
DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# The module that a release gets where a call makes the application.
MADE = "vivarium_application"
CHECK_ID = re.compile(r"[A-Za-z_][\w.]*\.[A-Z]\d{3}")
DIRECTIVE = re.compile(r"[A-Z][A-Za-z0-9]+")
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

# Names that belong to Debian or to a service beside ours: an application would take over their unit, user or group.
RESERVED = frozenset(
    """
    adm admin apparmor asgi audio autovt avahi backup bin bluetooth cdrom certbot chrony console containerd cron crontab
    cups daemon dbus debian default dialout dip disk dnsmasq docker emergency exim4 fail2ban fax floppy ftp fwupd games
    getty halt haproxy input irc journal kill kmem kmod kvm lighttpd list lp lxd mail man mariadb media memcached mysql
    netdev networking news nftables nginx nobody nogroup nscd ntp ntpsec operator pgbouncer pipewire plugdev podman polkit
    polkitd postfix postgres postgresql poweroff procps proxy public quotaon rabbitmq reboot redis render rescue root rsync
    rsyslog sasl sgx shadow smartd snapd src ssh sshd staff sudo sync sys sysstat systemd tape template0 template1 tty
    ubuntu ucarp udev udisks2 ufw upower user users utmp uucp valkey varnish video voice wheel
    """.split()
)
# Messages of Django's deployment checks that stand for a decision about the whole domain, and the key that takes it.
STANDING_WAIVERS = {
    "security.W005": ("hsts_subdomains", "HSTS for every subdomain binds names that may not be this site's"),
    "security.W021": ("hsts_preload", "the browsers' preload list is for a whole domain, and hard to get off again"),
}
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
    "framework": (str, "django"),
    "settings": (str, None),
    "env": (dict, {}),
    "secrets": (dict, {}),
    "required_secrets": (list, None),
    "database": (bool, None),
    "database_extensions": (list, []),
    "migrate": (bool, True),
    "static_url": (str, None),
    "media_url": (str, None),
    "health_path": (str, None),
    "vivarium_settings": (bool, None),
    "asgi_middleware": (list, []),
    "hsts_subdomains": (bool, False),
    "hsts_preload": (bool, False),
    "check_fail_level": (str, "WARNING"),
    "waivers": (dict, {}),
    "lifespan": (str, None),
    "python": (str, "python3"),
    "start_timeout": (int, 60),
    "drain_timeout": (int, 30),
    "settle_time": (int, 10),
    "hang_timeout": (int, 60),
    "keep_releases": (int, 5),
    "port": (int, None),
    "certificate": (dict, {}),
    "client_max_body_size": (str, "10m"),
    "hooks": (dict, {}),
    "processes": (dict, {}),
    "timers": (dict, {}),
    "sandbox": (dict, {}),
    "sandbox_allow": (list, []),
}
SANDBOX_SWITCHES = ("jit", "gpu", "programs", "namespaces", "netlink")
SOURCE_FIELDS = {"git": ("git", "version", "key"), "path": ("path",), "archive": ("archive",), "package": ("package",)}
HOOK_FIELDS = {
    "before_migrate": (list, []),
    "after_migrate": (list, []),
    "before_switch": (list, []),
    "after_switch": (list, []),
}
PROCESS_FIELDS = {"command": (str, ...), "stop_timeout": (int, 30)}
TIMER_FIELDS = {"command": (str, ...), "on_calendar": (str, ...), "timeout": (int, 3600)}
CERTIFICATE_FIELDS = {"type": (str, "self_signed"), "certificate": (str, None), "key": (str, None)}
TYPE_NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list", dict: "a dictionary"}


def asgi_apps(apps, derived=None, version=None):
    """Return the applications with every default filled in, or raise one error that lists every mistake."""
    problems: list[str] = []
    if not _is(apps, list):
        raise AnsibleFilterError("asgi_apps must be a list of applications")
    completed = [_complete(app, index, (derived or {}), version, problems) for index, app in enumerate(apps)]
    completed = [app for app in completed if app]
    _check_unique([app["name"] for app in completed], "name", problems)
    _check_unique([domain for app in completed for domain in app["domains"]], "domain", problems)
    _check_unique([app["port"] for app in completed], "port", problems)
    if version and not problems and not any(app["source"].get("git") for app in completed):
        problems.append(f"asgi_version '{version}' has no effect: no application has a git source")
    if problems:
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
    app, sound = _fields(raw, FIELDS, label, problems)
    if not sound:
        return None

    def wrong(message):
        problems.append(f"{label}: {message}")

    django = app["framework"] == "django"
    added = derived.get(app["name"], {})
    _choice(app, "server", SERVERS, wrong)
    _choice(app, "framework", FRAMEWORKS, wrong)
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
        ("python", r"[^\s-]\S*", "a path, a name or a version of an interpreter"),
        ("client_max_body_size", r"\d+[kKmMgG]?", "a size in nginx's notation, such as 10m"),
    ):
        if not re.fullmatch(pattern, app[key]):
            wrong(f"{key} must be {meaning}")
    for key in ("required_secrets", "database_extensions", "asgi_middleware"):
        if not all(_is(item, str) for item in app[key] or []):
            wrong(f"{key} must be a list of strings")
            app[key] = []
    for key, value in app["sandbox"].items():
        lines = value if _is(value, list) else ["" if value is None else str(value)]
        if (
            not _is(key, str)
            or not DIRECTIVE.fullmatch(key)
            or not all(_is(line, str) and (line == "" or _is_line(line)) for line in lines)
        ):
            wrong(f"sandbox: '{key}' must be a directive of systemd.exec(5) with one line of text, or a list of lines")
    for switch in app["sandbox_allow"]:
        if switch not in SANDBOX_SWITCHES:
            wrong(f"sandbox_allow: '{switch}' is unknown (known: {', '.join(SANDBOX_SWITCHES)})")
    _check_server(app, wrong)
    if not app["domains"]:
        wrong("domains needs at least one name")
    for domain in app["domains"]:
        if not _is(domain, str) or not DOMAIN.fullmatch(domain) or _is_address(domain):
            wrong(f"domains: '{domain}' is not a lower-case host name (write an international name in its xn-- form)")
    app["domains"] = [str(domain) for domain in app["domains"]]
    for key, low, high in (
        ("workers", 1, 256),
        ("start_timeout", 1, 3600),
        ("drain_timeout", 0, 86400),
        ("settle_time", 0, 3600),
        ("hang_timeout", 0, 3600),
        ("keep_releases", 2, 100),
    ):
        if not low <= app[key] <= high:
            wrong(f"{key} must be between {low} and {high}")
    _check_source(app, version, wrong)
    _check_environment(app, wrong)

    app["database"] = django if app["database"] is None else app["database"]
    if app["required_secrets"] is None:
        app["required_secrets"] = (["SECRET_KEY"] if django else []) + (
            ["DATABASE_PASSWORD"] if app["database"] else []
        )
    for key in app["required_secrets"]:
        if app["secrets"].get(key) is None or not str(app["secrets"][key]).strip():
            wrong(f"secrets.{key} is required and not set")

    for key, default in (("static_url", "/static/"), ("media_url", "/media/")):
        app[key] = app[key] if app[key] is not None else (default if django else "")
        if app[key] and not re.fullmatch(r"/[A-Za-z0-9._~/-]*/", app[key]):
            wrong(f"{key} must be a path that begins and ends with '/'")
    # A path of the user's own must answer 2xx or 3xx; without one, any answer but a server error counts.
    app["health_strict"] = app["health_path"] is not None
    app["health_path"] = app["health_path"] or "/"
    if not re.fullmatch(r"/[^\s]*", app["health_path"]):
        wrong("health_path must begin with '/' and hold no white space")
    app["lifespan"] = app["lifespan"] or ("off" if django else "auto")
    _choice(app, "lifespan", ("on", "off", "auto"), wrong)
    app["port"] = app["port"] if app["port"] is not None else 8100 + index
    if not 1 <= app["port"] <= 65535:
        wrong("port must be between 1 and 65535")

    _complete_django(app, wrong)

    app["certificate"], sound = _fields(app["certificate"], CERTIFICATE_FIELDS, f"{label}: certificate", problems)
    if sound and app["certificate"]["type"] == "provided":
        for key in ("certificate", "key"):
            if not app["certificate"][key]:
                wrong(f"certificate.{key} is required for certificate.type provided")
    app["hooks"], _sound = _fields(app["hooks"], HOOK_FIELDS, f"{label}: hooks", problems)
    for moment, commands in app["hooks"].items():
        if _is(commands, list) and not all(_is(command, str) and _is_command(command) for command in commands):
            wrong(f"hooks.{moment} must be a list of commands, each one line of text with its quotes closed")
    for kind, fields in (("processes", PROCESS_FIELDS), ("timers", TIMER_FIELDS)):
        for key, value in app[kind].items():
            if not _is(key, str) or not UNIT_PART.fullmatch(key) or key in OWN_UNITS:
                wrong(
                    f"{kind}: '{key}' must be lower-case letters, digits, '-' and '_', begin with a letter, and not be 'drain'"
                )
            app[kind][key], sound = _fields(value, fields, f"{label}: {kind}.{key}", problems)
            for field in ("command", "on_calendar"):
                if sound and not _is_line(app[kind][key].get(field, "-")):
                    wrong(f"{kind}.{key}.{field} must be one line of text (for a script, put it into the code)")
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


def _complete_django(app, wrong):
    """What belongs to the settings, checks and middleware that the release brings beside the project."""
    django = app["framework"] == "django"
    for path in app["asgi_middleware"]:
        if not MODULE.fullmatch(path) or "." not in path:
            wrong(f"asgi_middleware: '{path}' must be a dotted path to a class or function that wraps an ASGI callable")
    for key in ("vivarium_settings", "hsts_subdomains", "hsts_preload"):
        if app[key] and not django:
            wrong(f"{key} is for framework django")
    if app["hsts_preload"] and not app["hsts_subdomains"]:
        wrong("hsts_preload needs hsts_subdomains: browsers take no other site into their list")
    for key, reason in app["waivers"].items():
        if not _is(key, str) or not CHECK_ID.fullmatch(key):
            wrong(f"waivers: '{key}' is no id of a check, such as security.W021")
        elif not _is(reason, str) or not reason.strip():
            wrong(f"waivers.{key} needs a reason")
    app["standing_waivers"] = {
        key: reason for key, (wish, reason) in STANDING_WAIVERS.items() if django and not app[wish]
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
        tree = ast.parse(expression, mode="eval").body if _is_line(expression) else None
    except SyntaxError:
        tree = None
    name = _called(tree) if isinstance(tree, ast.Call) and MODULE.fullmatch(module) else None
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
    for key, name in (
        ("hsts_subdomains", "SECURE_HSTS_INCLUDE_SUBDOMAINS"),
        ("hsts_preload", "SECURE_HSTS_PRELOAD"),
    ):
        if app[key]:
            env[name] = "true"
    env |= {
        "DJANGO_SETTINGS_MODULE": "vivarium_settings" if app["vivarium_settings"] else app["settings"],
        "DEBUG": "false",
        "ALLOWED_HOSTS": ",".join(app["domains"]),
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


def _is_line(value):
    return bool(value.strip()) and value.isprintable()


def _is_command(value):
    try:
        return _is_line(value) and bool(shlex.split(value))
    except ValueError:
        return False


def _is_address(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
    if not all(_is(option, str) and option.isprintable() for option in app["server_options"]):
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
        elif value is not None and not _is(value, str):
            wrong(f"source.{key} must be a string (quote a version that looks like a number)")
        elif value and value.startswith("-") and key != "key":
            wrong(f"source.{key} must not begin with '-'")
    if kind == "git":
        source["version"] = str(version or source.get("version") or "")
        if not source["version"]:
            wrong("source.version is required for git: a branch, tag or full commit")
        elif version and source["version"].startswith("-"):
            wrong("asgi_version must not begin with '-'")


def _check_environment(app, wrong):
    for where in ("env", "secrets"):
        for key, value in app[where].items():
            if not _is(key, str) or not ENV_NAME.fullmatch(key):
                wrong(f"{where}: '{key}' is not a name of an environment variable")
            elif value is None:
                wrong(f"{where}.{key} is not set")
            else:
                try:
                    text(key, value)
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


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        return {"asgi_apps": asgi_apps, "asgi_only": asgi_only}
