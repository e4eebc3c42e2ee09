# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller's side of asgi_release: packs and sends the code, knows whether the holder of a lock still lives, and sees to it
that the hosts of a fleet go together."""

from __future__ import annotations

import base64
import getpass
import itertools
import socket
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.vivarium.server.plugins.action.asgi_plan import parts_of
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import STEPS
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.run import agreed, is_dead, known, this_run
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.source import (
    SourceError,
    packed,
    resolve_application,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.files import FilesAction

# What a run on the host never goes on to by itself: it may outlive its controller.
DELIBERATE = ("migrated", "live")
# Code that is packed no larger than this goes to the host with the module; as a file of its own it takes four round trips more.
WITH_MODULE = 1024 * 1024
NOT_SENT = ("env", "secrets", "public_env", "secret_env", "certificate", "site")


def holder() -> dict[str, str]:
    """Who deploys."""
    return {"run": this_run(), "user": getpass.getuser(), "controller": socket.gethostname()}


def runs_of(steps: list[str]) -> list[list[str]]:
    """The steps of a task, in as many lists as it makes runs on the host."""
    starts = [0, *(index for index, step in enumerate(steps) if index and step in DELIBERATE), len(steps)]
    return [steps[begin:end] for begin, end in itertools.pairwise(starts)]


class ActionModule(FilesAction):
    """Ansible's entry point."""

    _supports_check_mode = False
    argument_spec = {
        "steps": {"type": "list", "elements": "str", "choices": [*STEPS, "abandoned"], "required": True},
        "application": {"type": "dict", "required": True},
        "release": {"type": "dict", "required": True},
        "process": {"type": "raw", "default": ""},
        "files": {"type": "list", "elements": "dict", "default": []},
        "build_environment": {"type": "dict", "default": {}},
        "break_lock": {"type": "bool", "default": False},
        "action": {"type": "str", "choices": ["deploy", "rollback", "resume"], "default": "deploy"},
        "wait": {"type": "bool", "default": False},
        "empty_database": {"type": "bool", "default": False},
    }

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _unused, arguments = self.validate_argument_spec(self.argument_spec)
        application, release, process = arguments["application"], arguments["release"], arguments["process"] or {}
        self.host = task_vars["inventory_hostname"]
        # One release has one name on every host.
        self.fleet = f"{application['name']} {release['id']}"
        elsewhere = self._failed_elsewhere()
        kind = next(key for key in ("git", "path", "archive", "package") if application["source"].get(key))
        data = {
            # Secrets stay here: no step needs them, but for the file that has the release's environment.
            "application": {key: value for key, value in application.items() if key not in NOT_SENT},
            "release": release,
            "kind": kind,
            "server": process.get("servers", {}).get(application["serve_with"], {}),
            "build_environment": arguments["build_environment"],
            **{key: arguments[key] for key in ("break_lock", "action", "wait", "empty_database")},
            "holder": holder(),
            # A run that had the lock and is known to have ended.
            "ended": "",
            # The packed code: the path of a file that was sent, or its text in base64.
            "archive": "",
            "code": "",
            "parts": {},
            "files": [],
            # Where the host itself has nothing to say of a failure.
            "stopped": f"it failed on another host ({elsewhere})" if elsewhere else "the controller could not go on",
        }
        # A deploy key stays here.
        data["application"]["source"] = {key: value for key, value in application["source"].items() if key != "key"}
        result: dict[str, Any] = {"changed": False}
        for steps in runs_of(arguments["steps"]):
            changed, output = result["changed"], result.get("output")
            try:
                result |= self._take(steps, arguments, data, process, task_vars)
            except AnsibleError:
                self._tell_fleet(steps)
                raise
            result["changed"] = changed or result["changed"]
            if told := "\n".join(filter(None, (output, result.get("output")))):
                result["output"] = told
            if result.get("failed") or steps == ["abandoned"]:
                self._tell_fleet(steps, result.get("step"))
                break
        return result

    def _failed_elsewhere(self) -> str | None:
        """Where this release has failed in this run, unless it was here."""
        failed = known(f"failed: {self.fleet}")
        return failed if failed and not failed.startswith(f"{self.host}:") else None

    def _tell_fleet(self, steps: list[str], step: str | None = None) -> None:
        step = step or STEPS.get(steps[0], "a step on the controller")
        agreed(f"failed: {self.fleet}", lambda: f"{self.host}: {step}")

    def _take(
        self,
        steps: list[str],
        arguments: dict[str, Any],
        data: dict[str, Any],
        process: dict[str, Any],
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """Steps that are one run on the host, unless the fleet says that they are not to be taken here."""
        application, data = arguments["application"], {**data, "steps": steps}
        if steps != ["abandoned"] and self._failed_elsewhere():
            raise AnsibleActionFail(
                f"the release failed on another host ({self._failed_elsewhere()}), so it does not go on here"
            )
        if "configured" in steps:
            entries = self.order({"files": arguments["files"]}, task_vars)["files"]
            if any(entry["state"] != "present" for entry in entries):
                raise AnsibleActionFail("files: a new release has nothing that could be absent")
            data["files"] = [{key: entry[key] for key in ("path", "mode", "content")} for entry in entries]
        # One database, one migration; a run that deploys another application to the same hosts has another name.
        once = steps == ["migrated"] and application["database"]
        if once and known(f"migrated: {self.fleet}"):
            return {"changed": False, "msg": f"done by {known(f'migrated: {self.fleet}')}"}
        if "staged" in steps:
            return self._stage(data, application, process, task_vars)
        result = self._steps(data, task_vars)
        if once and not result.get("failed"):
            agreed(f"migrated: {self.fleet}", lambda: self.host)
        return result

    def _stage(
        self, data: dict[str, Any], application: dict[str, Any], process: dict[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        source = resolve_application(application, task_vars)
        data["parts"] = parts_of(application, source, process)
        if data["kind"] == "package":
            return self._steps(data, task_vars)
        try:
            code = packed(source)
        except SourceError as error:
            raise AnsibleActionFail(str(error)) from error
        if code.stat().st_size <= WITH_MODULE:
            data["code"] = base64.b64encode(code.read_bytes()).decode()
            return self._steps(data, task_vars)
        self._make_tmp_path()
        try:
            target = self._connection._shell.join_path(self._connection._shell.tmpdir, "source.tar.gz")
            data["archive"] = self._transfer_file(str(code), target)
            return self._steps(data, task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _steps(self, data: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Steps on the host; once more where a run that has died on this controller holds the lock."""

        def run() -> dict[str, Any]:
            return self.on_host({"asgi_release": data}, task_vars)

        result = run()
        other = result.get("holder")
        if result.get("failed") and other and other["run"] and is_dead(other["run"]):
            data["ended"] = other["run"]
            result = run()
        return result
