# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a provided certificate and its key are ones, belong together and are good for their domains."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ansible.utils.display import Display
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import covers
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    # Older releases of the library call them otherwise.
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
WARN_BEFORE = datetime.timedelta(days=14)


def pair_problems(certificate: str, key: str, domains: Sequence[str], label: str) -> list[str]:
    """Whether the certificate and the key are ones, belong together and are good for the domains now."""
    try:
        chain = [x509.load_pem_x509_certificate(block.encode()) for block in PEM_CERTIFICATE.findall(certificate)]
    except ValueError:
        return ["certificate: is not readable as PEM"]
    if not chain:
        return ["certificate: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"]
    private, problem = _private_key(key)
    if private is None:
        return [f"key: {problem}"]
    problems = []
    leaf = chain[0]
    if _public(private.public_key()) != _public(leaf.public_key()):
        if any(_public(private.public_key()) == _public(other.public_key()) for other in chain[1:]):
            problems.append(
                "certificate: the server's own certificate must come first, those of its authorities after it"
            )
        else:
            problems.append("key: does not belong to the certificate")
    for number, (lower, upper) in enumerate(itertools.pairwise(chain), start=2):
        if lower.issuer != upper.subject:
            problems.append(f"certificate: number {number} of the chain did not issue the one before it")
    names = _names(leaf)
    missing = [domain for domain in domains if not any(covers(name, domain) for name in names)]
    if missing:
        problems.append(f"certificate: is not for {', '.join(missing)} (it is for {', '.join(names) or 'no name'})")
    now = datetime.datetime.now(datetime.UTC)
    begin, end = _validity(leaf)
    if end <= now:
        problems.append(f"certificate: expired on {end:%Y-%m-%d}")
    elif begin > now:
        problems.append(f"certificate: is not valid before {begin:%Y-%m-%d %H:%M} UTC")
    elif end - now < WARN_BEFORE:
        Display().warning(f"{label}: the provided certificate expires on {end:%Y-%m-%d}")
    return problems


def _private_key(text: str) -> tuple[PrivateKeyTypes | None, str | None]:
    # Whatever the library says of a key is left out: it may quote it.
    try:
        key = serialization.load_pem_private_key(text.replace("\r\n", "\n").encode(), password=None)
    except TypeError:
        return None, "is protected by a passphrase, which nginx could not give at boot"
    except Exception:  # pylint: disable=broad-except
        return None, "is not readable as a PEM private key"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        return None, f"has {key.key_size} bits; OpenSSL refuses RSA keys of less than 2048"
    return key, None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = extension.get_values_for_type(x509.DNSName)
    return names + [str(address) for address in extension.get_values_for_type(x509.IPAddress)]


def _validity(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end, with older releases of the library that have no time zones too."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before.replace(tzinfo=datetime.UTC), certificate.not_valid_after.replace(
        tzinfo=datetime.UTC
    )
