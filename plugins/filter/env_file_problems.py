# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks the inputs of the env_file role."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.forms import environment_problems, is_form, is_line

DOCUMENTATION = r"""
name: env_file_problems
short_description: Say what is wrong with the inputs of the env_file role (internal)
version_added: 0.1.0
description:
  - Names the variable that cannot be written, and never shows a value.
options:
  _input:
    description: The inputs of the role P(vivarium.server.env_file#role), by their names.
    type: dict
    required: true
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Refuse inputs that cannot work
  ansible.builtin.assert:
    that: inputs | vivarium.server.env_file_problems | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each problem.
  type: list
  elements: str
"""

PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9_.@:+,=~-]{1,255})+")
OWNER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10}")
MODE = re.compile(r"[0-7]{3,4}")


def env_file_problems(inputs: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that is wrong; none when the inputs are usable."""
    problems = []
    for name, form, meaning in (
        ("env_file_path", PATH, "an absolute path without spaces"),
        ("env_file_owner", OWNER, "a user"),
        ("env_file_group", OWNER, "a group"),
        ("env_file_mode", MODE, 'quoted octal digits such as "0600"'),
    ):
        if not is_form(form, inputs[name]) or len(inputs[name]) > 4000:
            problems.append(f"{name} must be {meaning}")
    names = inputs["env_file_notify"]
    if not isinstance(names, list) or not all(is_line(name) for name in names):
        problems.append("env_file_notify must be a list of handlers, each one line of text")
    variables, secrets = inputs["env_file_variables"], inputs["env_file_secrets"]
    problems += environment_problems("env_file_variables", variables)
    problems += environment_problems("env_file_secrets", secrets)
    if isinstance(variables, dict) and isinstance(secrets, dict):
        twice = [str(name) for name in variables if name in secrets]
        if twice:
            problems.append(f"env_file_variables and env_file_secrets have names in common: {', '.join(twice)}")
    return problems


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"env_file_problems": env_file_problems}
