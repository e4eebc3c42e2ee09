#!/usr/bin/python3 -I
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring what certbot has got from an authority to where servers read it: check it, put it in place, reload the servers.

usage: acme-certificates [--forget] [UNIT…]     the units that are reloaded when a certificate has changed

Whoever runs certbot comes here: the role, the service of certbot's timer and, by a deploy hook, a person. It looks at every
certificate that an authority was asked for (/etc/ssl/vivarium/NAME/acme.json) and does what is left to do: what a killed run
left is done by the next. With --forget, what certbot would go on to renew though nobody asks for it any more is taken out of it.
"""

import datetime
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import configobj
from cryptography import x509
from cryptography.hazmat.primitives import serialization

CERTIFICATES = Path("/etc/ssl/vivarium")
CERTBOT = Path("/etc/letsencrypt")
LINEAGE = "vivarium-{}"  # what a certificate is called in certbot, where other people's may be
RECORD = "acme.json"
RELOAD = CERTIFICATES / ".reload"  # there from before a certificate changes until the servers have it
BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Bad(Exception):
    """Why a certificate is not put in place."""


def main(arguments: list[str]) -> int:
    """The exit status: 1 where something could not be done."""
    units = [argument for argument in arguments if argument != "--forget"]
    os.umask(0o077)
    troubles: list[str] = []
    if not CERTIFICATES.is_dir():
        return 0
    handle = os.open(CERTIFICATES, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for record in sorted(CERTIFICATES.glob(f"*/{RECORD}")):
        try:
            install(record)
        except (Bad, OSError, ValueError) as error:
            troubles.append(f"{record.parent.name}: {error}. Its servers keep the certificate that they have")
    if RELOAD.exists():
        deaf = [unit for unit in units if not reload(unit)]
        troubles += [f"{unit} does not take the new certificates: journalctl --unit {unit}" for unit in deaf]
        if not deaf:
            RELOAD.unlink()
    if "--forget" in arguments:
        forget()
    for trouble in troubles:
        sys.stderr.write(f"{trouble}\n")
    return 1 if troubles else 0


def install(record: Path) -> None:
    """Put the newest certificate of a lineage in place, if it is good and not there yet."""
    directory, name = record.parent, LINEAGE.format(record.parent.name)
    lineage = CERTBOT / "live" / name
    if not lineage.is_dir():
        return
    new = {part: (lineage / part).read_bytes() for part in ("privkey.pem", "fullchain.pem")}
    leaf = checked(new["fullchain.pem"], new["privkey.pem"])
    way = renew_in_time(CERTBOT / "renewal" / f"{name}.conf", leaf)
    serial = f"{leaf.serial_number:X}"
    # What it is may differ from what is asked for by now, which was refused.
    issued = {"serial": serial if len(serial) % 2 == 0 else f"0{serial}", **way}  # as openssl writes it
    noted = json.loads(record.read_text(encoding="utf-8"))
    there = {part: (directory / part).read_bytes() for part in new if (directory / part).is_file()}
    if there != new:
        RELOAD.touch()
        for part, mode in (("privkey.pem", 0o600), ("fullchain.pem", 0o644)):
            write(directory / part, new[part], mode)
    if noted.get("issued") != issued:
        write(record, json.dumps({**noted, "issued": issued}, indent=2).encode(), 0o644)


def forget() -> None:
    """Take what nobody asks for any more out of certbot."""
    prefix = LINEAGE.format("")
    for path in sorted((CERTBOT / "renewal").glob(f"{prefix}*.conf")):
        if not (CERTIFICATES / path.stem.removeprefix(prefix) / RECORD).exists():
            subprocess.run(
                ["certbot", "--quiet", "--non-interactive", "delete", "--cert-name", path.stem],
                stdin=subprocess.DEVNULL,
                check=False,
            )


def checked(chain: bytes, key: bytes) -> x509.Certificate:
    """The first certificate of a chain that belongs to a key and is valid now."""
    try:
        leaf = x509.load_pem_x509_certificate(BLOCK.findall(chain)[0])
        private = serialization.load_pem_private_key(key, password=None)
    except (IndexError, ValueError, TypeError):
        raise Bad("what certbot has got is not readable") from None
    if public(leaf.public_key()) != public(private.public_key()):
        raise Bad("what certbot has got does not belong to its key")
    begin, end = validity(leaf)
    if not begin <= datetime.datetime.now(datetime.UTC) < end:
        raise Bad(f"what certbot has got is valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, and not now")
    return leaf


def public(key) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def validity(leaf: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end, with Debian 12's release of the library, which has no time zones, too."""
    if hasattr(leaf, "not_valid_after_utc"):
        return leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return leaf.not_valid_before.replace(tzinfo=datetime.UTC), leaf.not_valid_after.replace(tzinfo=datetime.UTC)


def renew_in_time(path: Path, leaf: x509.Certificate) -> dict[str, str]:
    """Have certbot renew when a third of the life is left, however long it is (of itself Debian 12's takes 30 days); say how."""
    begin, end = validity(leaf)
    wanted = f"{int((end - begin).total_seconds() / 3 / 60)} minutes"
    configuration = configobj.ConfigObj(str(path), encoding="utf-8", default_encoding="utf-8", interpolation=False)
    if "renewalparams" not in configuration:
        raise Bad(f"{path} is not what certbot writes")
    if configuration.get("renew_before_expiry") != wanted:
        configuration["renew_before_expiry"] = wanted
        write(path, b"\n".join(line.encode() for line in lines(configuration)) + b"\n", 0o644)
    way = configuration["renewalparams"]
    return {"authority": str(way.get("server")), "authenticator": str(way.get("authenticator"))}


def lines(configuration: configobj.ConfigObj) -> list[str]:
    """What a configuration would be written as."""
    configuration.filename = None
    return [line.decode() if isinstance(line, bytes) else line for line in configuration.write()]


def reload(unit: str) -> bool:
    """Have a unit read its certificates anew, where it runs."""
    if subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode != 0:
        return True
    return subprocess.run(["systemctl", "try-reload-or-restart", unit], check=False).returncode == 0


def write(path: Path, content: bytes, mode: int) -> None:
    """In one step, and for good."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(handle, mode)
        os.fsync(handle)
    scratch.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
