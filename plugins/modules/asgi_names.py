#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Refuses applications whose names somebody else's units, accounts and files have on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_names
short_description: Refuse applications whose names are taken on a host (internal)
version_added: 0.1.0
description:
  - Fails where the host has a unit, a user, a group, a directory, a program or a site of a name that an application would have,
    and that is not the application's own. All of them are told at once.
  - Units are looked for wherever systemd finds them, aliases and generated ones included, and with them what would start a unit
    of that name.
  - Changes nothing; runs in check mode as well. M(vivarium.server.asgi_plan) does the same before it writes anything.
options:
  applications:
    description: What applications would be called, P(vivarium.server.asgi_names#filter).
    type: dict
    required: true
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Stop where a name is taken
  vivarium.server.asgi_names:
    applications: "{{ asgi_apps | vivarium.server.asgi_apps | vivarium.server.asgi_names }}"
"""

RETURN = r"""
# Nothing but what every module returns.
"""
