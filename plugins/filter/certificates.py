# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the certificates role decides: which requests are wrong, and who brings which certificate.

The code is plugin_utils/_certificates; the documentation of the filters lies beside this file, a .yml file for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._certificates.plan import certificates_plan
from ansible_collections.vivarium.server.plugins.plugin_utils._certificates.requests import certificate_problems


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certificate_problems": certificate_problems, "certificates_plan": certificates_plan}
