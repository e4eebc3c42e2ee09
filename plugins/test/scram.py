# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a verifier that PostgreSQL stores still belongs to a password."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.scram import scram_matches

DOCUMENTATION = r"""
name: scram_matches
short_description: Does this SCRAM-SHA-256 verifier belong to this password?
version_added: 0.1.0
description:
  - True if the verifier, as PostgreSQL stores it in C(pg_authid.rolpassword), was made from the password. Anything that
    is not a SCRAM-SHA-256 verifier (none at all, MD5) is answered with false.
options:
  _input:
    description: The verifier.
    type: str
    required: true
  password:
    description: The password.
    type: str
    required: true
seealso:
  - plugin: vivarium.server.scram_verifier
    plugin_type: filter
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Stop if the server has another password
  ansible.builtin.assert:
    that: stored_verifier is vivarium.server.scram_matches(vault_shop_database_password)
"""

RETURN = r"""
_value:
  description: Whether they belong together.
  type: bool
"""


class TestModule:
    """Ansible's entry point."""

    def tests(self) -> dict[str, Callable[..., bool]]:
        return {"scram_matches": scram_matches}
