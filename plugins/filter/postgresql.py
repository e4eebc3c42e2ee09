# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the roles postgresql and postgresql_backup decide: which inputs are wrong, and what a server still lacks.

The code is plugin_utils/_postgresql.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.access import postgresql_access
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.backup import postgresql_backup_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.inputs import postgresql_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.limits import postgresql_limits
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.plan import (
    postgresql_plan,
    postgresql_troubles,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.there import (
    postgresql_foreign,
    postgresql_kept,
    postgresql_used,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.words import postgresql_value


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "postgresql_access": postgresql_access,
            "postgresql_foreign": postgresql_foreign,
            "postgresql_kept": postgresql_kept,
            "postgresql_limits": postgresql_limits,
            "postgresql_backup_problems": postgresql_backup_problems,
            "postgresql_plan": postgresql_plan,
            "postgresql_problems": postgresql_problems,
            "postgresql_troubles": postgresql_troubles,
            "postgresql_used": postgresql_used,
            "postgresql_value": postgresql_value,
        }
