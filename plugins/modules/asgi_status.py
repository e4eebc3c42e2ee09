#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells what runs on a host, and goes through Django's deployment checklist for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_status
short_description: Tell which releases of applications are live on a host, and how they are
version_added: 0.1.0
description:
  - Looks at what is there, not at an inventory; it needs no secrets. Changes nothing, and runs in check mode as well.
  - For each application, its live release and since when, what runs of it, the last results of its timers, its last deploys, when
    its certificate ends, and Django's deployment checklist with what proves each heading.
options:
  deploys:
    description: How many of the last deploys to tell.
    type: int
    default: 5
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: See what is live
  vivarium.server.asgi_status:
  register: status
"""

RETURN = r"""
applications:
  description: What was found, by application.
  returned: always
  type: dict
  contains:
    live: {description: The live release., type: str}
    fallen: {description: "What there is to know of a release that did not stay up, while none that is newer is live.", type: str}
    version: {description: What a person calls its version., type: str}
    since: {description: Since when it is live in seconds since 1970., type: float}
    units: {description: "Instances, processes and timers, with state and last result.", type: list, elements: dict}
    deploys: {description: The last lines of C(deploys.log)., type: list, elements: dict}
    certificate_ends: {description: When the certificate that nginx shows ends in seconds since 1970., type: float}
    certificate_trouble: {description: What is wrong with it., type: str}
    maintenance: {description: "If nginx on this host has it closed: C(since), C(retry_after), C(allow).", type: dict}
    checklist: {description: "Each heading of Django's page: C(state) (proven, waived, failed, unknown), C(how).", type: dict}
maintenance:
  description: "The sites of this host that are closed for maintenance: C(since), C(retry_after) and C(allow) by name."
  returned: always
  type: dict
closed:
  description: The same for people; none where all are open.
  returned: always
  type: list
  elements: str
text:
  description: The applications for people.
  returned: always
  type: list
  elements: str
"""
