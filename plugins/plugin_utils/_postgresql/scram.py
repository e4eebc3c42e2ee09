# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL's SCRAM-SHA-256 verifiers, computed where the password already is: on the controller."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata
from typing import Any

from ansible.errors import AnsibleFilterError

ITERATIONS = 4096
SALT_BYTES = 16
# A role can store a verifier of its own making: one that takes longer than this to compare is not taken for anybody's password.
MOST_ITERATIONS = 100_000
VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[1-9][0-9]{0,6}):(?P<salt>[A-Za-z0-9+/=]+)\$(?P<stored>[A-Za-z0-9+/=]{44}):(?P<server>[A-Za-z0-9+/=]{44})"
)


def scram_verifier(password: Any, salt: str | None = None, iterations: Any = ITERATIONS) -> str:
    """Return PostgreSQL's verifier of a password."""
    if not isinstance(password, str) or not password:
        raise AnsibleFilterError("scram_verifier: the password must be a string that is not empty")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise AnsibleFilterError("scram_verifier: iterations must be a positive number")
    if salt is None:
        salted_with = os.urandom(SALT_BYTES)
    else:
        try:
            salted_with = base64.b64decode(salt, validate=True)
        except (binascii.Error, TypeError, ValueError):
            salted_with = b""
        if not salted_with:
            raise AnsibleFilterError("scram_verifier: the salt must be Base64 and not empty")
    return _verifier(password, salted_with, iterations)


def scram_matches(verifier: object, password: object) -> bool:
    """Tell whether a stored verifier belongs to the password."""
    match = VERIFIER.fullmatch(verifier) if isinstance(verifier, str) else None
    if match is None or not isinstance(password, str) or not password or int(match["iterations"]) > MOST_ITERATIONS:
        return False
    try:
        salt = base64.b64decode(match["salt"], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(_verifier(password, salt, int(match["iterations"])), match[0])


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", _saslprep(password).encode("utf-8"), salt, iterations)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server_key = _hmac(salted, b"Server Key")
    return f"SCRAM-SHA-256${iterations}:{_b64(salt)}${_b64(stored_key)}:{_b64(server_key)}"


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def _saslprep(password: str) -> str:
    """RFC 4013 as PostgreSQL and libpq apply it: a password that the profile forbids is taken as it is."""
    if password.isascii():
        return password
    # As in PostgreSQL's saslprep.c: a space before nothing, and the checks are of what comes before normalization.
    mapped = [
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    ]
    if not mapped or any(forbidden(char) for char in mapped for forbidden in _PROHIBITED):
        return password
    right_to_left = [stringprep.in_table_d1(char) for char in mapped]
    if any(right_to_left):
        mixed = any(stringprep.in_table_d2(char) for char in mapped)
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            return password
    return unicodedata.normalize("NFKC", "".join(mapped))
