#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs modules of this collection on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_code
short_description: Run modules of this collection on a host (internal)
version_added: 0.1.0
description:
  - Carries the other modules of this collection to the host. Their actions call it; a playbook has no use for it.
  - It needs a third of the time that a module takes which is sent the usual way. That way, the host compiles some fifty files
    of ansible-core at each run, and the controller packs them once per module; here only what the module consists of is sent.
  - "See R(JSONARGS modules, flow_jsonargs_modules) in the developer guide: Ansible puts the arguments in the place of the text
    that C(ARGUMENTS) holds. This file must not import from ansible-core, or it would be sent the usual way."
options:
  payload:
    description: JSON, compressed, in base64. What it holds is in C(plugin_utils/host_code.py).
    type: str
    required: true
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
# Not for playbooks.
"""

RETURN = r"""
# What the module that it runs returns.
"""

import sys

# The directory of whoever logs in is no place to import from.
while "" in sys.path:
    sys.path.remove("")

import binascii
import importlib
import json
import os
import syslog
import traceback
import zlib
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

# Whoever becomes root by su keeps a path without what root needs.
os.environ.update(
    PATH=os.pathsep.join(
        dict.fromkeys([*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    ).strip(os.pathsep)
)

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""


class Sources:
    """Imports Python modules from their texts, by name; packages above them are empty."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.texts:
            return ModuleSpec(name, self, origin=name)  # type: ignore[arg-type]  # to load importlib.abc takes time
        if any(known.startswith(f"{name}.") for known in self.texts):
            return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]  # likewise
        return None

    def create_module(self, _spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in self.texts:
            code = compile(self.texts[module.__name__], module.__name__, "exec")
            exec(code, module.__dict__)  # the sender is whoever may run any command here  # noqa: S102

    def get_source(self, name: str) -> str | None:
        """What a traceback shows."""
        return self.texts.get(name)


def run(arguments: dict[str, Any]) -> dict[str, Any]:
    """What the modules return, in one result; an exception is one, too."""
    order = json.loads(zlib.decompress(binascii.a2b_base64(arguments["payload"])))
    check_mode, diff = arguments["_ansible_check_mode"], arguments["_ansible_diff"]
    if not arguments["_ansible_no_log"]:
        # As Ansible's modules do, but without the parameters. Ansible puts the facility of its settings in the place of this one.
        syslog.openlog(f"ansible-{order['name']}", 0, syslog.LOG_USER)
        syslog.syslog(syslog.LOG_INFO, "Invoked" + (" in check mode" if check_mode else ""))
    sys.meta_path.insert(0, Sources(order["sources"]))
    result: dict[str, Any] = {}
    changed = False
    try:
        for name, parameters in order["modules"]:
            result |= importlib.import_module(name).main(parameters, check_mode=check_mode, diff=diff)
            changed = changed or result["changed"]
        return {**result, "changed": changed}
    except Exception as error:
        details = getattr(error, "details", None)
        if details is None:
            details = {"exception": traceback.format_exc()}
        return {"failed": True, "changed": changed, "msg": str(error) or type(error).__name__, **details}


if __name__ == "__main__":
    try:
        os.getcwd()
    except OSError:
        # Of somebody else, whose directory may not be entered.
        os.chdir("/")
    result = run(json.loads(ARGUMENTS))
    # A text with half of a pair of surrogates is no text to Ansible, which then knows nothing of the whole result.
    sys.stdout.buffer.write(json.dumps(result, ensure_ascii=False).encode(errors="replace") + b"\n")
    sys.stdout.flush()
    sys.exit(1 if result.get("failed") else 0)
