# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role nginx decides: which inputs are wrong, what a site is in full, and what else nginx reads on a host.

The code is plugin_utils/_nginx; the documentation of the filters lies beside this file, a .yml file for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.complete import nginx_site_files, nginx_sites
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.inputs import nginx_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.there import nginx_used


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "nginx_sites": nginx_sites,
            "nginx_problems": nginx_problems,
            "nginx_site_files": nginx_site_files,
            "nginx_used": nginx_used,
        }
