# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finds the sources of applications on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: asgi_source
short_description: Find the sources of applications and tell their versions (internal)
version_added: 0.1.0
description:
  - Resolves the source of each application on the controller, as a deploy would, and tells its version. Stops with an error that
    names the variable where a directory, an archive, a repository or a version does not exist.
  - Within one run of a playbook, a branch or tag stands for the commit that it stood for when it was first looked up.
options:
  _terms:
    description: The applications, completed by P(vivarium.server.asgi_apps#filter).
    required: true
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: See which version of each application would be deployed
  ansible.builtin.debug:
    msg: "{{ query('vivarium.server.asgi_source', *(asgi_apps | vivarium.server.asgi_apps)) }}"
"""

RETURN = r"""
_list:
  description: The version of each application, as a person calls it.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.source import resolve_application


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, terms: list[dict[str, Any]], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        return [resolve_application(application, variables or {}).version for application in terms]
