"""Every input of every role, and what an attacker would put into it: each has a form that it must have, or is data by purpose."""

from __future__ import annotations

import copy
import datetime
import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.vivarium.server.plugins.filter import nginx_sites
from ansible_collections.vivarium.server.plugins.filter.asgi_apps import asgi_apps, asgi_only, asgi_removable
from ansible_collections.vivarium.server.plugins.filter.asgi_files import asgi_commands, asgi_files
from ansible_collections.vivarium.server.plugins.filter.asgi_library import asgi_library
from ansible_collections.vivarium.server.plugins.filter.certificates import certificate_problems
from ansible_collections.vivarium.server.plugins.filter.env_file import env_file
from ansible_collections.vivarium.server.plugins.filter.env_file_problems import env_file_problems
from ansible_collections.vivarium.server.plugins.filter.postgresql import (
    postgresql_backup_problems,
    postgresql_problems,
    postgresql_value,
)
from ansible_collections.vivarium.server.plugins.filter.python_problems import python_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import environment_problems
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What follows the value in a unit, in nginx's configuration, SQL, pg_hba.conf, cron, tmpfiles.d, sudoers, a shell or a path.
HOSTILE = {
    "line": "hunter2\nf /etc/cron.d/x 0644 root root - x",
    "return": "hunter2\rx",
    "directive": "hunter2; env SEC=1",
    "block": "hunter2} server {",
    "substitution": "$(id)",
    "backtick": "`id`",
    "variable": "${HOME}",
    "specifier": "%h",
    "above": "../..",
    "path above": "/etc/../../root",
    "nul": "hunter2\0x",
    "single quote": "hunter2' OR '1'='1",
    "double quote": 'hunter2" "x',
    "spaces": "hunter2 and more",
    "option": "-rf",
    "long option": "--config=/etc/shadow",
    "line separator": "hunter2\u2028x",
    "next line": "hunter2\u0085x",
    "vertical tab": "hunter2\x0bx",
    "file separator": "hunter2\x1cx",
    "escape": "\x1b]0;hunter2\x07",
    "right to left": "hunter2\u202egnp.exe",
    "surrogate": "hunter2\udc80",
    "long": "x" * 300_000,
    "continued": "hunter2\\",
    "zone": "::1%hunter2\nhost all all all trust",
    "digits of others": "٣",
    "comment": "#hunter2",
    "glob": "*",
    "empty": "",
}
HOSTILE_NUMBERS = {
    "negative": -5,
    "huge": 10**30,
    "fraction": 1.5,
    "digits and a line": "7\n",
    "digits and more": "7; x",
    "octal": "0x7",
}


