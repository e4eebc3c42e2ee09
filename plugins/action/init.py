# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a project and writes an inventory for it, on the controller alone; the code is plugin_utils/_init."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleActionFail, AnsibleError, AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.parsing.vault import VaultLib, match_encrypt_secret
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.vivarium.server.plugins.plugin_utils._init import answers, plan, project, repository, write
from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import printable

OPTIONS = ("project", "domain", "host", "email", "user", "name", "inventory", "ci", "application", "settings")


class ActionModule(ActionBase):
    """Ansible's entry point."""

    argument_spec = {name: {"type": "str", "default": ""} for name in OPTIONS}
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(self.argument_spec)
        here = Path.cwd().resolve()
        try:
            said = answers.complete(given, _ask, lambda: repository.address_of_user(here))
            found = project.read(said.project, said.application, said.settings)
            planned = plan.make(said, found, here, self._ansible())
            missing = [file for file in planned.files if not file.is_there()]
            written = missing if self._task.check_mode else write.write(planned.files)
        except (project.InitError, AnsibleError, OSError) as error:
            raise AnsibleActionFail(printable(str(error))) from None
        verb = "would be written" if self._task.check_mode else "written"
        files = {_shown(file.place, here): file in written for file in planned.files}
        Display().display(printable(_report(planned, said, here, written, verb)))
        return result | {
            "changed": bool(written),
            "files": files,
            "found": printable(planned.found),
            "notes": printable(planned.notes),
            "commands": [command for command, _meaning in planned.commands],
        }

    def _ansible(self) -> plan.Ansible:
        settings = Path(os.path.realpath(constants.CONFIG_FILE)) if constants.CONFIG_FILE else None
        by_option = [str(path) for path in context.CLIARGS.get("vault_password_files") or ()]
        configured = constants.config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE")
        said = by_option or ([str(configured)] if configured else [])
        # The loader has the passwords that this run was given, in whatever way.
        secrets = self._loader._vault.secrets or []
        return plan.Ansible(
            settings,
            os.path.abspath(os.path.expanduser(said[0])) if len(said) == 1 else "",
            bool(by_option),
            "".join(f" --vault-id {shlex.quote(each)}" for each in context.CLIARGS.get("vault_ids") or ())
            + " --ask-vault-pass" * bool(context.CLIARGS.get("ask_vault_pass")),
            (lambda text: _encrypted(text, secrets)) if secrets else None,
        )


def _encrypted(text: str, secrets: list[Any]) -> str:
    name, secret = match_encrypt_secret(secrets, encrypt_vault_id=constants.DEFAULT_VAULT_ENCRYPT_IDENTITY)
    return VaultLib(secrets).encrypt(text, secret, vault_id=name).decode()


def _ask(question: str) -> str:
    try:
        return Display().prompt_until(f"{question}: ").decode(errors="replace")
    except AnsiblePromptNoninteractive:
        raise answers.NobodyThereError from None
    except AnsiblePromptInterrupt:
        raise project.InitError("Nothing was written: it was interrupted") from None


def _shown(path: Path, here: Path) -> str:
    return os.path.relpath(path, here) if here in path.parents else str(path)


def _report(planned: plan.Plan, said: answers.Answers, here: Path, written: list[write.File], verb: str) -> str:
    """What a person reads: what was found, what was written, what is left to decide, what to type next."""
    lines = [f"\nFound in {said.project}: {'; '.join(planned.found)}\n"]
    for file in planned.files:
        remark = f", {file.remark}" if file.remark else ""
        lines.append(
            f"  {_shown(file.place, here)}: " + (verb + remark if file in written else "there already, left as it is")
        )
    if planned.notes:
        lines += ["\nFound, and yours to decide:", *(f"  - {note}" for note in planned.notes)]
    width = max(len(command) for command, _meaning in planned.commands)
    lines += ["\nNext:", *(f"  {command:{width}}   # {meaning}" for command, meaning in planned.commands), ""]
    return "\n".join(lines)
