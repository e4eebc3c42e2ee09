# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of the module of the same name, whose documentation says what it does."""

from __future__ import annotations

from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import OptionsAction

REQUEST = {
    "name": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str", "required": True},
    "stand_in": {"type": "bool", "default": False},
    "keep_issued": {"type": "bool", "default": False},
}


class ActionModule(OptionsAction):
    """Ansible's entry point."""

    argument_spec = {
        "requests": {"type": "list", "elements": "dict", "required": True, "options": REQUEST},
        "directory": {"type": "str", "default": "/etc/ssl/vivarium"},
        "days": {"type": "int", "default": 397},
    }