@functools.cache
def pair():
    """A certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    return (
        certificate.public_bytes(pem).decode(),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none).decode(),
    )


HASH = "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1"
EDGE = {
    "trusted_proxies": ["10.0.0.1"],
    "headers": {"Content-Security-Policy": "default-src 'self'"},
    "rate_limits": {"/login/": {"rate": "5r/m", "burst": 5, "methods": ["POST"]}, "/": "10r/s"},
    "connection_limit": 20,
    "protect": {"/admin/": {"addresses": ["10.0.0.0/8"], "users": {"ann": HASH}, "satisfy": "any"}},
    "health_path": "/health/",
    "locations": {
        "/old/": {"redirect": "/new/", "code": 308},
        "/gone/": {"return": 410},
        "/files/": {"directory": "/srv/files"},
        "/raw/": {"raw": "return 200 raw;"},
    },
}
SHOP = {
    "name": "shop",
    "source": {
        "git": "https://git.example.com/shop.git",
        "version": "v1",
        "key": "~/.ssh/deploy",
        "subdirectory": "backend",
    },
    "application": "shop.asgi:application",
    "server": "gunicorn",
    "workers": 2,
    "worker_class": "asgi",
    "server_options": ["--limit"],
    "access_log": True,
    "domains": ["shop.example.com"],
    "framework": "django",
    "settings": "shop.settings",
    "env": {"A": "1"},
    "secrets": {"SECRET_KEY": "hunter2", "DATABASE_PASSWORD": "hunter2"},
    "required_secrets": ["SECRET_KEY"],
    "database": {"tcp": True, "variables": {"POSTGRES_USER": "user", "ASYNC_URL": "postgresql+asyncpg"}},
    "migrate": True,
    "state": "started",
    "database_extensions": ["citext"],
    "static_url": "/static/",
    "media_url": "/media/",
    "health_path": "/health/",
    "vivarium_settings": True,
    "asgi_middleware": ["a.B"],
    "hsts": {"max_age": 63072000, "include_subdomains": True, "preload": True},
    "check_fail_level": "WARNING",
    "waivers": {"security.W021": "a reason"},
    "lifespan": "off",
    "python": "python3",
    "step_timeout": 3600,
    "start_timeout": 60,
    "hang_timeout": 60,
    "drain_timeout": 30,
    "settle_time": 10,
    "keep_releases": 5,
    "port": 8100,
    "certificate": {"type": "provided", "certificate": "a", "key": "b", "challenge": "http"},
    "site": {
        "read_timeout": 60,
        "title": "Shop",
        "websocket_timeout": 60,
        "internal": {"/protected/": "private"},
        "pass_headers": ["X-Client-Ip"],
        **{key: value for key, value in EDGE.items() if key != "health_path"},
        "extra": "add_header X-A b;",
    },
    "redirect_domains": ["www.shop.example.com"],
    "client_max_body_size": "10m",
    "install": {"extras": ["prod"], "groups": ["web"]},
    "build": ["npm ci"],
    "static": ["python manage.py compress"],
    "hooks": {moment: ["true"] for moment in ("before_migrate", "after_migrate", "before_switch", "after_switch")},
    "processes": {"worker": {"command": "true", "stop_timeout": 30}},
    "timers": {"tick": {"command": "true", "on_calendar": "daily", "timeout": 60}},
    "sandbox": {"PrivateTmp": "yes"},
    "sandbox_allow": ["jit"],
}
PLAIN = {"application": "api:app", "framework": "none"}
# An example of every input, so that there is something to put the hostile values in the place of.
EXAMPLES = {
    "asgi": {
        "asgi_apps": [
            SHOP,
            {
                "name": "one",
                "source": {"path": ".", "include": ["frontend/dist"], "exclude": ["docs"]},
                "domains": ["one.example.com"],
                "install": {"requirements": ["requirements/production.txt"]},
                **PLAIN,
            },
            {"name": "two", "source": {"archive": "two.tar"}, "domains": ["two.example.com"], **PLAIN},
            {
                "name": "three",
                "source": {"package": "three==1"},
                "domains": ["three.example.com"],
                "path": "/three/",
                **PLAIN,
            },
        ],
        "asgi_derived": {
            "shop": {
                "env": {"B": "1"},
                "secrets": {"DATABASE_URL": "hunter2"},
                "verify": {"port": 443, "http_port": 80, "domain": "shop.example.com"},
                "hosts": 1,
            }
        },
        "asgi_only": ["shop"],
        "asgi_version": "v1",
        "asgi_rollback_to": "20261124-101500-1a2b3c",
        "asgi_force": False,
        "asgi_break_lock": False,
        "asgi_serial": 1,
        "asgi_empty_database": "shop",
        "asgi_remove": ["gone"],
        "asgi_purge": ["past"],
        "asgi_wait": False,
        "asgi_build_environment": {"HTTPS_PROXY": "http://proxy.example.com"},
        "asgi_web_group": "www-data",
    },
    "python": {
        "python_packages": ["python3-dev"],
        "python_libraries": ["libpq5"],
        "python_uv_version": "0.13.9",
        "python_uv_hashes": ["a" * 64],
        "python_versions": ["3.14"],
        "python_environment": {"HTTPS_PROXY": "http://proxy.example.com"},
    },
    "env_file": {
        "env_file_path": "/etc/shop.env",
        "env_file_variables": {"A": "1"},
        "env_file_secrets": {"B": "hunter2"},
        "env_file_owner": "root",
        "env_file_group": "root",
        "env_file_mode": "0600",
        "env_file_notify": ["Restart shop"],
    },
    "certificates": {
        "certificates_requests": [
            {"name": "shop", "domains": ["shop.test"], "type": "provided", "certificate": "PEM", "key": "PEM"},
            {"name": "self", "domains": ["self.test"], "challenge": "http"},
        ],
        "certificates_requests_extra": [{"name": "self", "domains": ["self.test"], "challenge": "http"}],
        "certificates_remove": ["gone"],
        "certificates_self_signed_days": 397,
        "certificates_acme_email": "admin@shop.test",
        "certificates_acme_directory": "https://authority.test/directory",
        "certificates_acme_profile": "shortlived",
        "certificates_acme_eab": {"kid": "k-1", "hmac_key": "aGVsbG8"},
        "certificates_acme_dns": {
            "plugin": "rfc2136",
            "credentials": {"dns_rfc2136_secret": "hunter2=="},
            "propagation_seconds": 60,
        },
        "certificates_acme_reload": ["nginx.service"],
        "certificates_acme_webroot": "/var/lib/vivarium/acme",
        "certificates_acme_port": 80,
    },
    "nginx": {
        "nginx_sites": [
            {
                "name": "shop",
                "domains": ["shop.test"],
                "redirect_domains": ["www.shop.test"],
                "upstream": ["unix:/srv/shop/live/socket", "10.0.0.1:8000"],
                "certificate": {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"},
                "hsts": {"max_age": 1, "include_subdomains": True, "preload": False},
                "static": [
                    {
                        "url": "/static/",
                        "path": "/srv/shop/static/",
                        "fallback": "/srv/shop/older/",
                        "ask_upstream": False,
                    }
                ],
                "media": [{"url": "/media/", "path": "/srv/shop/media/", "internal": False}],
                "client_max_body_size": "10m",
                "read_timeout": 60,
                "websocket_timeout": 60,
                "enabled_by": "/etc/systemd/system/multi-user.target.wants/shop.service",
                "pass_headers": ["X-Client-Ip"],
                "title": "Shop",
                "pages": "/srv/shop/pages",
                **EDGE,
                "extra": "",
            },
            {
                "name": "back",
                "domains": ["back.test"],
                "upstream": ["unix:/srv/shop/live/socket"],
                "listen": "10.0.0.2:8100",
                "trusted_proxies": ["10.0.0.1"],
            },
            {"name": "below", "domains": ["below.test"], "path": "/a/", "upstream": ["unix:/srv/below/live/socket"]},
            {
                "name": "beside",
                "domains": ["below.test"],
                "path": "/b/",
                "under": "below",
                "upstream": ["unix:/srv/beside/live/socket"],
            },
        ],
        "nginx_sites_extra": [
            {
                "name": "back",
                "domains": ["back.test"],
                "upstream": ["unix:/srv/shop/live/socket"],
                "listen": "10.0.0.2:8100",
                "trusted_proxies": ["10.0.0.1"],
            }
        ],
        "nginx_remove_sites": ["gone"],
        "nginx_include": ["/etc/nginx/sites-enabled/blog"],
        "nginx_take_over": False,
        "nginx_http_port": 80,
        "nginx_https_port": 443,
        "nginx_ipv6": True,
        "nginx_http3": True,
        "nginx_brotli": True,
        "nginx_security_headers": {"X-Frame-Options": "DENY"},
        "nginx_acme_directory": "/var/lib/vivarium/acme",
        "nginx_acme_peers": ["10.0.0.9:80"],
        "nginx_worker_connections": 4096,
        "nginx_client_header_timeout": "15s",
        "nginx_client_body_timeout": "60s",
        "nginx_send_timeout": "60s",
        "nginx_keepalive_timeout": "65s",
        "nginx_connection_limit": 500,
        "nginx_worker_shutdown_timeout": "1h",
        "nginx_extra": "",
    },
    "postgresql": {
        "postgresql_users": [
            {
                "name": "shop",
                "password": "hunter2",
                "connection_limit": 5,
                "connections": 4,
                "settings": {"statement_timeout": "5min"},
            },
            {"name": "blog", "login": False, "logins": ["blog-0a1b"]},
            {"name": "blog-0a1b", "password": "hunter2", "member_of": "blog"},
        ],
        "postgresql_users_extra": [{"name": "blog", "login": False, "logins": ["blog-0a1b"]}],
        "postgresql_required_users": ["shop"],
        "postgresql_databases": [
            {"name": "shop", "owner": "shop", "extensions": ["citext"], "locale": "C.UTF-8"},
            {"name": "blog"},
        ],
        "postgresql_databases_extra": [{"name": "blog"}],
        "postgresql_access": [
            {
                "type": "hostssl",
                "database": "shop",
                "user": "shop",
                "address": "10.0.0.1/32",
                "method": "scram-sha-256",
            },
            {"type": "local", "database": "blog", "user": "blog"},
        ],
        "postgresql_access_extra": [{"type": "local", "database": "blog", "user": "blog"}],
        "postgresql_remove_databases": ["gone"],
        "postgresql_purge_databases": ["past"],
        "postgresql_listen_addresses": ["10.0.0.2", "10.0.0.3"],
        "postgresql_listen_addresses_extra": ["10.0.0.2"],
        "postgresql_port": 5432,
        "postgresql_max_connections": 100,
        "postgresql_settings": {"work_mem": "4MB", "shared_preload_libraries": ["pg_stat_statements"]},
        "postgresql_user_settings": {"lock_timeout": "30s"},
        "postgresql_certificate": "/etc/ssl/a.pem",
        "postgresql_certificate_key": "/etc/ssl/a.key",
        "postgresql_data_checksums": True,
        "postgresql_packages": ["postgresql-17-pgvector"],
        "postgresql_restart": True,
        "postgresql_take_over": False,
    },
    "postgresql_backup": {
        "postgresql_backup_databases": ["shop"],
        "postgresql_backup_directory": "/var/backups/postgresql",
        "postgresql_backup_schedule": "17 2 * * *",
        "postgresql_backup_mailto": "root",
        "postgresql_backup_keep_days": 14,
        "postgresql_backup_keep_last": 7,
        "postgresql_backup_reserve_mb": 512,
        "postgresql_backup_hook_failure": "true",
        "postgresql_backup_superuser_databases": ["shop"],
        "postgresql_backup_port": 5432,
        "postgresql_backup_timeouts": {"shop": 60},
        "postgresql_backup_purge": ["past"],
    },
}


def asgi_problems(inputs):
    try:
        apps = asgi_apps(inputs["asgi_apps"], inputs["asgi_derived"], inputs["asgi_version"], inputs)
        asgi_only(apps, inputs["asgi_only"])
        for name in ("asgi_remove", "asgi_purge"):
            asgi_removable(inputs[name], inputs["asgi_apps"], name)
    except AnsibleFilterError as error:
        return [str(error)]
    return []


# What tasks/validate.yml of a role asks; that it does is seen below.
CHECKS = {
    "asgi": asgi_problems,
    "python": python_problems,
    "env_file": env_file_problems,
    "certificates": lambda inputs: certificate_problems(
        inputs["certificates_requests"],
        days=inputs["certificates_self_signed_days"],
        remove=inputs["certificates_remove"],
        extra=inputs["certificates_requests_extra"],
        acme={name: value for name, value in inputs.items() if name.startswith("certificates_acme_")},
        release="13",
    ),
    "nginx": nginx_sites.nginx_problems,
    "postgresql": postgresql_problems,
    "postgresql_backup": postgresql_backup_problems,
}


@functools.cache
def specification(role):
    return yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]


def examples(role):
    inputs = copy.deepcopy(EXAMPLES[role])
    if role == "certificates":
        inputs["certificates_requests"][0] |= dict(zip(("certificate", "key"), pair(), strict=True))
    return inputs


def complaints(role, inputs):
    """What a run of the role says of its inputs before anything else: the specification, then the role's own check."""
    errors = ArgumentSpecValidator(specification(role)).validate(copy.deepcopy(inputs)).error_messages
    return errors or CHECKS[role](inputs)


