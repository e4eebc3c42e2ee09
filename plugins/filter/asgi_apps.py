# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Completes and checks ``asgi_apps``, the one description of an inventory's applications; the code is plugin_utils/_asgi/apps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.commands import asgi_words
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.complete import asgi_apps
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.names import asgi_only, asgi_removable


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "asgi_apps": asgi_apps,
            "asgi_only": asgi_only,
            "asgi_removable": asgi_removable,
            "asgi_words": asgi_words,
        }
