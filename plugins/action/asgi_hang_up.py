# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of the module of the same name, whose documentation says what it does."""

from __future__ import annotations

from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import OptionsAction


class ActionModule(OptionsAction):
    """Ansible's entry point."""

    argument_spec = {"applications": {"type": "list", "elements": "str", "default": []}}
