# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check and render on the controller, then let the module of the same name write everything in one run."""

from __future__ import annotations

import base64
import json
import zlib

from ansible_collections.vivarium.server.plugins.plugin_utils.files import FilesAction


class ActionModule(FilesAction):
    """The action behind vivarium.server.files; the module's documentation says what it does."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Refuse bad input before anything is sent; never hand content back."""
        super().run(tmp, task_vars)
        order = self.order(self._task.args, task_vars or {})
        # One opaque string: no_log on the single values would censor each of them ("root", "0644") in all output.
        payload = base64.b64encode(zlib.compress(json.dumps(order).encode(), 1)).decode()
        result = self._execute_module("vivarium.server.files", {"payload": payload}, task_vars=task_vars)
        result.pop("invocation", None)
        return result
