# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists the modules of Vivarium that lie beside an application's code in its release."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.django import CLEARSESSIONS

DOCUMENTATION = r"""
name: asgi_library
positional: path, servers
short_description: List the Python modules that a release gets beside the application's code (internal)
version_added: 0.1.0
description:
  - The settings on top of a Django project's own, the checks that Django's do not make, what makes the ASGI callable by a call,
    what wraps it, and what its server runs with, as far as the application wants them.
options:
  _input:
    description: An application, completed by P(vivarium.server.asgi_apps#filter).
    type: dict
    required: true
  path:
    description: The release's directory.
    type: str
    required: true
  servers:
    description: The role's table of servers; C(library) of a row names the modules of the server.
    type: dict
    required: true
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Write the modules of a release
  vivarium.server.files:
    directories: [{path: "{{ release }}/lib"}]
    files: "{{ application | vivarium.server.asgi_library(release, servers) }}"
"""

RETURN = r"""
_value:
  description: Entries for the option C(files) of M(vivarium.server.files).
  type: list
  elements: dict
"""

# What of the description the checks look at.
CONTEXT = ("framework", "callable", "workers", "hosts", "migrate", "waivers", "standing_waivers", "hsts_header")


def asgi_library(app: dict[str, Any], path: str, servers: dict[str, Any]) -> list[dict[str, Any]]:
    """The modules that an application wants, and what the checks are told of it."""
    django = app["framework"] == "django"
    wanted = {
        "vivarium_gate.py": True,
        "vivarium_headings.py": True,
        "vivarium_code.py": True,
        "vivarium_checks.py": django,
        "vivarium_plain_checks.py": not django,
        "vivarium_settings.py": app["vivarium_settings"],
        "vivarium_clearsessions.py": app["vivarium_settings"],
        "vivarium_asgi.py": app["asgi_middleware"],
    }
    sources = [f"django/{name}" for name, use in wanted.items() if use]
    sources += [f"server/{name}" for name in servers[app["serve_with"]]["library"]]
    modules: list[dict[str, Any]] = [
        {"path": f"{path}/lib/{source.split('/')[1]}", "source": source} for source in sources
    ]
    if app["made_by"]:
        modules.append(
            {
                "path": f"{path}/lib/vivarium_application.py",
                "template": "application.py.j2",
                "vars": {"made_by": app["made_by"]},
            }
        )
    context = {key: app[key] for key in CONTEXT} | {
        "fail_level": app["check_fail_level"],
        "processes": len(app["processes"]),
        "commands": [
            [kind, name, entry["command"]]
            for kind, entries in (("process", app["processes"]), ("timer", app["timers"]))
            for name, entry in sorted(entries.items())
            # The collection's own does no harm twice.
            if entry["command"] != CLEARSESSIONS["command"]
        ],
        "secrets": sorted(app["secret_env"]),
    }
    return [
        *modules,
        {"path": f"{path}/lib/vivarium_gate.json", "content": json.dumps(context, indent=1, sort_keys=True) + "\n"},
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"asgi_library": asgi_library}
