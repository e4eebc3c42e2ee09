#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes one release of an application from step to step until it is live."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_release
short_description: Take a release of an application through the steps of a deploy (internal)
version_added: 0.1.0
description:
  - One call takes one step of a deploy, or several that follow one another. Each is safe to kill and to run again; until C(live)
    nothing that serves requests is touched.
  - A run of a playbook that begins with C(locked) or C(staged) holds the application's lock until C(live) or C(abandoned).
    Another run is refused meanwhile. When the run that holds it has died, the next one takes over as soon as the step that
    may still run on the host has ended.
  - C(migrated) and C(live) begin a run of their own on the host. What runs there may outlive its controller, and goes on to
    neither by itself.
  - The code is packed on the controller and sent with the step C(staged); the host needs no access to a repository.
options:
  steps:
    description:
      - C(locked) locks the application against a second deploy; a rollback begins with it.
      - C(staged) locks the application likewise, and unpacks the code.
      - C(built) makes the release's own venv from its lock file, then gives both to root.
      - C(configured) writes O(files) into the release.
      - C(checked) runs C(manage.py check --deploy) and this collection's checks in the new release with its real environment.
      - C(collected) gathers static files in the release. Nobody is served them before the switch.
      - What C(staged), C(built), C(checked) and C(collected) run is run in a sandbox by the application's build user, which no
        instance runs as. Nothing of it is left running when root looks at what it made.
      - C(migrated) applies database migrations, with the hooks before and after them. Where the fleet has one database, one
        host of a run does it.
      - C(started) starts the release's own instance beside the live one, waits until it answers on its socket, asked as
        nginx will ask, then starts its background processes.
      - C(live) switches requests to it in one rename, asks through nginx, switches back if that fails, lets the old
        instance finish what it holds, and removes releases that are no longer kept. Static files switch in the same rename; those
        of older releases stay reachable behind them.
      - C(abandoned) stops and forgets a release whose deploy failed.
      - A step is refused on every host of a fleet once one host of the run has failed with the same release.
    type: list
    elements: str
    required: true
    choices: [locked, staged, built, configured, checked, collected, migrated, started, live, abandoned]
  application:
    description: The application, completed by P(vivarium.server.asgi_apps#filter).
    type: dict
    required: true
  release:
    description: The release, C(release) of a step of M(vivarium.server.asgi_plan).
    type: dict
    required: true
  process:
    description: The same value that M(vivarium.server.asgi_plan) was given.
    type: raw
    default: ''
  files:
    description:
      - What C(configured) writes, such as the environment and the command line, as entries of the same option of
        M(vivarium.server.files). They lie in the release and belong to root; their contents are never shown.
    type: list
    elements: dict
    default: []
  action:
    description: What the steps are taken for; the application's log of deploys tells it.
    type: str
    choices: [deploy, rollback, resume]
    default: deploy
  wait:
    description: Whether C(live) waits until C(settle_time) is over, and fails where the release did not stay up.
    type: bool
    default: false
  empty_database:
    description: Whether an application that is live may go on with a database that is empty, or another one.
    type: bool
    default: false
  build_environment:
    description: Environment variables for building the venv, such as a proxy or a private package index.
    type: dict
    default: {}
  break_lock:
    description:
      - Take the lock even if another deploy may still hold it. What that one still runs on the host is ended.
    type: bool
    default: false
author:
  - Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
- name: Stage the code, build its environment and write its environment variables
  vivarium.server.asgi_release:
    steps: [staged, built, configured]
    application: "{{ application }}"
    release: "{{ plan.steps[0].release }}"
    files:
      - path: "/srv/shop/releases/{{ plan.steps[0].release.id }}/env"
        content: "{{ shop_environment | vivarium.server.env_file }}"
        mode: "0600"
"""

RETURN = r"""
output:
  description: What the step's own command printed, shortened.
  returned: when it ran one
  type: str
step:
  description: The step that failed, by the name that it has in the application's log of deploys.
  returned: on failure
  type: str
live:
  description: The release that serves requests after the step.
  returned: always
  type: str
after:
  description: After C(abandoned), what serves on, what the step that failed printed, and what helps.
  returned: always
  type: dict
checklist:
  description:
    - Django's deployment checklist in a line, and what of it does not hold. The whole report is C(checklist.json) in the release.
  returned: always
  type: list
  elements: str
"""
