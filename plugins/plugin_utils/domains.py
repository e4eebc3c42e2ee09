# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a domain name may look like where it becomes part of nginx's configuration or of a certificate."""

from __future__ import annotations

import re

from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import is_address

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*\Z")

# What the older standard, which Python has, writes otherwise than the one of browsers.
AMBIGUOUS = "ßς\u200c\u200d"


def domain_problem(name: object, wildcard: bool = True) -> str | None:
    """Say in one sentence why a name is not a usable domain, or return None."""
    if not isinstance(name, str) or not name:
        return f"{name!r} is not a domain name"
    if is_address(name):
        return f"'{name}' is an address, not a domain name: TLS clients do not send addresses as a server name"
    bare = name
    if name.startswith("*."):
        if not wildcard:
            return f"'{name}' is a wildcard; a full name is needed here"
        bare = name[2:]
    if "*" in bare:
        return f"'{name}' has its wildcard in the wrong place: it stands for the whole first label, as in *.example.com"
    if not bare.isascii():
        written = international(bare)
        return f"'{name}' is an international name" + (
            f", which is written '{name[: -len(bare)]}{written}' here" if written else "; write it in its xn-- form"
        )
    if not DOMAIN.match(bare) or bare.rsplit(".", 1)[-1].isdigit():
        return f"'{name}' is not a lower-case domain name (an international one is written in its xn-- form)"
    return None


def international(name: str) -> str | None:
    """The xn-- form of a name that is not ASCII, where Python and browsers agree on it; None otherwise."""
    if any(character in AMBIGUOUS for character in name):
        return None
    try:
        written = name.encode("idna").decode()
    except UnicodeError:
        return None
    return written if DOMAIN.match(written) else None


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate, perhaps a wildcard, stands for a domain (or for the same wildcard)."""
    pattern, name = pattern.lower(), name.lower()
    if pattern == name:
        return True
    return pattern.startswith("*.") and not name.startswith("*.") and name.partition(".")[2] == pattern[2:]
