# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL's SCRAM-SHA-256 verifiers; the code is plugin_utils/_postgresql/scram.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.scram import scram_verifier

DOCUMENTATION = r"""
name: scram_verifier
short_description: Compute the SCRAM-SHA-256 verifier of a PostgreSQL password
version_added: 0.1.0
description:
  - Returns what PostgreSQL itself would store for the password, so that the server never sees the password and cannot
    log it.
  - Without a O(salt) each call returns another verifier. Ask P(vivarium.server.scram_matches#test) whether a stored
    verifier still belongs to the password before replacing it.
positional: salt, iterations
options:
  _input:
    description: The password.
    type: str
    required: true
  salt:
    description: The salt, in Base64. 16 random bytes if it is left out.
    type: str
  iterations:
    description: How often the password is hashed. PostgreSQL's own number is the default.
    type: int
    default: 4096
seealso:
  - plugin: vivarium.server.scram_matches
    plugin_type: test
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Set a password without telling it to the server
  community.postgresql.postgresql_user:
    name: shop
    password: "{{ vault_shop_database_password | vivarium.server.scram_verifier }}"
  become: true
  become_user: postgres
"""

RETURN = r"""
_value:
  description: The verifier, as in C(pg_authid.rolpassword).
  type: str
"""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"scram_verifier": scram_verifier}
