#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes applications off a host, and keeps what they hold aside until it is not wanted any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_remove
short_description: Take applications off a host (internal)
version_added: 0.1.0
description:
  - Stops everything that belongs to an application and removes its units, programs, releases, caches and users.
  - What it holds stays, closed to everybody but root. Its uploads and the log of its deploys are then in C(/srv/NAME.removed),
    what it kept in its home in C(/var/lib/asgi-NAME.removed).
  - Where an application is not on the host, nothing happens. A run that was killed is finished by the next.
options:
  remove:
    description: The names of applications to take away.
    type: list
    elements: str
    default: []
  purge:
    description: The names of applications, taken away before or in the same run, of which nothing is to be kept.
    type: list
    elements: str
    default: []
  break_lock:
    description: Take an application away though a run of a playbook says that it works on it.
    type: bool
    default: false
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Take an application off the host
  vivarium.server.asgi_remove:
    remove: [blog]
"""

RETURN = r"""
removed:
  description: The names of applications that were on the host.
  returned: success
  type: list
  elements: str
purged:
  description: What was kept of applications and is gone now, by path.
  returned: success
  type: list
  elements: str
kept:
  description: What of the applications of O(remove) and O(purge) is on the host still, by path.
  returned: success
  type: list
  elements: str
"""
