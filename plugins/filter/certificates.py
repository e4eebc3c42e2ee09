# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks the requests of the certificates role, the provided certificates and keys included, before anything is written."""

from __future__ import annotations

import datetime
import itertools
import re

from ansible.utils.display import Display
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import covers, domain_problem, is_address
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# The documentation of these filters lies beside this file, a .yml file for each.

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
TYPES = ("self_signed", "provided")
PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
WARN_BEFORE = datetime.timedelta(days=14)


def certificate_problems(requests, variable="certificates_requests"):
    """Return a sentence for everything that is wrong; none of them holds a part of a key."""
    if not isinstance(requests, list) or not all(isinstance(request, dict) for request in requests):
        return [f"{variable} must be a list of requests"]
    problems = []
    for index, request in enumerate(requests):
        label = f"{variable}[{index}] ({request.get('name', 'without a name')})"
        problems += [f"{label}: {problem}" for problem in _problems(request, label)]
    names = [str(request.get("name")) for request in requests]
    problems += [
        f"{variable}: the name '{name}' is used more than once"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return problems


def certificates_plan(requests, directory):
    """Return who does what: the module's requests, and what vivarium.server.files writes for the provided ones."""
    plan = {"self_signed": [], "directories": [], "files": []}
    for request in requests:
        home = f"{directory}/{request['name']}"
        if (request.get("type") or "self_signed") == "self_signed":
            plan["self_signed"].append({"name": request["name"], "domains": request["domains"]})
            continue
        plan["directories"].append({"path": home})
        plan["files"] += [
            {"path": f"{home}/fullchain.pem", "content": _text(request["certificate"])},
            {"path": f"{home}/privkey.pem", "content": _text(request["key"]), "mode": "0600", "secret": True},
        ]
    return plan


def _text(pem):
    return str(pem).replace("\r\n", "\n").strip() + "\n"


def _problems(request, label):
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
            problems += _pair_problems(
                str(request["certificate"]), str(request["key"]), [str(d) for d in domains], label
            )
    return problems


def _pair_problems(certificate, key, domains, label):
    """Whether the certificate and the key are ones, belong together and are good for the domains now."""
    try:
        chain = [x509.load_pem_x509_certificate(block.encode()) for block in PEM_CERTIFICATE.findall(certificate)]
    except ValueError:
        return ["certificate: is not readable as PEM"]
    if not chain:
        return ["certificate: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"]
    private, problem = _private_key(key)
    if problem:
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


def _private_key(text):
    # Whatever the library says of a key is left out: it may quote it.
    try:
        key = serialization.load_pem_private_key(_text(text).encode(), password=None)
    except TypeError:
        return None, "is protected by a passphrase, which nginx could not give at boot"
    except Exception:  # pylint: disable=broad-except
        return None, "is not readable as a PEM private key"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        return None, f"has {key.key_size} bits; OpenSSL refuses RSA keys of less than 2048"
    return key, None


def _public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(certificate):
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = extension.get_values_for_type(x509.DNSName)
    return names + [str(address) for address in extension.get_values_for_type(x509.IPAddress)]


def _validity(certificate):
    """Begin and end, with older releases of the library that have no time zones too."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before.replace(tzinfo=datetime.UTC), certificate.not_valid_after.replace(
        tzinfo=datetime.UTC
    )


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        return {"certificate_problems": certificate_problems, "certificates_plan": certificates_plan}
