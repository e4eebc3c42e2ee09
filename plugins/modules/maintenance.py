#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Closes sites for maintenance, opens them again, or tells which are closed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Close sites of nginx for maintenance (internal)
version_added: 0.1.0
description:
  - For the playbook C(maintenance). A public site of the role P(vivarium.server.nginx#role) answers 503 with a page and
    C(Retry-After) from the next request on, and as before once it is opened. nginx is not reloaded.
  - The C(health_path) of a site and what certificate authorities ask for are answered all the same.
options:
  state:
    description: What to do.
    type: str
    choices: ["on", "off", status]
    required: true
  sites:
    description: The names of the sites.
    type: list
    elements: str
    default: []
  allow:
    description: Addresses of visitors who pass, in a list or with commas between them. Networks are none.
    type: raw
    default: []
  retry_after:
    description: In how many seconds visitors are asked to come back.
    type: int
    default: 300
attributes:
  check_mode:
    description: Tells what would change.
    support: full
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Close the shop
  vivarium.server.maintenance:
    state: "on"
    sites: [shop]
    allow: [203.0.113.9]
"""

RETURN = r"""
closed:
  description: The sites whose WebSockets are to be told to go. They were open before, or nothing noted that it was done.
  returned: success
  type: list
  elements: str
sites:
  description: By site, C(since), C(retry_after) and C(allow); null where it is open.
  returned: success
  type: dict
text:
  description: The same for people.
  returned: success
  type: list
  elements: str
"""
