# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller's side of asgi_plan: resolves sources, so that the host needs no repository, and goes to the host once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Container
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.vivarium.server.plugins.module_utils._asgi.plan import GONE
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.run import agreed
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.source import Source, resolve_application
from ansible_collections.vivarium.server.plugins.plugin_utils.env_file import text
from ansible_collections.vivarium.server.plugins.plugin_utils.files import FilesAction

# What of an application's description its deployment checks look at, beside the environment.
CHECK_KEYS = ("check_fail_level", "waivers", "migrate")
# What of an application's description decides how its processes run.
PROCESS_KEYS = (
    "server",
    "application",
    "workers",
    "worker_class",
    "server_options",
    "access_log",
    "lifespan",
    "hang_timeout",
    "processes",
    "sandbox",
    "sandbox_allow",
)


def digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def parts_of(application: dict[str, Any], source: Source, process: dict[str, Any]) -> dict[str, str]:
    """The digests whose change calls for a new release, by what they stand for."""
    server = process.get("servers", {}).get(application["serve_with"], {})
    # The modules that a server runs with count where it runs with any.
    unused = {"servers", "library"} | (set() if server.get("library") else {"server_library"})
    others = {key: value for key, value in process.items() if key not in unused}
    return {
        "source": source.identity,
        "install": digest(
            application["python"], server.get("packages"), *(application[key] for key in ("install", "build", "static"))
        ),
        "env": digest(application["public_env"], application["secret_env"]),
        "checks": digest(process.get("library"), [application[key] for key in CHECK_KEYS])
        if application["framework"] == "django" or application["asgi_middleware"]
        else "",
        "process": digest([application[key] for key in PROCESS_KEYS], server, others),
    }


def secrets_of(application: dict[str, Any]) -> dict[str, str]:
    """The digests of the secrets, as an environment file has them, by their names."""
    secrets = application["secret_env"].items()
    return {name: hashlib.sha256(text(name, value).encode()).hexdigest() for name, value in secrets}


class ActionModule(FilesAction):
    """Ansible's entry point."""

    argument_spec = {
        "applications": {"type": "list", "elements": "dict", "required": True},
        "process": {"type": "raw", "default": ""},
        "names": {"type": "dict", "default": {}},
        "files": {"type": "dict", "default": {}},
        "resolve": {"type": "bool", "default": True},
        "force": {"type": "bool", "default": False},
        "version": {"type": "str", "default": ""},
    }

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _unused, arguments = self.validate_argument_spec(self.argument_spec)
        applications = {app["name"]: app for app in arguments["applications"]}
        process = arguments["process"] or {}
        sources = {
            name: resolve_application(app, task_vars) for name, app in applications.items() if arguments["resolve"]
        }
        wanted = {
            name: {
                "parts": parts_of(app, sources[name], process) if sources else {},
                "processes": list(app["processes"]),
                "units": app["units"],
                "stopped": app["state"] == "stopped",
                "secrets": {} if arguments["resolve"] else secrets_of(app),
            }
            for name, app in applications.items()
        }
        files = {"files": self.order(arguments["files"], task_vars)} if arguments["files"] else {}
        # Before anything is written.
        names = {"asgi_names": {"applications": arguments["names"]}} if arguments["names"] else {}
        result = self.on_host({**names, **files, "asgi_plan": wanted}, task_vars)
        if result.get("failed"):
            return result
        result["others"] = [name for name in result["others"] if name not in arguments["names"]]
        keys = ("reasons", "unfinished", "stale_units", "stopping")
        reasons, unfinished, stale, stopping = (result.pop(key) for key in keys)
        if not sources:
            return {**result, "steps": [], "held": []}
        held = {}
        for name, app in applications.items():
            live = result["releases"][name]
            asked = arguments["force"] or (arguments["version"] and app["source"].get("git"))
            inventory = {key: wanted[name]["parts"][key] for key in ("source", "env")}
            # What cannot start again does not stay.
            if reasons[name] and GONE not in reasons[name] and not asked and live["instead_of"] == inventory:
                held[name] = stays(name, live["version"], sources[name].version, git=bool(app["source"].get("git")))
        result["held"] = list(held.values())
        deployments = [
            {
                "name": name,
                "id": new_identifier(name, sources[name], result["releases"][name]["all"]),
                "version": sources[name].version,
                "reasons": reasons[name] or ["it was asked for"],
                "live": result["releases"][name]["id"],
                "instead_of": inventory_source(applications[name], task_vars),
            }
            for name in applications
            if (reasons[name] and name not in held) or (arguments["force"] and not wanted[name]["stopped"])
        ]
        # What is deployed anew needs no repair.
        planned = {deployment["name"] for deployment in deployments}
        result["steps"] = [
            *(step("deploy", deployment) for deployment in deployments),
            *({"do": "stop", "title": f"{name}: stop it", "name": name} for name in stopping),
            *([{"do": "stale", "title": ", ".join(stale), "units": stale}] if stale else []),
            *(step("resume", release) for release in unfinished if release["name"] not in planned),
        ]
        return result


def inventory_source(application: dict[str, Any], variables: dict[str, Any]) -> str | None:
    """What the inventory would have put live in the place of a version that was asked for; None where it is the same."""
    source = application["source"]
    if not source.get("inventory_version"):
        return None
    try:
        found = resolve_application(
            {**application, "source": {**source, "version": source["inventory_version"]}}, variables
        )
    except AnsibleError:
        return None
    return found.identity


def stays(name: str, live: str, wanted: str, git: bool) -> str:
    return (
        f"{name} stays at {live}, which was put live in the place of {wanted}, the inventory's. It follows the inventory again"
        f" when that has another version, or with -e asgi_force=true{' or -e asgi_version=VERSION' if git else ''}"
    )


def step(do: str, release: dict[str, Any]) -> dict[str, Any]:
    """What is to be done for a release."""
    title = f"{release['name']}: {release['version']}, because {' and '.join(release['reasons'])}"
    return {"do": do, "title": title, "release": release}


def new_identifier(name: str, source: Source, taken: Container[str]) -> str:
    """The name of a new release; one source has the same name on every host that this run deploys it to."""

    def now() -> str:
        return time.strftime("%Y%m%d-%H%M%S", time.gmtime())

    # Of a git source, the commit's first digits.
    identifier = f"{agreed(f'release {name} {source.fingerprint}', now)}-{source.fingerprint[:6]}"
    # One playbook may deploy twice.
    return identifier if identifier not in taken else f"{now()}-{source.fingerprint[:6]}"
