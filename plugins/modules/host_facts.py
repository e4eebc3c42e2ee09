#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers in one question what the roles would otherwise each ask for themselves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Tell what a host is, and what of it is there already
version_added: 0.1.0
description:
  - Gathers the facts that the roles of this collection need (C(distribution), C(distribution_major_version) and
    C(default_ipv4.address), as M(ansible.builtin.setup) calls them) in a fraction of its time.
  - Tells in the same run which packages are installed, which services run now and from the next boot on, which of some files are
    there, and what the self-signed certificates are, so that a role has to ask the host only about what is missing.
  - Changes nothing; runs in check mode as well.
options:
  paths:
    description: Files to look for.
    type: list
    elements: str
    default: []
  certificates:
    description:
      - A directory that holds a directory for each certificate, as M(vivarium.server.self_signed_certificates) makes them.
      - Needs root, to whom the keys belong.
    type: str
  applications:
    description: What applications are to be called on the host, as for M(vivarium.server.asgi_names).
    type: dict
    default: {}
author:
  - Vivarium maintainers
"""

EXAMPLES = r"""
- name: Find out what the host is and has
  vivarium.server.host_facts:
  register: host

- name: Install nginx
  ansible.builtin.apt:
    name: nginx
  when: "'nginx' not in host.packages"
"""

RETURN = r"""
ansible_facts:
  description: C(distribution), C(distribution_major_version) and, of a host with a default route, C(default_ipv4.address).
  returned: always
  type: dict
packages:
  description: The names of the installed packages of Debian.
  returned: always
  type: list
  elements: str
services:
  description: The services, by their full names, that run now and are started at boot.
  returned: always
  type: list
  elements: str
paths:
  description: Those of O(paths) that exist.
  returned: always
  type: list
  elements: str
certificates:
  description:
    - The self-signed certificates below O(certificates) by the names of their directories. Of each its C(names), how long it is
      good (C(life)) and from now on (C(left), both in seconds), whether it is C(paired) with its key and whether that key is
      C(open) to others than root.
  returned: always
  type: dict
installed:
  description: The names of applications that the role asgi has set up here before.
  returned: always
  type: list
  elements: str
database_roles:
  description: For each of RV(installed), whom its kept releases log in to their database as; null where one cannot be read.
  returned: always
  type: dict
taken:
  description: A sentence for each of O(applications) whose names somebody else's units, accounts or files have on the host.
  returned: always
  type: list
  elements: str
"""

import glob
import os
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils.asgi_database import database_roles
from ansible_collections.vivarium.server.plugins.module_utils.asgi_names import installed_applications, taken
from ansible_collections.vivarium.server.plugins.module_utils.certificates import look

STATUS = Path("/var/lib/dpkg/status")
ENABLED = Path("/etc/systemd/system")
INSTALLED = re.compile(r"^Package: (\S+)\n(?:(?!\n).*\n)*?Status: \S+ ok installed$", re.MULTILINE)


def distribution(release):
    """What setup says of a distribution, from what os-release says."""
    return {
        "distribution": release.get("ID", "unknown").capitalize(),
        "distribution_major_version": release.get("VERSION_ID", "NA").partition(".")[0],
    }


def default_address():
    """The address from which this host would speak to the Internet; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 53))
        except OSError:
            return {}
        return {"default_ipv4": {"address": probe.getsockname()[0]}}


def installed(status):
    """The names in dpkg's status file of what is installed whole."""
    return sorted(set(INSTALLED.findall(status)))


def lasting_services(running, enabled):
    """Services that run and that something starts at boot."""
    return sorted({line.split()[0] for line in running.splitlines() if line.strip()} & enabled)


def self_signed(directory):
    """What is in each directory of certificates, by its name; nothing without openssl."""
    if not directory or not shutil.which("openssl"):
        return {}
    found = {os.path.basename(home): look(home) for home in glob.glob(f"{directory}/*")}
    return {name: certificate for name, certificate in found.items() if certificate.get("self_signed")}


def main(parameters, check_mode, diff):
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
        "certificates": self_signed(parameters["certificates"]),
        "installed": applications,
        "database_roles": {name: database_roles(name) for name in applications},
        "taken": taken(parameters["applications"]),
    }
