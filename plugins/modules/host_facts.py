#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers in one question what the roles would otherwise each ask for themselves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Tell what a host is, and what of it is there already (internal)
version_added: 0.1.0
description:
  - Gathers the facts that the roles of this collection need (C(distribution), C(distribution_major_version) and
    C(default_ipv4.address), as M(ansible.builtin.setup) calls them) in a fraction of its time.
  - Tells in the same run which packages are installed, which services run now and from the next boot on, which of some files are
    there, and what the certificates are, so that a role has to ask the host only about what is missing.
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
  - Vivarium maintainers (@vivarium)
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
    - The certificates below O(certificates) by the names of their directories. Of each, whether it is C(self_signed), its names,
      how long it is good (C(life)) and from now on (C(left), both in seconds), and whether it is C(paired) with its key.
    - Also whether that key is C(open) to others than root. C(acme) is who issued it and how it is renewed, where the role asked
      for it.
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