def places(value, path=()):
    """Every place of an example, down to single values, and the keys of what is free to have any."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
        yield (*path, KEY)
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


KEY = "(a key)"


def label(path):
    return ".".join("[]" if isinstance(part, int) else part for part in path).replace(".[]", "[]")


def put(inputs, path, value):
    """The inputs with another value at a place; at a key, what was there first goes by another name."""
    inputs = copy.deepcopy(inputs)
    place = inputs
    for part in path[:-1]:
        place = place[part]
    if path[-1] == KEY:
        place[value] = next(iter(place.values()), "x")
    else:
        place[path[-1]] = value
    return inputs


def at(inputs, path):
    return functools.reduce(lambda place, part: place[part], path, inputs)


# What is harmless wherever a text is handed on as data: it stays on its line, and its end is known.
TEXT = frozenset(HOSTILE) - {
    "line", "return", "nul", "line separator", "next line", "vertical tab", "file separator", "escape", "right to left",
    "surrogate", "long", "zone",
} | {"one more blank"}  # fmt: skip
# A command has a program, and its quotes are closed.
COMMAND = TEXT - {"continued", "option", "long option", "empty"}
# An environment file carries these as well.
VALUE = TEXT | {"line", "line separator", "next line", "right to left", "zone", "one more line", "one line before"}
ANY = frozenset(HOSTILE) | {"one more line", "one line before", "one more blank"}
QUOTED = ANY - {"line", "return", "nul", "zone", "one more line", "one line before"}

# Inputs that are free by purpose: which of the hostile values they take, and why that is no harm. What the tests below show of
# them has an example there.
FREE = {
    ("asgi", "asgi_apps[].source.git"): (TEXT, "a word of git's, after --, on the controller"),
    ("asgi", "asgi_apps[].source.version"): (
        TEXT,
        "a part of a word of git's, refs/heads/…; asgi_version takes its place here",
    ),
    ("asgi", "asgi_version"): (TEXT, "the same"),
    ("asgi", "asgi_apps[].source.subdirectory"): ({"empty"}, "none"),
    ("asgi", "asgi_apps[].source.key"): (ANY, "the text of a file, or the path of one on the controller"),
    ("asgi", "asgi_apps[].source.path"): (TEXT, "a directory of the controller"),
    ("asgi", "asgi_apps[].source.archive"): (TEXT, "a file of the controller"),
    ("asgi", "asgi_apps[].source.package"): (TEXT, "a word of uv's, which runs as the application's user"),
    ("asgi", "asgi_apps[].server_options[]"): (TEXT, "quoted words of a file that sh reads"),
    ("asgi", "asgi_apps[].env.A"): (VALUE, "the environment file carries any text"),
    ("asgi", "asgi_apps[].secrets.SECRET_KEY"): (VALUE, "the environment file carries any text"),
    ("asgi", "asgi_apps[].secrets.DATABASE_PASSWORD"): (VALUE, "quoted in a URL, which the environment file carries"),
    ("asgi", "asgi_apps[].static_url"): ({"empty"}, "none"),
    ("asgi", "asgi_apps[].media_url"): ({"empty"}, "none"),
    ("asgi", "asgi_apps[].health_path"): (
        {"path above", "empty"},
        "a path of the application's, not of the host; none is /",
    ),
    ("asgi", "asgi_apps[].waivers.security.W021"): (
        TEXT | {"one more line", "one line before"},
        "a line of JSON; blanks go",
    ),
    ("asgi", "asgi_apps[].certificate.type"): ({"empty"}, "what the role certificates says by itself"),
    ("asgi", "asgi_apps[].certificate.challenge"): (ANY, "the role certificates reads it, or refuses it"),
    ("certificates", "certificates_acme_email"): ({"empty"}, "none"),
    ("certificates", "certificates_acme_profile"): ({"empty"}, "none"),
    ("certificates", "certificates_acme_eab.hmac_key"): (
        {"option", "long option"},
        "letters of base64, after an equals sign in a file of certbot's",
    ),
    ("certificates", "certificates_acme_dns.credentials"): (ANY, "the text of a file for a plugin of certbot's"),
    ("certificates", "certificates_acme_dns.credentials.dns_rfc2136_secret"): (
        QUOTED,
        "between quotes in the file of a plugin of certbot's",
    ),
    ("asgi", "asgi_apps[].certificate.certificate"): (ANY, "the role certificates reads it, or refuses it"),
    ("asgi", "asgi_apps[].certificate.key"): (ANY, "the role certificates reads it, or refuses it"),
    **{
        ("asgi", f"asgi_apps[].hooks.{moment}[]"): (COMMAND, "words that are handed on one by one")
        for moment in SHOP["hooks"]
    },
    ("asgi", "asgi_apps[].build[]"): (COMMAND, "words that are handed on one by one"),
    ("asgi", "asgi_apps[].static[]"): (COMMAND, "words that are handed on one by one"),
    ("asgi", "asgi_apps[].processes.worker.command"): (COMMAND, "quoted words of a file that sh reads"),
    ("asgi", "asgi_apps[].timers.tick.command"): (COMMAND, "quoted words of a file that sh reads"),
    ("asgi", "asgi_apps[].timers.tick.on_calendar"): (
        {"spaces", "glob", "one more blank"},
        "systemd says whether it is a time",
    ),
    ("asgi", "asgi_apps[].sandbox.PrivateTmp"): (
        TEXT - {"continued"},
        "what follows the = of a directive; it stays on its line",
    ),
    ("asgi", "asgi_apps[].site.title"): (TEXT - {"empty"}, "escaped for HTML"),
    ("asgi", "asgi_derived.shop.env.B"): (VALUE, "the environment file carries any text"),
    ("asgi", "asgi_derived.shop.secrets.DATABASE_URL"): (VALUE, "the environment file carries any text"),
    ("asgi", "asgi_build_environment.HTTPS_PROXY"): (VALUE, "handed on as an environment, not as a text"),
    ("asgi", "asgi_only"): ({"empty"}, "all"),
    ("asgi", "asgi_only[]"): ({"empty"}, "all"),
    **{("asgi", place): ({"empty"}, "none") for name in ("asgi_remove", "asgi_purge") for place in (name, f"{name}[]")},
    ("asgi", "asgi_empty_database"): ({"empty"}, "none"),
    ("asgi", "asgi_rollback_to"): ({"empty"}, "the one before"),
    ("python", "python_environment.HTTPS_PROXY"): (VALUE, "Ansible quotes the values of an environment"),
    ("env_file", "env_file_variables.A"): (VALUE, "the environment file carries any text"),
    ("env_file", "env_file_secrets.B"): (VALUE, "the environment file carries any text"),
    ("env_file", "env_file_notify[]"): (TEXT - {"empty"}, "names of the playbook's own handlers"),
    **{
        (role, f"{place}.headers.Content-Security-Policy"): (
            TEXT,
            "quoted; a quotation mark, a dollar sign and a backslash are refused",
        )
        for role, place in (("asgi", "asgi_apps[].site"), ("nginx", "nginx_sites[]"))
    },
    ("asgi", "asgi_apps[].site.locations./raw/.raw"): (ANY, "raw directives by purpose"),
    ("asgi", "asgi_apps[].site.extra"): (ANY, "raw directives by purpose"),
    ("nginx", "nginx_sites[].extra"): (ANY, "raw directives by purpose"),
    ("nginx", "nginx_sites[].locations./raw/.raw"): (ANY, "raw directives by purpose"),
    ("nginx", "nginx_extra"): (ANY, "raw directives by purpose"),
    ("nginx", "nginx_sites[].title"): (TEXT - {"empty"}, "escaped for HTML"),
    ("nginx", "nginx_security_headers.X-Frame-Options"): (
        TEXT,
        "quoted; a quotation mark, a dollar sign and a backslash are refused",
    ),
    ("postgresql", "postgresql_users[].password"): (ANY - {"empty"}, "the server gets a verifier made of it"),
    **{
        ("postgresql", label): (QUOTED, "quoted, so that nothing in it has a meaning")
        for label in (
            "postgresql_users[].settings.statement_timeout",
            "postgresql_settings.work_mem",
            "postgresql_settings.shared_preload_libraries",
            "postgresql_settings.shared_preload_libraries[]",
            "postgresql_user_settings.lock_timeout",
        )
    },
    ("postgresql", "postgresql_databases[].owner"): ({"empty"}, "the role of the database's name"),
    ("postgresql", "postgresql_listen_addresses[]"): ({"glob"}, "every address"),
    ("postgresql_backup", "postgresql_backup_mailto"): ({"empty"}, "nobody"),
    ("postgresql_backup", "postgresql_backup_hook_failure"): (ANY, "a shell command by purpose; JSON carries it"),
}
# What nobody may read in an error.
SECRET = ("secret", "password", "key", "env", "certificate.certificate", "users.ann")


def hostile(value):
    values = HOSTILE | (HOSTILE_NUMBERS if isinstance(value, int) and not isinstance(value, bool) else {})
    if isinstance(value, str):
        values = values | {
            "one more line": f"{value}\n",
            "one more blank": f"{value} ",
            "one line before": f"\n{value}",
        }
    return values


PLACES = {
    f"{role}-{label(path)}-{'.'.join(map(str, path))}": (role, path)
    for role in EXAMPLES
    for path in places(EXAMPLES[role])
    if path
}


@pytest.mark.parametrize("role", EXAMPLES)
def test_the_examples_are_good(role):
    assert not complaints(role, examples(role))


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_every_input_has_an_example(role):
    """An input without one would be left out below."""

    def described(options, path=()):
        for name, option in options.items():
            yield (*path, name)
            yield from described(option.get("options", {}), (*path, name))

    exemplified = {tuple(part for part in path if not isinstance(part, int)) for path in places(EXAMPLES[role])}
    assert [path for path in described(specification(role)) if path not in exemplified] == []
    free = [path for _role, path in PLACES.values() if _role == role and at_or_key(role, path) in ({}, [])]
    assert free == [], "an example with nothing inside"


def at_or_key(role, path):
    return None if path[-1] == KEY else at(EXAMPLES[role], path)


@pytest.mark.parametrize("place", PLACES)
def test_no_input_takes_a_hostile_value(place):
    role, path = PLACES[place]
    allowed, _reason = FREE.get((role, label(path)), ((), ""))
    taken, told = [], []
    for name, value in hostile(at_or_key(role, path)).items():
        found = complaints(role, put(examples(role), path, value))
        if not found and name not in allowed:
            taken.append(name)
        # The name of a variable is no secret; its value is.
        single = path[-1] != KEY and isinstance(at_or_key(role, path), str)
        if (
            single
            and any(word in label(path) for word in SECRET)
            and "required" not in place
            and "hunter2" in str(found)
        ):
            told.append(name)
    assert (taken, told) == ([], [])


def test_what_is_free_is_there_and_takes_what_is_said():
    """An entry that no input needs any more would hide the next one that is not checked."""
    known = {(role, label(path)): (role, path) for role, path in PLACES.values()}
    assert set(FREE) <= set(known)
    for entry, (allowed, _reason) in FREE.items():
        role, path = known[entry]
        values = hostile(at_or_key(role, path))
        assert any(
            not complaints(role, put(examples(role), path, values[name])) for name in allowed if name in values
        ), entry


# What is free by purpose, seen to arrive as it is.
TEXTS = [value for value in HOSTILE.values() if isinstance(value, str) and len(value) < 1000]
LINES = [HOSTILE[name] for name in sorted(TEXT - {"one more blank"})]
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


def rendered(template, **variables):
    """A template of the role asgi, as Ansible renders it."""
    variables |= {"ansible_managed": "Ansible managed"}
    templar = Templar(DataLoader(), variables)
    text = (ROOT / "roles/asgi/templates" / template).read_text()
    return str(templar.template(trust_as_template(text), escape_backslashes=False, overrides={"trim_blocks": True}))


def test_commands_arrive_word_by_word(tmp_path):
    """The file that a unit runs gives a program exactly the words of the command, whatever is in them."""
    words = [sys.executable, "-c", SHOW, *LINES, "a\tb", "", " ", "$HOME", "%h", "\\", ";", "\\;", "'", '"', "A=1"]
    app = {
        **SHOP,
        "processes": {"worker": {"command": shlex.join(words)}},
        "timers": {"tick": {"command": shlex.join(words), "on_calendar": "daily"}},
    }
    (app,) = asgi_apps([app], version="v1")
    entries = {
        entry["path"]: entry
        for entry in [*asgi_commands(app, "/r"), *asgi_files([app], sandbox={"switches": {"jit": {}}})]
    }
    for path in ("/r/commands/worker", "/usr/local/lib/asgi/commands/shop-tick"):
        script = tmp_path / "command"
        script.write_text(rendered(entries[path]["template"], **entries[path]["vars"]))
        run = subprocess.run(["/bin/sh", script], capture_output=True, text=True, check=True, env={"HOME": "/nowhere"})
        assert json.loads(run.stdout)[0] == words[3:]
    # No unit holds a part of a command.
    for path, entry in entries.items():
        if path.endswith((".service", ".timer")):
            variables = {
                "__asgi_sandbox": {},
                "__asgi_sandbox_switches": {},
                "__asgi_programs": "/p",
                "__asgi_commands": "/p/commands",
                "__asgi_stop_timeout": 30,
            }
            text = rendered_unit(entry, variables)
            assert "hunter2" not in text and "json" not in text, path


def rendered_unit(entry, variables):
    text = (ROOT / "roles/asgi/templates" / entry["template"]).read_text()
    templar = Templar(DataLoader(), {**variables, **entry["vars"], "ansible_managed": "Ansible managed"})
    return str(templar.template(trust_as_template(text), escape_backslashes=False, overrides={"trim_blocks": True}))


@pytest.mark.parametrize("server", OPTIONS["server"]["choices"])
def test_options_of_a_server_arrive_word_by_word(tmp_path, server):
    """A server that says its words is started as a release starts its own."""
    options = [*LINES, "{workers}"]  # a place in the role's table, and nothing but text here
    (app,) = asgi_apps([{**SHOP, "server": server, "worker_class": None, "server_options": options}], version="v1")
    role = yaml.safe_load((ROOT / "roles/asgi/vars/main.yml").read_text())
    variables = {key: role[key] for key in ("__asgi_servers", "__asgi_supervise", "__asgi_graceful_timeout")}
    variables |= {"__asgi_app": app, "__asgi_release": {"id": "r1"}, "__asgi_path": "/r"}
    text = rendered("serve.j2", **variables)
    assert text.count("/usr/bin/python3 -I") <= 1
    for name in (server, "python", "python3"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(SHOW)} "$@"\n')
        program.chmod(0o755)
    (tmp_path / "serve").write_text(text.replace("/usr/bin/python3", "python3"))
    run = subprocess.run(
        ["/bin/sh", tmp_path / "serve"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:/usr/bin"},
    )
    words = json.loads(run.stdout)[0]
    begin = words.index(LINES[0], words.index("--workers"))
    assert words[begin : begin + len(options)] == options


def test_values_of_an_environment_arrive(tmp_path):
    values = {f"V{number}": value for number, value in enumerate(TEXTS) if not environment_problems("x", {"A": value})}
    assert len(values) > 20
    (tmp_path / "env").write_text(env_file(values))
    command = ["/bin/sh", "-c", f'set -a; . {tmp_path}/env; exec {sys.executable} -c "$1"', "sh", SHOW]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[1]
    assert {name: found[name] for name in values} == values


def test_a_setting_of_postgresql_stays_between_its_quotes():
    for text in TEXTS:
        inner = postgresql_value(text)
        assert inner[0] == inner[-1] == "'"
        # What would end the text or change what follows stands there twice; nothing of it stands alone.
        assert re.fullmatch(r"(?:[^'\\]|''|\\\\)*", inner[1:-1], re.DOTALL)
        assert inner[1:-1].replace("''", "'").replace("\\\\", "\\") == text


def test_a_waiver_stays_in_its_text():
    waivers = {"security.W021": "x' } \\ $(id) %h ; [Service]"}
    (app,) = asgi_apps([{**SHOP, "waivers": waivers}], version="v1")
    content = asgi_library(app, "/r", {"gunicorn_asgi": {"library": []}})[-1]["content"]
    assert json.loads(content)["waivers"] == waivers


# Of every input of every role one value that it must not have: the role itself says so, by name, before it does anything.
def one_hostile(role, name):
    value = EXAMPLES[role][name]
    if isinstance(value, list):
        return ["hunter2\nx"]
    if isinstance(value, dict):
        return {"hunter2\nx": 1}
    return "7\n" if isinstance(value, int) and not isinstance(value, bool) else "hunter2\nx"


INPUTS = [
    (role, name) for role in EXAMPLES for name in EXAMPLES[role] if (role, name) not in FREE or name == "asgi_version"
]
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role: {name: "vivarium.server.{{ role }}", tasks_from: validate}
        - ansible.builtin.set_fact: {said: nothing}
      rescue:
        - ansible.builtin.set_fact: {said: "{{ ansible_failed_result.msg }}"}
    - ansible.builtin.copy:
        content: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'said'))) | to_json }}"
        dest: "{{ inventory_dir }}/said"
        mode: "0600"
      run_once: true
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What one run of Ansible says, in which each input is another host's."""
    place = tmp_path_factory.mktemp("inputs")
    hosts = {
        f"{role}--{name}": {
            "role": role,
            **examples(role),
            name: one_hostile(role, name),
            **({"asgi_version": ""} if name == "asgi_apps" else {}),
        }
        for role, name in INPUTS
    }
    common = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    (place / "hosts.json").write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
    (place / "play.yml").write_text(PLAY)
    run = subprocess.run(
        ["ansible-playbook", "-i", place / "hosts.json", place / "play.yml"],
        cwd=ROOT, env={**os.environ, "XDG_CACHE_HOME": str(place), "ANSIBLE_FORKS": "4"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    return json.loads((place / "said").read_text())


@pytest.mark.parametrize(("role", "name"), INPUTS)
def test_the_role_itself_refuses_it(said, role, name):
    message = said[f"{role}--{name}"]
    assert name in message, message
    if name in ("env_file_secrets", "asgi_build_environment"):
        assert "hunter2\nx" not in message
