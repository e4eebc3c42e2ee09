# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a certificate on a host is, and why it would have to be made, or asked for, anew."""

from __future__ import annotations

import calendar
import ipaddress
import itertools
import json
import os
import stat
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

CERTIFICATE = "fullchain.pem"
KEY = "privkey.pem"
# What is asked of an authority for a certificate, and who issued the one that is there.
RECORD = "acme.json"
DAY = 86400


def run_openssl(*arguments: str) -> tuple[int, str, str]:
    """The exit status, the output and the error messages of a command of openssl."""
    done = subprocess.run(
        ["openssl", *arguments], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def look(directory: str) -> dict[str, Any]:
    """Return what the certificate in a directory is: nothing if it or its key is missing, C(self_signed) alone if unreadable.

    Times are seconds by the host's clock. C(acme) is who issued it and how it is renewed, if the role had it asked for.
    """
    certificate, key = os.path.join(directory, CERTIFICATE), os.path.join(directory, KEY)
    if not os.path.exists(certificate) or not os.path.exists(key):
        return {}
    wanted = ("-subject_hash", "-issuer_hash", "-startdate", "-enddate", "-serial", "-ext", "subjectAltName", "-pubkey")
    code, text, _error = run_openssl("x509", "-in", certificate, "-noout", *wanted)
    if code != 0:
        return {"self_signed": None}
    lines = [line.strip() for line in text.splitlines()]
    begin, end, self_signed = times_and_issuer(lines)
    serial = next(line for line in lines if line.startswith("serial=")).partition("=")[2]
    code, public, _error = run_openssl("pkey", "-in", key, "-pubout", "-passin", "pass:")
    issued = read_record(directory).get("issued") or {}
    return {
        "self_signed": self_signed,
        "acme": issued if issued.get("serial") == serial else {},
        "names": sorted(found_names(lines)),
        "life": end - begin,
        "left": end - int(time.time()),
        "paired": code == 0 and public.strip() in text,
        "open": is_open(key),
    }


def times_and_issuer(lines: list[str]) -> tuple[int, int, bool]:
    """From openssl's -startdate -enddate -subject_hash -issuer_hash: begin and end, since 1970, and whether it signed itself."""
    dates = dict(line.split("=", 1) for line in lines if line.startswith(("notBefore=", "notAfter=")))
    begin, end = (
        calendar.timegm(time.strptime(dates[name], "%b %d %H:%M:%S %Y GMT")) for name in ("notBefore", "notAfter")
    )
    return begin, end, len({line for line in lines if len(line) == 8 and "=" not in line}) == 1


def problem(found: dict[str, Any], names: Iterable[str], days: int, keep_issued: bool = False) -> str | None:
    """Why a new certificate for these names is needed instead of what ``look`` found, or None.

    With ``keep_issued``, one that an authority was asked for stays while it is good: nobody has said that it goes.
    """
    if not found:
        return "is missing"
    if found["self_signed"] is None:
        return "is not readable"
    if keep_issued and still_issued(found):
        return None
    if not found["self_signed"]:
        return "was issued by an authority"
    if found["names"] != sorted({canonical(name) for name in names}):
        return "is for other names"
    if found["life"] > (days + 1) * DAY:
        return "is good for too long"
    if found["left"] < found["life"] / 3:
        return "expires soon"
    return None if found["paired"] else "does not belong to its key"


def still_issued(found: dict[str, Any]) -> bool:
    """Whether what ``look`` found came of an authority that the role asked, and is good now."""
    return bool(found.get("acme")) and found["paired"] and found["left"] > 0


def stand_in_problem(found: dict[str, Any]) -> str | None:
    """Why a site could not be shown with what ``look`` found until an authority has given a certificate, or None."""
    if not found:
        return "is missing"
    if found["self_signed"] is None:
        return "is not readable"
    return None if found["paired"] else "does not belong to its key"


def acme_problem(found: dict[str, Any], names: Iterable[str], authority: str, authenticator: str) -> str | None:
    """Why this authority has to be asked for a certificate for these names instead of what ``look`` found, or None."""
    if problem := stand_in_problem(found):
        return problem
    if not found["acme"]:
        return "is not of an authority that was asked for it"
    if found["acme"]["authority"] != authority:
        return "is of another authority"
    if found["acme"]["authenticator"] != authenticator:
        return "would be renewed by another challenge"
    if found["names"] != sorted({canonical(name) for name in names}):
        return "is for other names"
    return "expires soon" if found["left"] < found["life"] / 3 else None


def read_record(directory: str) -> dict[str, Any]:
    """What is asked of an authority for the certificate in a directory, and who issued the one that is there."""
    try:
        with open(os.path.join(directory, RECORD), encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def is_open(key: str) -> bool:
    """Whether a key may be read by anyone but root."""
    status = os.stat(key)
    return stat.S_IMODE(status.st_mode) != 0o600 or status.st_uid != 0


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    # With a zone, an IPv6 address may end in any text.
    return "%" not in str(name)


def canonical(name: str) -> str:
    """A name or an address in the one way to write it."""
    return str(ipaddress.ip_address(name)) if is_address(name) else name.lower()


def found_names(lines: list[str]) -> set[str]:
    """The names that openssl printed on the line after the extension's own name."""
    for title, value in itertools.pairwise(lines):
        if title.startswith("X509v3 Subject Alternative Name"):
            return {canonical(entry.strip().partition(":")[2]) for entry in value.split(",")}
    return set()
