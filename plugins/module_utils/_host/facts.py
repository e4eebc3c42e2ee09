# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers in one question what the roles would otherwise each ask for themselves."""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.database import database_roles
from ansible_collections.vivarium.server.plugins.module_utils._asgi.names import installed_applications, taken
from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATUS = Path("/var/lib/dpkg/status")
ENABLED = Path("/etc/systemd/system")
INSTALLED = re.compile(r"^Package: (\S+)\n(?:(?!\n).*\n)*?Status: \S+ ok installed$", re.MULTILINE)


def distribution(release: dict[str, str]) -> dict[str, str]:
    """What setup says of a distribution, from what os-release says."""
    return {
        "distribution": release.get("ID", "unknown").capitalize(),
        "distribution_major_version": release.get("VERSION_ID", "NA").partition(".")[0],
    }


def default_address() -> dict[str, dict[str, str]]:
    """The address from which this host would speak to the Internet; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 53))
        except OSError:
            return {}
        return {"default_ipv4": {"address": probe.getsockname()[0]}}


def installed(status: str) -> list[str]:
    """The names in dpkg's status file of what is installed whole."""
    return sorted(set(INSTALLED.findall(status)))


def lasting_services(running: str, enabled: set[str]) -> list[str]:
    """Services that run and that something starts at boot."""
    return sorted({line.split()[0] for line in running.splitlines() if line.strip()} & enabled)


def certificates(directory: str | None) -> dict[str, dict[str, Any]]:
    """What is in each directory of certificates, by its name; nothing without openssl."""
    if not directory or not shutil.which("openssl"):
        return {}
    return {os.path.basename(home): look(home) for home in glob.glob(f"{directory}/*")}


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    listing = subprocess.run(
        ["systemctl", "list-units", "--plain", "--no-legend", "--type=service", "--state=active"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    applications = installed_applications()
    return {
        "changed": False,
        "ansible_facts": {**distribution(platform.freedesktop_os_release()), **default_address()},
        "packages": installed(STATUS.read_text(errors="replace")) if STATUS.is_file() else [],
        "services": lasting_services(listing.stdout, {path.name for path in ENABLED.glob("*.wants/*.service")}),
        "paths": [path for path in parameters["paths"] if os.path.exists(path)],
        "certificates": certificates(parameters["certificates"]),
        "installed": applications,
        "database_roles": {name: database_roles(name) for name in applications},
        "taken": taken(parameters["applications"]),
    }
