# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks what is asked for before any host hears of it; the module's documentation says what it does."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.words import listed
from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import HostAction

STATES = ("on", "off", "status")
DEFAULT = 300
LONGEST = 30 * 86400  # seconds
MOST = 100  # addresses
SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": list(STATES), "required": True},
    "sites": {"type": "list", "elements": "str", "default": []},
    "allow": {"type": "raw", "default": []},
    "retry_after": {"type": "int", "default": DEFAULT},
}


class ActionModule(HostAction):
    """Ansible's entry point."""

    # As it is documented; checked below, for Ansible would say one thing at a time.
    argument_spec = SPEC

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        return self.on_host({"maintenance": checked(self._task.args)}, task_vars)


def checked(args: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the module, or an error that says all that is wrong."""
    unknown = set(args) - set(SPEC)
    if unknown:
        raise AnsibleActionFail(f"unknown key {', '.join(sorted(unknown))}")
    # What YAML makes of on and off.
    state = args.get("state")
    state = ("on" if state else "off") if isinstance(state, bool) else state
    problems = [] if state in STATES else ["state must be on, off or status: -e state=on"]
    allow, wrong = addresses(args.get("allow"))
    problems += wrong
    retry_after = args.get("retry_after")
    retry_after = DEFAULT if retry_after in (None, "") else retry_after
    digits = str(retry_after)
    if isinstance(retry_after, bool) or not (
        digits.isascii() and digits.isdigit() and 1 <= int(digits[:12]) <= LONGEST
    ):
        problems.append(f"retry_after must be a number of seconds from 1 to {LONGEST}")
    if state in ("off", "status") and (allow or args.get("retry_after") not in (None, "")):
        problems.append(f"allow and retry_after are for state=on, not for state={state}")
    if problems:
        raise AnsibleActionFail(f"Nothing was changed: {'; '.join(problems)}")
    return {"state": state, "sites": list(args.get("sites") or []), "allow": allow, "retry_after": int(retry_after)}


def addresses(value: Any) -> tuple[list[str], list[str]]:
    """Addresses as nginx writes them, of a list or a text with commas between them; and what is wrong with others."""
    allow, problems = set(), []
    words = listed(value)
    for word in words[: MOST + 1]:
        # What follows a '%' in an IPv6 address may be any text.
        if "%" in word:
            problems.append(f"allow: {word[:60]!r} is not an address")
            continue
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            what = "a network, and takes single addresses" if "/" in word else "not an address"
            problems.append(f"allow: {word[:60]!r} is {what}")
            continue
        mapped = address.ipv4_mapped if address.version == 6 else None
        allow.add(str(mapped or address))
    if len(words) > MOST:
        problems.append(f"allow: at most {MOST} addresses")
    return sorted(allow), problems
