#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compares the releases that are live on a host with the ones that are wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_plan
short_description: Tell which applications of a host need a new release
version_added: 0.1.0
description:
  - Resolves the source of each application on the controller (a git reference to its commit, a directory to a digest of
    what git would track), asks the host once which releases are live, and tells which applications need a new one and why.
  - Changes nothing, on the host or elsewhere; runs in check mode as well.
options:
  applications:
    description: The applications, completed by P(vivarium.server.asgi_apps#filter).
    type: list
    elements: dict
    required: true
  process:
    description:
      - What decides how a release's processes run, apart from the application's own description. When it changes, a
        new release goes live.
    type: raw
    default: ''
  force:
    description: Plan a new release of every application, whether anything changed or not.
    type: bool
    default: false
author:
  - Vivarium maintainers
"""

EXAMPLES = r"""
- name: Find out which applications need a new release
  vivarium.server.asgi_plan:
    applications: "{{ asgi_apps | vivarium.server.asgi_apps }}"
  register: plan
"""

RETURN = r"""
deployments:
  description: The applications that need a new release.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The application's name., type: str}
    id: {description: The identifier of the release to make., type: str}
    version: {description: What a person calls the version., type: str}
    reasons: {description: Why it is needed., type: list, elements: str}
    live: {description: The release that is live now., type: str}
restarts:
  description: Applications whose live release is the wanted one but does not run, or whose leftovers still run.
  returned: always
  type: list
  elements: dict
releases:
  description:
    - The live release of each application, with its version and since when; the releases that were live and good
      (C(good)), and the one before the live one (C(previous)).
  returned: always
  type: dict
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vivarium.server.plugins.module_utils.asgi import Application, active_units

REASONS = {
    "source": "the code changed",
    "install": "the interpreter or the server's packages changed",
    "env": "the environment changed",
    "process": "the way its processes run changed",
}


def main():
    module = AnsibleModule(
        argument_spec={
            # One JSON text, so that digests of secrets are neither logged nor returned.
            "wanted": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    wanted = json.loads(module.params["wanted"])
    result = {"reasons": {}, "restarts": [], "releases": {}}
    units = active_units("*@*.service") if wanted else []
    for name, parts in wanted.items():
        application = Application(name)
        live = application.live()
        record = live.record if live else {}
        good = [release.id for release in application.releases() if release.record.get("state") == "good"]
        running = [unit for unit in units if unit.startswith((f"{name}@", f"{name}-"))]
        result["releases"][name] = {
            "id": live.id if live else None,
            "version": record.get("version"),
            "since": record.get("live_since"),
            "good": good,
            "previous": next((one for one in reversed(good) if live and one < live.id), None),
            "active": bool(live) and live.unit in running,
            "others": sorted(
                unit for unit in running
                if unit.startswith(f"{name}@") and not (live and unit == live.unit)
            ),
        }
        if not live:
            result["reasons"][name] = ["it has no live release"]
            continue
        known = record.get("parts", {})
        result["reasons"][name] = [reason for part, reason in REASONS.items() if known.get(part) != parts[part]]
        drained = {f"{name}-drain@{unit.split('@', 1)[1]}" for unit in result["releases"][name]["others"]}
        if not result["reasons"][name] and (live.unit not in running or drained - set(running)):
            result["restarts"].append({"name": name, "id": live.id, "version": record.get("version")})
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
