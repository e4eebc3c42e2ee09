# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks the inputs of the python role."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.forms import PACKAGE, environment_problems, is_form

DOCUMENTATION = r"""
name: python_problems
short_description: Say what is wrong with the inputs of the python role (internal)
version_added: 0.1.0
description:
  - Each input has a form that it must have, since they reach paths, command lines and the environment of what runs as root.
  - A value of O(_input.python_environment) is never told.
options:
  _input:
    description: The inputs of the role P(vivarium.server.python#role), by their names.
    type: dict
    required: true
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Refuse inputs that cannot work
  ansible.builtin.assert:
    that: inputs | vivarium.server.python_problems | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each problem.
  type: list
  elements: str
"""

UV_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}")
HASH = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"3\.[0-9]{1,3}(\.[0-9]{1,3})?")


def python_problems(inputs: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that is wrong; none when the inputs are usable."""
    problems = []
    if not is_form(UV_VERSION, inputs["python_uv_version"]):
        problems.append('python_uv_version must be a version such as "0.13.9"')
    for name, form, least, meaning in (
        ("python_uv_hashes", HASH, 1, "the SHA-256 hashes of uv's wheels"),
        ("python_versions", VERSION, 0, 'quoted versions such as "3.14" or "3.14.1"'),
        *((name, PACKAGE, 0, "names of Debian packages") for name in ("python_packages", "python_libraries")),
    ):
        value = inputs[name]
        if not isinstance(value, list) or len(value) < least or not all(is_form(form, entry) for entry in value):
            problems.append(f"{name} must be a list of {meaning}")
    return problems + environment_problems("python_environment", inputs["python_environment"])


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"python_problems": python_problems}
