#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Has the open WebSockets of applications closed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_hang_up
short_description: Have the open WebSockets of applications closed (internal)
version_added: 0.1.0
description:
  - For the playbook C(maintenance), once their sites are closed. Waits for up to seven seconds until nginx has let go of idle
    connections, then restarts the instances that still hold one.
  - An instance that ends closes its WebSockets with a code that tells browsers to come back, and finishes its requests. Its
    socket stays.
options:
  applications:
    description: The names of applications.
    type: list
    elements: str
    default: []
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Let WebSockets go
  vivarium.server.asgi_hang_up:
    applications: [shop]
"""

RETURN = r"""
restarted:
  description: The units of instances that held a connection.
  returned: success
  type: list
  elements: str
"""
