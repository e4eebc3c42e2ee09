# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Derives what each role needs on one host from the applications and the inventory groups; the code is plugin_utils/_wiring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.hosts import (
    wiring_hosts,
    wiring_skipped,
    wiring_without,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.inputs import wiring, wiring_argument_spec
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.left import wiring_left
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.names import wiring_applications, wiring_names


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "wiring": wiring,
            "wiring_left": wiring_left,
            "wiring_names": wiring_names,
            "wiring_applications": wiring_applications,
            "wiring_argument_spec": wiring_argument_spec,
            "wiring_hosts": wiring_hosts,
            "wiring_skipped": wiring_skipped,
            "wiring_without": wiring_without,
        }
