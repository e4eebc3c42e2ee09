# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paths of a site that are not for everybody: for some addresses, for users with a password, or both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import is_network, networks
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.paths import (
    exactly,
    rules_problems,
    same,
    spelled,
)

KEYS = ("addresses", "users", "satisfy")
MOST = 50
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}\Z")
TEXT = r"[A-Za-z0-9./]"
# What nginx itself or Debian's crypt(3) checks. A request waits for it, and so does its worker: no costs beyond about 60 ms.
HASHES = tuple(
    re.compile(form + r"\Z")
    for form in (
        rf"\$apr1\${TEXT}{{1,8}}\${TEXT}{{22}}",
        rf"\$5\$(?:rounds=[1-9][0-9]{{3,4}}\$)?{TEXT}{{1,16}}\${TEXT}{{43}}",
        rf"\$6\$(?:rounds=[1-9][0-9]{{3,4}}\$)?{TEXT}{{1,16}}\${TEXT}{{86}}",
        rf"\$2[aby]\$(?:0[4-9]|10)\${TEXT}{{53}}",
        rf"\$y\$j[5-9]T\${TEXT}{{1,86}}\${TEXT}{{43}}",
    )
)
HEALTH = re.compile(r"/(?!/)[A-Za-z0-9._~/@+:,=%-]{0,255}\Z")


def protect_problems(rules: object, health: object = None, where: str = "protect") -> list[str]:
    """What is wrong with the protected paths of a site. What should be a hash may be a password: it is never told."""
    if not isinstance(rules, dict):
        return [f"{where} must be a dictionary of paths, such as {{/admin/: {{addresses: [203.0.113.0/24]}}}}"]
    problems, sound = rules_problems(rules, where, MOST)
    for path, rule in sound.items():
        problems += [f"{where}.{path}: {problem}" for problem in _rule_problems(rule)]
        if health and same(path) == same(str(health).partition("?")[0]):
            problems.append(
                f"{where}.{path}: is the path by which a deploy and others see whether the application answers, and that is"
                " open to all; give the application a health_path of its own"
            )
    return problems + [f"{where}: {problem}" for problem in _user_problems(rules)]


def health_problems(path: object) -> list[str]:
    """What is wrong with the path that passes."""
    if path is None or (isinstance(path, str) and HEALTH.match(path) and not {".", ".."} & set(path.split("/"))):
        return []
    return ["health_path must be a path that begins with '/', of letters, digits and . _ ~ @ + : , = % -"]


def _rule_problems(rule: object) -> list[str]:
    if not isinstance(rule, dict):
        return ["must be a dictionary of addresses, users or both"]
    problems = [f"unknown key '{key}' (known: {', '.join(KEYS)})" for key in map(str, rule) if key not in KEYS]
    addresses, users = rule.get("addresses"), rule.get("users")
    if not addresses and not users:
        problems.append("needs addresses, users or both")
    if addresses is not None and not isinstance(addresses, list):
        problems.append("addresses must be a list")
    elif addresses:
        problems += [
            f"addresses: {address!r:.80} is neither an address nor a network"
            for address in addresses
            if not is_network(address)
        ]
        problems += [f"addresses: '{address}' is everybody" for address in addresses if str(address).endswith("/0")]
    if users is not None and not isinstance(users, dict):
        problems.append("users must be a dictionary of names and hashes of passwords")
    elif users:
        for name, value in users.items():
            if not isinstance(name, str) or not USER.match(name):
                problems.append(f"users: {name!r:.80} is not a name of letters, digits and . _ @ -")
            elif not isinstance(value, str) or not any(form.match(value) for form in HASHES):
                problems.append(
                    f"users.{name} is not a hash of a password that nginx checks quickly (crypt's $5$, $6$, $apr1$, $2y$ up to"
                    " cost 10, $y$ up to j9T); make one with: openssl passwd -6"
                )
    satisfy = rule.get("satisfy")
    if satisfy not in (None, "all", "any"):
        problems.append("satisfy must be all or any")
    elif satisfy and not (addresses and users):
        problems.append("satisfy is for addresses together with users")
    return problems


def _user_problems(rules: dict[Any, Any]) -> Iterator[str]:
    """One file has the users of all paths, and nginx's maps look at no case."""
    known: dict[str, tuple[str, object]] = {}
    for rule in rules.values():
        users = rule.get("users") if isinstance(rule, dict) else None
        for name, value in users.items() if isinstance(users, dict) else ():
            first = known.setdefault(str(name).lower(), (str(name), value))
            if first[0] != str(name):
                yield f"the users '{first[0]}' and {name!r:.80} differ in nothing but case"
            elif first[1] != value:
                yield f"the user {name!r:.80} has two passwords"


def rules_of(site: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules of a site without problems, as the templates write them; the longest path comes first and decides."""
    rules: list[dict[str, Any]] = []
    for path in sorted(site["protect"], key=lambda path: (-len(same(path)), path)):
        rule = site["protect"][path]
        addresses, users = networks(rule.get("addresses") or []), sorted(rule.get("users") or {})
        rules.append(
            {
                "number": len(rules) + 1,
                "path": same(path),
                "pattern": spelled(path),
                "addresses": addresses,
                "users": users,
                "any": rule.get("satisfy") == "any",
            }
        )
    return rules


def users_of(site: dict[str, Any]) -> dict[str, str]:
    """The users of all rules and their hashes."""
    return {
        name: value for rule in site["protect"].values() for name, value in sorted((rule.get("users") or {}).items())
    }


def passes(site: dict[str, Any]) -> list[str]:
    """What passes all rules: what certificate authorities ask for, and what says whether the application answers."""
    health = [exactly(site["health_path"])] if site["health_path"] else []
    return [*health, "/[.]well-known/acme-challenge/[A-Za-z0-9_-]+$"]
