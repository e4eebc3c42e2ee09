# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the applications are called, before anything else is known of them."""

from __future__ import annotations

import gc
from collections.abc import Collection
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.asgi_files import asgi_names
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.complete import asgi_apps


def wiring_names(apps: Any) -> str:
    """Return the names of the applications for people to read, whatever else is wrong with them."""
    entries = apps if isinstance(apps, list) else []
    # Said before the first task, in the process that Ansible forks for each task. Otherwise every one of those looks for garbage
    # in all that was loaded until now: a tenth of a run without changes.
    gc.freeze()
    return ", ".join(str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry)


def wiring_applications(apps: Any, groups: Collection[str], version: Any = None) -> dict[str, dict[str, Any]]:
    """Return what the applications are called on a host of these groups; nothing of a description with mistakes."""
    try:
        names = asgi_names(asgi_apps(apps, version=version))
    except AnsibleFilterError:
        return {}
    return {
        name: {
            **(wanted if "app_servers" in groups else {}),
            "sites": [name, f"{name}_backend"] if {"web_servers", "app_servers"} & set(groups) else [],
        }
        for name, wanted in names.items()
    }
