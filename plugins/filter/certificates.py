# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks the requests of the certificates role, the provided certificates and keys included, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import problem
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import domain_problem, is_address
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import extra_problems, is_number

# The documentation of these filters lies beside this file, a .yml file for each.

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
TYPES = ("self_signed", "provided")


def certificate_problems(
    requests: Any, variable: str = "certificates_requests", days: Any = 397, remove: Any = (), extra: Any = ()
) -> list[str]:
    """Return a sentence for everything that is wrong; none of them holds a part of a key."""
    if not isinstance(requests, list) or not all(isinstance(request, dict) for request in requests):
        return [f"{variable} must be a list of requests"]
    problems = extra_problems({variable: requests, f"{variable}_extra": extra or []}, [variable])
    if not is_number(days, 1, 397):
        problems.append(
            f"certificates_self_signed_days must be from 1 to 397, not {days!s:.40}: browsers refuse certificates that are good"
            " for longer."
        )
    listed = [request.get("name") for request in requests]
    for name in remove if isinstance(remove, (list, tuple)) else [remove]:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(f"certificates_remove: '{name!s:.40}' is not the name of a certificate")
        elif name in listed:
            problems.append(f"certificates_remove: '{name}' is in {variable}; take it out there first")
    for index, request in enumerate(requests):
        label = f"{variable}[{index}] ({request.get('name', 'without a name')})"
        problems += [f"{label}: {problem}" for problem in _problems(request, label)]
    names = [str(request.get("name")) for request in requests]
    problems += [
        f"{variable}: the name '{name}' is used more than once"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return problems


def certificates_plan(
    requests: list[dict[str, Any]],
    directory: str,
    found: dict[str, dict[str, Any]] | None = None,
    days: int | str = 397,
) -> dict[str, list[dict[str, Any]]]:
    """Return who does what: the module's requests, and what vivarium.server.files writes for the provided ones."""
    found = found or {}
    plan: dict[str, list[dict[str, Any]]] = {"self_signed": [], "directories": [], "files": []}
    for request in requests:
        home = f"{directory}/{request['name']}"
        if (request.get("type") or "self_signed") == "self_signed":
            there = found.get(request["name"], {})
            if problem(there, request["domains"], int(days)) or there["open"]:
                plan["self_signed"].append({"name": request["name"], "domains": request["domains"]})
            continue
        plan["directories"].append({"path": home})
        plan["files"] += [
            {"path": f"{home}/fullchain.pem", "content": _text(request["certificate"])},
            {"path": f"{home}/privkey.pem", "content": _text(request["key"]), "mode": "0600", "secret": True},
        ]
    return plan


def _text(pem: object) -> str:
    return str(pem).replace("\r\n", "\n").strip() + "\n"


def _problems(request: dict[str, Any], label: str) -> list[str]:
    problems = []
    if not NAME.match(str(request.get("name", ""))):
        problems.append("name must be lower-case letters, digits, '-', '_' and '.', and begin with a letter or a digit")
    domains = request.get("domains") or []
    if not isinstance(domains, list):
        return [*problems, "domains must be a list"]
    if not domains:
        problems.append("domains needs at least one name")
    wrong = [domain_problem(domain) for domain in domains if not is_address(str(domain))]
    problems += [f"domains: {problem}" for problem in wrong if problem]
    kind = request.get("type") or "self_signed"
    if kind == "acme":
        problems.append("type: acme is not there yet; use self_signed or provided")
    elif kind not in TYPES:
        problems.append(f"type: '{kind}' is none of {', '.join(TYPES)}")
    given = [key for key in ("certificate", "key") if request.get(key)]
    if kind == "self_signed" and given:
        problems.append(f"{' and '.join(given)} belong to type provided")
    if kind == "provided":
        problems += [
            f"{key} is missing: type provided needs both" for key in ("certificate", "key") if key not in given
        ]
        if len(given) == 2:
            # Its library takes a fifth of a second to load, in each task that checks: only where there is something to look at.
            from ansible_collections.vivarium.server.plugins.plugin_utils._certificates.pem import pair_problems

            problems += pair_problems(
                str(request["certificate"]), str(request["key"]), [str(d) for d in domains], label
            )
    return problems


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certificate_problems": certificate_problems, "certificates_plan": certificates_plan}
