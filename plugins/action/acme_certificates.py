# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of the module of the same name, whose documentation says what it does."""

from __future__ import annotations

from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import OptionsAction

REQUEST = {
    "name": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str", "required": True},
    "authenticator": {"type": "str", "default": "webroot"},
}


class ActionModule(OptionsAction):
    """Ansible's entry point."""

    argument_spec = {
        "requests": {"type": "list", "elements": "dict", "required": True, "options": REQUEST},
        "authority": {"type": "str", "required": True},
        "email": {"type": "str", "required": True},
        "install": {"type": "list", "elements": "str", "required": True},
        "directory": {"type": "str", "default": "/etc/ssl/vivarium"},
        "webroot": {"type": "str", "default": "/var/lib/vivarium/acme"},
        "port": {"type": "int", "default": 80},
        "profile": {"type": "str", "default": ""},
        "eab_kid": {"type": "str", "default": ""},
        "eab_hmac_key": {"type": "str", "default": ""},
        "dns_credentials": {"type": "str", "default": ""},
        "propagation_seconds": {"type": "int", "default": 60},
    }
