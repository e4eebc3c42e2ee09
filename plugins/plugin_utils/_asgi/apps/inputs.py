# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with the role's inputs beside the applications: switches of a run, and what the topology adds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.names import NAME
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import is_a
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import DOMAIN
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import (
    ACCOUNT,
    environment_problems,
    is_form,
    is_number,
    is_switch,
)

RELEASE = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
DERIVED_KEYS = ("env", "secrets", "verify", "hosts")
VERIFY_KEYS = ("port", "http_port", "domain")


def input_problems(inputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with them as far as they are given."""
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


def derived_problems(derived: Any) -> list[str]:
    """What is wrong with what the topology adds; site.yml derives it, but an inventory may say it itself."""
    if not is_a(derived, dict) or not all(is_a(added, dict) for added in derived.values()):
        return ["asgi_derived must be a dictionary of dictionaries"]
    problems = []
    for name, added in derived.items():
        label = f"asgi_derived.{name}"
        problems += [f"{label}: unknown key '{key}'" for key in added if key not in DERIVED_KEYS]
        for key in ("env", "secrets"):
            problems += environment_problems(f"{label}.{key}", added.get(key, {}))
        if not is_form(NAME, name):
            problems.append(f"asgi_derived: '{name}' is not the name of an application")
        way = added.get("verify", {})
        if not is_a(way, dict):
            problems.append(f"{label}.verify must be a dictionary")
            continue
        problems += [f"{label}.verify: unknown key '{key}'" for key in way if key not in VERIFY_KEYS]
        if way and not all(is_number(way.get(key, 80), 1, 65535) for key in ("port", "http_port")):
            problems.append(f"{label}.verify: port and http_port must be numbers of ports")
        if way and not is_form(DOMAIN, way.get("domain")):
            problems.append(f"{label}.verify: domain must be a host name")
        if not is_number(added.get("hosts", 1), 1, 10000):
            problems.append(f"{label}.hosts must be a number of hosts")
    return problems
