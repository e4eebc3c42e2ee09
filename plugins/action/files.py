# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check and render on the controller, then let the module of the same name write everything in one run."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.files import FilesAction


class ActionModule(FilesAction):
    """The action behind vivarium.server.files; the module's documentation says what it does."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse bad input before anything is sent; never hand content back."""
        super().run(tmp, task_vars)
        return self.on_host({"files": self.order(self._task.args, task_vars or {})}, task_vars)
