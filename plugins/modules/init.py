#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a project and writes an inventory for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: init
short_description: Read a project and write an inventory for it (internal)
version_added: 0.3.0
description:
  - Reads what the files of a project say of it, runs nothing of it, and writes a short inventory with its secrets, a workflow of
    a CI that deploys, and an C(ansible.cfg) where none counts. What is there already is left as it is.
  - Runs on the controller, in the directory in which Ansible was started. For the playbook C(vivarium.server.init).
options:
  project:
    description: Directory of the project. Asked for at a terminal where it is empty, as are O(domain), O(host) and O(email).
    type: str
    default: ""
  domain:
    description: The domains that lead to it, with commas between them; the first is the canonical one.
    type: str
    default: ""
  host:
    description: Address or name of the server.
    type: str
    default: ""
  email:
    description: Who gets the mail of the certificates' authority and of errors.
    type: str
    default: ""
  user:
    description: The account on the server, C(root) if empty.
    type: str
    default: ""
  name:
    description: What the application is called; after its directory if empty.
    type: str
    default: ""
  inventory:
    description: Directory of the inventory, C(inventories/prod) if empty.
    type: str
    default: ""
  ci:
    description: C(github), C(gitlab) or C(none); found out if empty.
    type: str
    default: ""
  application:
    description: The ASGI callable, where it is not found, or not the right one.
    type: str
    default: ""
  settings:
    description: Django's settings module, likewise.
    type: str
    default: ""
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Write an inventory for a project
  vivarium.server.init:
    project: ../shop
    domain: shop.example.com
    host: 203.0.113.5
"""

RETURN = r"""
files:
  description: Which files there are now, and whether this run has written them.
  type: dict
  returned: success
found:
  description: What the project is.
  type: list
  elements: str
  returned: success
notes:
  description: What was found, and is for somebody to decide.
  type: list
  elements: str
  returned: success
commands:
  description: The three commands that follow.
  type: list
  elements: str
  returned: success
"""
