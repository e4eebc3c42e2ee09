# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's side of the collection's modules: packs what modules consist of and sends it with their parameters.

Ansible's own way packs a module together with what it imports of ansible-core, some sixty files, and the host compiles them at
each run: 270 ms a task where this takes 77 (measured without a network, on two busy cores). It took a second off a run without
changes and off a deploy, which take 2 to 3 s and 5 to 6 s (bench/README.md). The price is an import hook on the host
(plugins/modules/host_code.py), and that modules import nothing but Python and module_utils.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import zlib
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

COLLECTION = Path(__file__).resolve().parents[2]
NAME = "vivarium.server"
PACKAGE = f"ansible_collections.{NAME}"
# Control characters but for line ends and tabs, and what turns the direction of writing around.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
IMPORT = re.compile(rf"^\s*from {re.escape(PACKAGE)}\.(plugins\.module_utils\.[\w.]+) import ", re.MULTILINE)
# Where the code of each module lies, below module_utils; the module itself is its documentation.
CODE = {
    "acme_certificates": "_certificates.acme",
    "asgi_hang_up": "_maintenance.hang_up",
    "asgi_names": "_asgi.names",
    "asgi_plan": "_asgi.plan",
    "asgi_release": "_deploy.deploy",
    "asgi_remove": "_asgi.remove",
    "asgi_status": "_asgi.status",
    "files": "_files.files",
    "host_facts": "_host.facts",
    "maintenance": "_maintenance.maintenance",
    "self_signed_certificates": "_certificates.self_signed",
}


def code_of(module: str) -> str:
    """The Python module that a module's code is, below the collection."""
    return f"plugins.module_utils.{CODE[module]}"


@functools.cache
def sources(name: str) -> dict[str, str]:
    """The text of a Python module of the collection and of what it imports from the collection, by their full names."""
    text = (COLLECTION / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    found = {f"{PACKAGE}.{name}": text}
    for needed in IMPORT.findall(text):
        found |= sources(needed)
    return found


def printable(result: Any) -> Any:
    """A result in which no text holds what a terminal would take for a command: some of it is an application's own words."""
    if isinstance(result, dict):
        return {key: printable(value) for key, value in result.items()}
    if isinstance(result, list):
        return [printable(value) for value in result]
    return CONTROL.sub("", result) if isinstance(result, str) else result


class HostAction(ActionBase):
    """An action whose modules are Python code of this collection."""

    _supports_async = False

    def on_host(self, modules: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """The results of modules of the collection, in one; given are the parameters of each. None follows one that fails.

        Parameters must fit into JSON, and are neither logged nor returned.
        """
        order: dict[str, Any] = {
            "name": f"{NAME}.{'+'.join(modules)}",
            "modules": [(f"{PACKAGE}.{code_of(name)}", parameters) for name, parameters in modules.items()],
            "sources": {},
        }
        for name in modules:
            order["sources"] |= sources(code_of(name))
        # One opaque string: Ansible has nothing to say of single values, whatever the verbosity. Level 4 sends 15% less
        # than level 1, for 0.3 to 0.9 ms; level 6 another 5%, for 1 to 3 ms.
        payload = base64.b64encode(zlib.compress(json.dumps(order, default=str).encode(), 4)).decode()
        return printable(self._execute_module(f"{NAME}.host_code", {"payload": payload}, task_vars=task_vars))


class OptionsAction(HostAction):
    """The action of a module that needs nothing from the controller but its options."""

    argument_spec: dict[str, Any]

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, parameters = self.validate_argument_spec(self.argument_spec)
        return self.on_host({type(self).__module__.rpartition(".")[2]: parameters}, task_vars)
