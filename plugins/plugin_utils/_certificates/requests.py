# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with the requests of the certificates role, the provided certificates and keys included."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.domains import domain_problem, is_address
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import extra_problems, is_number

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
TYPES = ("acme", "self_signed", "provided")
CHALLENGES = ("http", "dns")


def completed(requests: list[dict[str, Any]], email: object, dns: object) -> list[dict[str, Any]]:
    """The requests with types and challenges: an authority's where they do not say otherwise, once there is an address for it."""
    kind, challenge = ("acme" if email else "self_signed"), ("dns" if dns else "http")
    return [
        {
            **request,
            "type": request.get("type") or kind,
            "type_said": bool(request.get("type")),
            "challenge": request.get("challenge") or challenge,
        }
        for request in requests
    ]


def certificate_problems(
    requests: Any,
    variable: str = "certificates_requests",
    days: Any = 397,
    remove: Any = (),
    extra: Any = (),
    acme: dict[str, Any] | None = None,
    release: str = "",
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
    inputs = acme or {}
    requests = completed(requests, inputs.get("certificates_acme_email"), inputs.get("certificates_acme_dns"))
    for index, request in enumerate(requests):
        label = f"{variable}[{index}] ({request.get('name', 'without a name')})"
        problems += [f"{label}: {problem}" for problem in _problems(request, label, inputs)]
    names = [str(request.get("name")) for request in requests]
    problems += [
        f"{variable}: the name '{name}' is used more than once"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if acme is not None:
        from ansible_collections.vivarium.server.plugins.plugin_utils._certificates.acme import acme_problems

        problems += acme_problems(acme, release)
    return problems


def _problems(request: dict[str, Any], label: str, acme: dict[str, Any]) -> list[str]:
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
    kind = request["type"]
    if kind not in TYPES:
        problems.append(f"type: '{kind!s:.40}' is none of {', '.join(TYPES)}")
    given = [key for key in ("certificate", "key") if request.get(key)]
    if kind != "provided" and given:
        problems.append(f"{' and '.join(given)} belong to type provided")
    if kind == "acme":
        problems += _acme_problems(request, [str(domain) for domain in domains], acme)
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


def _acme_problems(request: dict[str, Any], domains: list[str], acme: dict[str, Any]) -> list[str]:
    problems = []
    if not acme.get("certificates_acme_email"):
        problems.append("type acme needs certificates_acme_email, the address of the account at the authority")
    if request["challenge"] not in CHALLENGES:
        problems.append(f"challenge: '{request['challenge']!s:.40}' is none of {', '.join(CHALLENGES)}")
    if request["challenge"] == "dns" and not acme.get("certificates_acme_dns"):
        problems.append("challenge dns needs certificates_acme_dns, which says how the DNS is changed")
    for domain in domains:
        if is_address(domain):
            problems.append(f"domains: '{domain}' is an address, for which type acme has no certificate")
        elif domain.startswith("*.") and request["challenge"] != "dns":
            problems.append(f"domains: '{domain}' can only be proven through the DNS: certificates_acme_dns says how")
        elif "." not in domain:
            problems.append(f"domains: '{domain}' is not a name that an authority gives certificates for")
    return problems
