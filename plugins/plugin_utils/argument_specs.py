# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inputs of the roles, as their ``meta/argument_specs.yml`` describe them."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"


@functools.cache
def options_of(role: str) -> dict[str, Any]:
    """The options of a role, by their names; not to be changed."""
    # 3 ms for the longest, that of asgi. A run reads it before it forks processes for its tasks, so all of them have it.
    described = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    return yaml_load(described)["argument_specs"]["main"]["options"]
