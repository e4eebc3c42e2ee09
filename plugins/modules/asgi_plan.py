#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compares the releases that are live on a host with the ones that are wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_plan
short_description: Tell what the applications of a host need to be as wanted (internal)
version_added: 0.1.0
description:
  - Resolves the source of each application on the controller (a git reference to its commit, a directory to a digest of
    what git would track), asks the host once which releases are live, and tells which applications need a new one and why.
  - Changes nothing on the host but what O(files) says; runs in check mode as well.
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
  names:
    description:
      - What M(vivarium.server.asgi_names) looks at before anything is written, in the same run. It stops there where somebody
        else on the host has a name that an application would have.
    type: dict
    default: {}
  files:
    description:
      - What M(vivarium.server.files) writes before the host is asked, in the same run there, as the options of that module. What
        it returns is returned here as well.
    type: dict
    default: {}
  resolve:
    description:
      - Whether to find the sources and to plan. Without, the module tells the releases alone; a rollback needs no repository.
    type: bool
    default: true
  version:
    description: The version of git sources that was asked for beside the inventory, C(asgi_version).
    type: str
    default: ''
  force:
    description: Plan a new release of every application, whether anything changed or not.
    type: bool
    default: false
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Find out which applications need a new release
  vivarium.server.asgi_plan:
    applications: "{{ asgi_apps | vivarium.server.asgi_apps }}"
  register: plan
"""

RETURN = r"""
steps:
  description: What is to be done on the host, in this order; new releases, then what is stale, then what earlier runs left.
  returned: always
  type: list
  elements: dict
  contains:
    do:
      description:
        - V(deploy) makes a new release. V(stale) removes units of processes and timers that the applications no longer have.
          V(stop) is for what runs and is to be off.
          V(resume) is for a live release that is the wanted one, but something is left to do for it, such as to start it or to
          finish what an earlier run did not.
      type: str
    title: {description: The same for people., type: str}
    units: {description: The units that are stale., type: list, elements: str}
    release:
      description: The release to make or to finish.
      type: dict
      contains:
        name: {description: The application's name., type: str}
        id: {description: The release's identifier., type: str}
        version: {description: What a person calls the version., type: str}
        reasons: {description: Why it is needed., type: list, elements: str}
        live: {description: The release that is live now., type: str}
others:
  description: The names of applications that are on the host and in neither O(applications) nor O(names).
  returned: always
  type: list
  elements: str
releases:
  description:
    - The live release of each application, with its version and since when; the releases that were live and good
      (C(good)), those that were live and did not prove good, with the reason (C(bad)), and the one that was live before the live
      one was made (C(previous)); what the live one was put live in the place of (C(instead_of)), and for each older release the
      migrations that were applied after it (C(migrated_since)). Where O(resolve=false), also the names of the secrets that each
      release has otherwise than the inventory (C(other_secrets)).
  returned: always
  type: dict
held:
  description: >-
    A sentence for each application whose live release stays, though the inventory has another version: that one was rolled back,
    or another one was asked for, and the inventory has not changed since.
  returned: always
  type: list
  elements: str
"""
