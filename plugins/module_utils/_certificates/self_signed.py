# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the self-signed certificates that are missing or no longer good, all in one run."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile

from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import (
    CERTIFICATE,
    KEY,
    RECORD,
    is_address,
    look,
    problem,
    run_openssl,
    stand_in_problem,
)
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Certificate:
    """One certificate and its key on the host."""

    def __init__(self, request: dict[str, Any], directory: str, days: int) -> None:
        self.days = days
        self.directory = os.path.join(directory, request["name"])
        self.certificate = os.path.join(self.directory, CERTIFICATE)
        self.key = os.path.join(self.directory, KEY)
        self.names = request["domains"]

    def make(self, stand_in: bool) -> None:
        """A new key and certificate beside the old ones, then in their place."""
        for directory in (os.path.dirname(self.directory), self.directory):
            if not os.path.isdir(directory):
                os.makedirs(directory)
                os.chmod(directory, 0o755)  # whatever the umask  # noqa: S103
        if not stand_in:  # it is no authority's any more
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.directory, RECORD))
        for left in glob.glob(os.path.join(self.directory, ".new-*")):  # of a run that was killed
            shutil.rmtree(left)
        scratch = tempfile.mkdtemp(prefix=".new-", dir=self.directory)
        try:
            new_key, new_certificate = os.path.join(scratch, KEY), os.path.join(scratch, CERTIFICATE)
            configuration = os.path.join(scratch, "request.cnf")
            with open(configuration, "w", encoding="ascii") as file:
                file.write(self.configuration())
            code, _text, error = run_openssl(
                "req",
                "-x509",
                "-batch",
                "-config",
                configuration,
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-sha256",
                "-days",
                str(self.days),
                "-keyout",
                new_key,
                "-out",
                new_certificate,
            )
            if code != 0:
                raise Failed(f"openssl cannot make the certificate in {self.directory}: {error.strip()}")
            for path, mode in ((new_key, 0o600), (new_certificate, 0o644)):
                os.chmod(path, mode)
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            os.rename(new_key, self.key)
            os.rename(new_certificate, self.certificate)
        finally:
            shutil.rmtree(scratch)

    def configuration(self) -> str:
        names = ", ".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in self.names)
        # A subject's common name has at most 64 characters; clients look at the alternative names alone.
        common = self.names[0] if len(self.names[0]) <= 64 else os.path.basename(self.directory)
        return (
            "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\n"
            f"[subject]\nCN = {common}\n"
            f"[extensions]\nsubjectAltName = {names}\nbasicConstraints = critical, CA:FALSE\n"
            "keyUsage = critical, digitalSignature\nextendedKeyUsage = serverAuth\n"
            "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid:always\n"
        )

    def close(self) -> None:
        os.chown(self.key, 0, 0)
        os.chmod(self.key, 0o600)


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    if not shutil.which("openssl"):
        # A package that is about to come: in check mode all of them would then be made.
        return {"changed": check_mode, "made": [], "openssl_missing": True}
    made, closed = {}, []
    for entry in parameters["requests"]:
        certificate = Certificate(entry, parameters["directory"], parameters["days"])
        found = look(certificate.directory)
        if entry["stand_in"]:
            reason = stand_in_problem(found)
        else:
            reason = problem(found, certificate.names, parameters["days"], entry["keep_issued"])
        if reason:
            made[entry["name"]] = reason
            if not check_mode:
                certificate.make(entry["stand_in"])
        elif found["open"]:
            closed.append(entry["name"])
            if not check_mode:
                certificate.close()
    before = [f"{name}: {reason}\n" for name, reason in made.items()] + [
        f"{name}: its key is readable\n" for name in closed
    ]
    return {
        "changed": bool(made or closed),
        "made": sorted(made),
        "openssl_missing": False,
        "diff": {"before": "".join(before), "after": "".join(f"{name}: good\n" for name in [*made, *closed])},
    }
