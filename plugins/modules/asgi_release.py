#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes one release of an application from step to step until it is live."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asgi_release
short_description: Take a release of an application through the steps of a deploy
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
  state:
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
  - Vivarium maintainers
"""

EXAMPLES = r"""
- name: Stage the code, build its environment and write its environment variables
  vivarium.server.asgi_release:
    state: [staged, built, configured]
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

import base64
import contextlib
import errno
import grp
import hashlib
import http.client
import itertools
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils.asgi import (
    LOCK_LIMIT,
    PROGRAMS,
    STEPS,
    Application,
    LockedError,
    Mask,
    ReleaseError,
    Watch,
    active_units,
    end_processes,
    first_line,
    journal,
    last_words,
    printable,
    process_start,
    process_units,
    processes_of,
    read_regular,
    run,
    secret_parts,
    wait_until,
    write_private,
)
from ansible_collections.vivarium.server.plugins.module_utils.asgi_database import database_place
from ansible_collections.vivarium.server.plugins.module_utils.asgi_packages import installed, missing, too_old
from ansible_collections.vivarium.server.plugins.module_utils.asgi_probe import ask_site, ask_socket, healthy
from ansible_collections.vivarium.server.plugins.module_utils.asgi_running import (
    TOKEN,
    ask,
    differences,
    facts_of,
    new_token,
)
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

# What a project says of its packages, at the top of its code.
LOCKS = ("uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml")
# Lock files that are not read here, and what makes one of them that is.
FOREIGN = {
    "poetry.lock": "'poetry export --output requirements.txt' (with poetry-plugin-export) or 'uvx migrate-to-uv'",
    "Pipfile.lock": "'pipenv requirements > requirements.txt' or 'uvx migrate-to-uv'",
    "Pipfile": "'pipenv lock' and 'pipenv requirements > requirements.txt', or 'uvx migrate-to-uv'",
    "pdm.lock": "'pdm export --output requirements.txt'",
}
# The pyproject.toml of a member of a workspace, beside that of the workspace.
MEMBER = "the member's pyproject.toml"
# Of pyproject.toml: the root of a workspace of uv's; a project of Poetry's that is no package; one that others can read.
WORKSPACE = re.compile(rb"^\[tool\.uv\.workspace\]|^(?:tool\.uv\.)?workspace(?:\.members)?\s{0,9}=", re.MULTILINE)
NO_PACKAGE = re.compile(rb"^package-mode\s{0,9}=\s{0,9}false\b", re.MULTILINE)
PROJECT = re.compile(rb"^\[project\]", re.MULTILINE)
# What makes a venv depend on the code itself: other files of requirements, and packages that lie in the project. No
# letter is looked at again and again: a project could have root search for days.
NEEDS_CODE = re.compile(
    rb"""
    ^[^\S\n]*(-e|--editable|-r|--requirement|-c|--constraint|-f|--find-links)\b     # requirements.txt
    | ^[^\S\n]*[\w.-]*/ | ^[^\S\n]*\. | @\s*(file:|\.) | ^[^\S\n]*[^\s#:={]+\.(whl|tar\.gz|zip)\b
    | \{[^{}\n]*\b(editable|directory|path|workspace)\s*=                          # uv.lock, pyproject.toml
    | ^\[+packages\.(directory|archive)                                           # pylock.toml
    """,
    re.MULTILINE | re.VERBOSE,
)
# A static file that no kept release has any more is served this long, for pages that browsers still show (seconds).
STATIC_GRACE = 30 * 86400
# A static file while it is put in its place.
SCRATCH = ".vivarium.new"
BUILD_PATH = "/usr/local/bin:/usr/bin:/bin"
# Copies what a build has written to its place, then removes it where it was written. No program of a venv is among the commands.
TAKE_OVER = """
set -eu
cd "$1"
shift
for name do
    /bin/cp --recursive --no-dereference --preserve=mode,timestamps "build/$name/." "$name/"
    /usr/bin/find "build/$name" -mindepth 1 -delete || true
done
"""
# How many directories of a release may lie in one another: far more than projects have, and few enough to walk through.
DEEPEST = 250
# How much of a file is held in memory at once (bytes).
BLOCK = 1024 * 1024
# How long a new instance may keep silent before the reason is looked for (seconds).
IMPORT_PATIENCE = 3
# How long a background process must stay up to be taken for a good one (seconds).
PROCESS_PATIENCE = 1
# How long nginx may give wrong answers after the switch before requests go back (seconds).
SWITCH_PATIENCE = 2
# How long a migration waits for a lock before it lets others through, and how long it is tried (seconds).
MIGRATE_LOCK_TIMEOUT, MIGRATE_PATIENCE = 2, 60
# What PostgreSQL says of that (its own words, or the name of its error).
LOCKED_OUT = "lock timeout"
# The step that runs each hook, for as long as nothing is switched.
HOOKED = {"before_migrate": "migrate", "after_migrate": "migrate", "before_switch": "switch"}
# What the last step that failed printed, beside the releases.
FAILED = "failed.log"
# How much of what a step printed is kept (lines).
OUTPUT_LINES = 1000
# What migrate says of each.
MIGRATION = re.compile(r"^ *Applying (\S+?)\.\.\. OK", re.MULTILINE)
# How long the drain may take to see that a release does not stay up, and to take requests back from it (seconds).
VERDICT_PATIENCE = 15
# How long to wait for a step that still runs though its playbook has died (seconds).
LOCK_PATIENCE = 300
# How long systemd may take to start or stop units; the longest of their own limits (seconds).
SYSTEMCTL_LIMIT = 3600


class Deploy:
    """The steps of a deploy, one method each."""

    def __init__(self, data):
        self.app = data["application"]
        self.application = Application(self.app["name"])
        self.release = self.application.release(data["release"]["id"])
        self.data = data
        # What a step's command printed: for people, and as it is.
        self.output = self.printed = ""
        self.checklist = []
        self.warnings = []
        # After a failure, for people.
        self.after = {}
        self.owns_lock = False
        # What was sent: the code itself, or what the project is a directory of, as `code` links to it then.
        self.tree = self.release.path / ("repository" if self.app["source"].get("subdirectory") else "code")
        # Where code of the project writes while it is being built.
        self.work = self.release.path / "build"
        # What runs of a step on the host, one command at a time; no process or timer of an application has such a name.
        self.step_unit = f"{self.app['name']}.step.service"
        # What the lock says while this run holds it: who, for which release, what the steps have taken so far.
        self.holder = {}

    # Steps, in their order.

    def locked(self):
        return False

    def staged(self):
        release = self.release
        if release == self.application.live() or release.record.get("state") == "good":
            raise ReleaseError(f"there is a release {release.id} already; run again")
        self.account(self.app["user"], f"/var/lib/asgi-{self.app['name']}")
        self.builder()
        self.clear(release)
        # Entered by whoever needs what lies in it, listed by nobody.
        release.path.mkdir(mode=0o711, parents=True)
        code = release.path / "code"
        self.hand_to_builder(code)
        # An archive comes with the module, or as a file.
        with open(self.data["archive"], "rb") if self.data["archive"] else tempfile.TemporaryFile() as stream:
            if self.data["code"]:
                stream.write(base64.b64decode(self.data["code"]))
                stream.seek(0)
            if self.data["kind"] != "package":
                # Nothing of the project runs: what is unpacked here is changed by nobody else.
                # A file may be several archives, one for each submodule.
                place = f"--property=ReadWritePaths={code}"
                command = (
                    "/bin/tar",
                    "--extract",
                    "--gzip",
                    "--ignore-zeros",
                    "--no-same-owner",
                    "--directory",
                    str(code),
                )
                if self.as_builder([place], command, stdin=stream) != 0:
                    raise ReleaseError(f"the code cannot be unpacked:\n{self.output}")
        if self.data["kind"] == "archive":
            self.strip_wrapper(code)
        if self.app["source"].get("subdirectory"):
            # What everything else calls the code is the project; the rest lies around it.
            os.rename(code, self.tree)
            code.symlink_to(self.project().relative_to(release.path))
        release.note(
            state="staged",
            version=self.data["release"]["version"],
            parts=self.data["parts"],
            created=time.time(),
        )
        return True

    def project(self):
        """Where the project lies in what was sent: a directory there, reached by no link. Nobody changes it meanwhile."""
        place, parts = self.tree, Path(self.app["source"].get("subdirectory") or "").parts
        for part in parts:
            place /= part
            if not os.path.lexists(place) or not stat.S_ISDIR(os.lstat(place).st_mode):
                raise ReleaseError(f"source.subdirectory: there is no directory '{'/'.join(parts)}' in the code")
        return place

    def account(self, user, home):
        """The application's account of a name. One that was there before (a person's, with sudo perhaps) is not its own."""
        found = pwd.getpwnam(user)
        if found.pw_dir != home:
            raise ReleaseError(
                f"this host has an account '{user}' already (home {found.pw_dir}), which is not the application's;"
                " give the application another name"
            )
        return found

    def builder(self):
        """The number of the build user."""
        return self.account(self.app["build_user"], self.app["build_home"]).pw_uid

    def builder_group(self):
        return pwd.getpwnam(self.app["build_user"]).pw_gid

    def hand_to_builder(self, path):
        """A directory for the build user alone; where it is there already, it is his already."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            shutil.chown(path, self.app["build_user"], self.app["build_user"])

    def built(self):
        if not shutil.which("uv", path=BUILD_PATH):
            raise ReleaseError("uv is not installed on this host; the role vivarium.server.python brings it")
        code, venv = self.release.path / "code", self.release.path / "venv"
        key = self.venv_key(code)
        twin = next(
            (
                release.path / "venv"
                for release in reversed(self.application.releases())
                if key and release.record.get("venv") == key and release != self.release
            ),
            None,
        )
        if twin:
            # The same lock means the same files. They belong to root and never change, so a hard link is as good as a copy.
            subprocess.run(["cp", "--archive", "--link", "--no-target-directory", str(twin), str(venv)], check=True)
        else:
            self.make_venv(code, venv)
            self.seal(venv)
        if self.app["build"]:
            self.build()
        self.seal(self.tree)
        self.project()
        self.release.note(state="built", venv=key)
        return True

    def seal(self, path):
        """From here on nobody but root can change what lies there; the application and its builds read it, others do not."""
        seal(path, self.builder(), grp.getgrnam(self.app["user"]).gr_gid)

    def configured(self):
        """What the release runs with beside its code; live() sees to it that it is on the disk before the switch is."""
        group = grp.getgrnam(self.app["user"]).gr_gid
        for entry in self.data["files"]:
            path = Path(entry["path"])
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir(mode=0o750)
                os.chown(path.parent, 0, group)
            # From its first moment nobody can read it who may not read it in the end.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(entry["content"].encode("utf-8", "surrogateescape"))
                os.fchown(descriptor, 0, group)
                os.fchmod(descriptor, int(entry["mode"], 8) & ~stat.S_IRWXO)
        write_for_group(self.release.path / TOKEN, new_token(), group)
        return True

    def checked(self):
        """The gate: Django's deployment checks and ours, in one start of Django; for others, those that concern any."""
        code = self.in_build([], "python", str(self.release.path / "lib/vivarium_gate.py"), "--json")
        gate = report_in(self.printed)
        if not gate:
            raise ReleaseError(f"the deployment checks could not be made:\n{self.output}")
        # What the report says of settings has no secret in it, and is compared with what the instance says.
        gate |= self.mask().of_all({key: gate[key] for key in ("text", "messages") if key in gate})
        self.output = printable(str(gate.pop("text", "")))
        write_private(self.release.path / "gate.json", {**gate, "made": time.time()}, indent=None)
        if code != 0:
            failed = [str(each.get("id"))[:60] for each in messages_in(gate) if each.get("state") == "failed"]
            said = f" ({', '.join(dict.fromkeys(failed[:10]))})" if failed else ""
            raise ReleaseError(f"the deployment checks say no{printable(said)}:\n{self.output}", complete=True)
        self.look_at_database(gate.get("facts", {}).get("database", {}))
        return False

    def look_at_database(self, database):
        """What is live has its data: a database without any is another one, or was lost, and nobody goes live on it unasked."""
        live, name = self.application.live(), self.app["name"]
        if not live or self.data["empty_database"]:
            return
        if self.app["framework"] == "django":
            place = f"{database.get('name')!s:.100} at {(database.get('host') or 'the default host')!s:.100}"
            if not (self.app["migrate"] and database.get("empty")):
                return
            what = f"its database ({place}) is empty, while release {live.id} is live"
        else:
            before, now = (database_of(release) for release in (live, self.release))
            if not before or before == now:
                return
            what = (
                f"its database would be another one than that of release {live.id}, which is live ({now}, not {before})"
            )
        raise ReleaseError(
            f"{what}. Its data do not come by themselves. On the old database server: postgresql-backup run {name}; copy the"
            f" newest of /var/backups/postgresql/{name}-* and its .json file to the new one; there: postgresql-backup restore"
            f" {name} --file PATH. If it is meant: -e asgi_empty_database={name}"
        )

    def collected(self):
        if self.app["framework"] != "django" or not self.app["static_url"]:
            return False
        target = self.release.path / "static"
        self.work_on(target)
        command = ("collectstatic", "--noinput", "--verbosity", "1")
        if self.in_build([target], *self.django(), *command) != 0:
            raise ReleaseError(f"manage.py {' '.join(command)} failed:\n{self.output}")
        for command in self.app["static"]:
            if self.in_build([target], *shlex.split(command)) != 0:
                raise ReleaseError(f"the static command '{command}' failed:\n{self.output}")
        self.take_over(target)
        self.seal(target)
        self.show(self.release)
        return True

    def migrated(self):
        hooks, applied = self.app["hooks"], False
        self.run_hooks("before_migrate")
        if self.app["framework"] == "django" and self.app["migrate"]:
            self.migrate()
            applied = "No migrations to apply" not in self.printed
        self.run_hooks("after_migrate")
        return applied or bool(hooks["before_migrate"] + hooks["after_migrate"])

    def started(self):
        release = self.release
        self.link_socket(release)
        if self.data["action"] != "deploy":  # it has run before
            # It may still be under way out: it stays.
            systemctl("stop", f"{self.app['name']}-drain@{release.id}.service", check=False)
            systemctl("reset-failed", release.unit, release.socket_unit, check=False)
            # That drain may have been at its end: an instance gets a socket at its start alone.
            if not os.path.lexists(release.socket):
                systemctl("stop", release.unit, check=False)
        systemctl("start", release.unit)
        self.wait_for_answer(release)
        self.look_at_instance(release)
        # One that falls over is a reason not to send requests to it. Those that bear no second one come with the switch.
        self.start_processes(release, [name for name in self.processes() if name not in self.alone()])
        return True

    def live(self):
        before, was_good = self.application.live(), self.release.record.get("state") == "good"
        self.run_hooks("before_switch")
        # The one before stays reachable behind the new one from the same moment. Both may be from before there was `public`, or
        # left by a run that was killed.
        self.offer(*filter(None, (before, self.release)))
        self.keep(*filter(None, (before,)))
        # What the switch leads to is on the disk before the switch is.
        subprocess.run(["sync", "--file-system", str(self.release.path)], check=True)
        self.application.point_live_at(self.release)
        try:
            complaint = self.verify() or self.take_turns(before) or self.call_good(before)
        except OSError as error:
            complaint = str(error)
        if complaint:
            self.switch_back(before, complaint)
        units = self.application.running_units("deactivating")
        self.hand_over(units, alone=before is None or (before == self.release and not was_good))
        self.keep(self.release)
        try:
            self.run_hooks("after_switch")
        except ReleaseError as error:
            self.warnings.append(f"{self.app['name']}: release {self.release.id} is live, but a hook failed: {error}")
        self.prune(units)
        try:
            self.report()
        except Exception as error:  # it is about a release that is live: nothing of that is undone
            self.warnings.append(f"{self.app['name']}: the report could not be made ({type(error).__name__}: {error})")
        self.log("good", "after_switch" if self.warnings else None, "".join(self.warnings) or None)
        self.unlock()
        if self.data["wait"] and before != self.release:
            self.settle(before)
        return True

    def report(self):
        """What of Django's deployment checklist holds, for the run and for the playbook status."""
        # Not for the steps before: a module is compiled at each run.
        from ansible_collections.vivarium.server.plugins.module_utils.checklist import checklist, summary

        report = checklist(self.application, self.release, self.app)
        write_private(self.release.path / "checklist.json", report)
        self.checklist = summary(report)

    def abandoned(self):
        if not self.owns_lock:
            live = self.application.live()
            self.after = {"serves": f"Release {live.id} serves on." if live else "It has no live release."}
            return False
        live, record = self.application.live(), self.release.record
        self.after = {
            "serves": self.what_serves(live, record),
            "details": self.holder.get("details", []),
            "advice": self.holder.get("advice", ""),
        }
        if live != self.release and self.release.path.is_dir():
            was_live = record.get("state") in ("good", "bad")
            units = [self.release.unit, *self.process_units(self.release)]
            systemctl("stop", self.release.socket_unit, check=False)
            if not was_live:
                # Nobody was ever sent to it: nothing is lost, and one that hangs is not waited for.
                systemctl("stop", "--no-block", *units, check=False)
                systemctl("kill", "--signal=KILL", self.release.unit, check=False)
            systemctl("stop", *units, check=False)
            systemctl("reset-failed", *units, check=False)
            if not was_live:
                self.clear(self.release)
        self.log("failed", self.holder.get("step"), self.holder.get("reason") or self.data["stopped"])
        self.unlock()
        return True

    def what_serves(self, live, record):
        """What became of the application, in a sentence: what serves on may do so on a database that is not as before."""
        if not live:
            return "It has no live release."
        if live == self.release:
            return "It is live all the same: there was no release to go back to."
        order, app, step = list(STEPS.values()), self.app, self.holder.get("step")
        # The hooks that the step, and those before it, have run.
        ran = [
            moment
            for moment, of in HOOKED.items()
            if step in order and order.index(step) >= order.index(of) and app["hooks"][moment]
        ]
        said, applied = f"Release {live.id} serves on", record.get("migrations") or []
        if (
            step in order
            and order.index(step) >= order.index("migrate")
            and app["framework"] == "django"
            and app["migrate"]
        ):
            if "migrate" not in self.holder.get("seconds", {}):
                said += ", on the database as another host of the run has migrated it"
            elif applied:
                said += f", on a database with these migrations applied: {', '.join(map(str, applied))}"
            else:
                said += "; no migration was applied"
        elif not ran:
            return f"{said} as if nothing had happened."
        return f"{said}; the hooks {', '.join(ran)} may have run." if ran else f"{said}."

    # What the steps are made of.

    def lock(self, take, step=None):
        """Hold the lock until this run on the host ends; with `take`, take it where nobody has it who may keep it."""
        # Entered by whoever needs what lies in it, listed by nobody.
        self.application.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock, mine = self.application.lock, self.data["holder"]
        if self.data["break_lock"] and take:
            self.break_off(other=lock.holder())
        try:
            lock.enter(LOCK_PATIENCE, self.is_another)
        except LockedError as error:
            if not take:
                return
            if self.is_another(error.holder):
                raise
            raise ReleaseError(
                "a step of a deploy whose playbook has ended still runs on this host; wait for it, or end it with"
                " -e asgi_break_lock=true"
            ) from error
        other = lock.holder()
        self.owns_lock = other.get("run") == mine["run"]
        if take and self.is_another(other):
            raise LockedError(other)
        if take and not (self.owns_lock and other.get("release") == self.release.id):
            self.end_commands(of=other)
            self.tell_of_interrupted(other)
            live, parts = self.application.live(), self.data["parts"] or self.release.record.get("parts", {})
            self.holder = {
                **mine,
                "action": self.data["action"],
                "release": self.release.id,
                "version": self.data["release"].get("version") or self.release.record.get("version"),
                "source": parts.get("source"),
                "from": live.id if live else None,
                "begun": time.time(),
                "seconds": {},
                "step": step,
                "reason": None,
            }
            self.owns_lock = True
        elif self.owns_lock:
            self.holder = other
        self.begin(step)

    def is_another(self, holder):
        """Whether somebody has the lock who may keep it: not this run, none that has ended, none that is silent for too long."""
        return bool(
            holder
            and holder.get("run") not in (self.data["holder"]["run"], self.data["ended"])
            and time.time() - holder.get("since", 0) < LOCK_LIMIT
            and not self.data["break_lock"]
        )

    def break_off(self, other):
        """End what a run that is to lose the lock still does on this host; the kernel gives its lock up then."""
        pid = other.get("pid", 0)
        if pid not in (0, os.getpid()) and process_start(pid) == other.get("pid_start"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        systemctl("stop", self.step_unit, check=False)

    def end_commands(self, of):
        """A run that was killed leaves what it had started: a build is ended, a migration is waited for."""
        with contextlib.suppress(KeyError):  # before the first deploy there is no such user
            end_processes(self.builder())
        if of and wait_until(lambda: active_units(self.step_unit, "deactivating") or None, LOCK_PATIENCE, 0.2):
            raise ReleaseError(
                f"{self.step_unit}, which a deploy that was cut off has started, still runs; wait for it, or end it with"
                " -e asgi_break_lock=true"
            )

    def begin(self, step):
        """Note which step is under way."""
        self.begun = time.monotonic()
        if self.owns_lock:
            mine = {"since": time.time(), "pid": os.getpid(), "pid_start": process_start(os.getpid())}
            self.holder |= {**mine, **({"step": step, "reason": None} if step else {})}
            self.application.lock.write(self.holder)

    def end(self, reason=None):
        """Note how long the step took and why it failed, for the line that a deploy gets at its end."""
        if self.owns_lock:
            self.holder["seconds"].setdefault(self.holder["step"], round(time.monotonic() - self.begun, 2))
            self.holder["reason"] = reason
            self.application.lock.write(self.holder)

    def tell(self, error):
        """Why a step failed, in a sentence. What it printed is kept for root, without secrets; the end of the run tells of it."""
        # Not for runs that succeed: a module is compiled at each run.
        from ansible_collections.vivarium.server.plugins.module_utils.asgi_lacking import lacking
        from ansible_collections.vivarium.server.plugins.module_utils.asgi_output import Failure, advice, failure

        said, _end, printed = self.mask()(str(error)).partition("\n")
        if getattr(error, "complete", False):
            found = Failure(said.rstrip(":"), printed.splitlines(), advice(printed, self.app["name"]))
        else:
            found = failure(said, printed, os.path.realpath(self.release.path / "code"), self.app["name"])
        details, helps = list(found.details), lacking(printed)
        if helps and (self.holder.get("step") == "build" or not found.advice):
            found = found._replace(advice=helps)
        if printed and len(printed.splitlines()) > len(details):
            path = self.application.root / FAILED
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as stream:
                stream.write(f"{time.strftime('%F %T %Z')}, release {self.release.id}: {said}\n{printed}\n")
            details.append(f"All of it: sudo cat {path}")
        if self.owns_lock:
            self.holder |= {"details": details, "advice": found.advice}
            self.end(reason=found.reason)
            return found.reason
        # Nobody asks later.
        return "\n".join(filter(None, (found.reason, *details, found.advice)))

    def log(self, outcome, step=None, reason=None, of=None):
        """The line of a deploy, at its end."""
        holder = of or self.holder
        if not of:
            self.end(holder["reason"])
        self.application.log(
            by=holder["user"],
            controller=holder["controller"],
            action=holder["action"],
            release=holder["release"],
            version=holder["version"],
            **{"from": holder["from"]},
            source=holder.get("source"),
            outcome=outcome,
            step=step,
            reason=reason and first_line(reason),
            seconds={**holder["seconds"], "total": round(time.time() - holder["begun"], 2)},
        )

    def tell_of_interrupted(self, other):
        """A run that died never wrote its own line."""
        if other.get("begun"):
            self.log("interrupted", other.get("step"), other.get("reason") or "the run ended in the middle", of=other)

    def unlock(self):
        self.application.lock.write(None)
        self.owns_lock = False

    def run_hooks(self, moment):
        """The application's own commands, in the release, with its environment and sandbox."""
        for command in self.app["hooks"][moment]:
            if self.run([], *shlex.split(command)) != 0:
                raise ReleaseError(f"the hook {moment}, '{command}', failed:\n{self.output}")

    def uv(self, *arguments):
        """Run uv as the build user, with a bare environment."""
        own = {
            "UV_CACHE_DIR": f"{self.app['build_home']}/uv",
            "UV_LINK_MODE": "copy",
            "UV_NO_PROGRESS": "1",
            "UV_PROJECT_ENVIRONMENT": str(self.release.path / "venv"),
            "VIRTUAL_ENV": str(self.release.path / "venv"),
            "UV_COMPILE_BYTECODE": "1",
            # An interpreter that uv fetched here would be the build user's to change as long as the release runs.
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_PYTHON_INSTALL_DIR": "/usr/local/lib/uv-python",
        }
        places = [self.tree, self.release.path / "venv"]
        cache = f"--property=ReadWritePaths={self.app['build_home']}"
        with self.build_environment(**own) as path:
            if self.in_build(places, "uv", *arguments, environment=path, options=[cache]) != 0:
                raise ReleaseError(f"'{' '.join(('uv', *arguments)[:3])}' failed:\n{self.output}")

    @contextlib.contextmanager
    def build_environment(self, **own):
        """The bare environment of a build, in a file: anybody can ask systemd for the rest of what a unit is started with."""
        environment = {
            "HOME": self.app["build_home"],
            "PATH": BUILD_PATH,
            "LANG": "C.UTF-8",
            **own,
            # A machine's own certificate authorities and proxies count for builds as well.
            **{
                name: value
                for name, value in os.environ.items()
                if name in ("SSL_CERT_FILE", "SSL_CERT_DIR") or name.lower().endswith("_proxy")
            },
            **{name: str(value) for name, value in self.data["build_environment"].items()},
        }
        path = self.release.path / "build.env"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as stream:
            stream.writelines(f"{name}={quoted(value)}\n" for name, value in environment.items())
        try:
            yield path
        finally:
            path.unlink()

    def in_build(self, writable, *command, environment=None, options=()):
        """Run code of the project as the build user; it may write to these directories of the release, as it sees them."""
        found = [place for place in writable if (self.work / place.name).is_dir()]
        options = [
            f"--property=EnvironmentFile={environment or self.release.path / 'env'}",
            *(f"--property=BindPaths={self.work / place.name}:{place}" for place in found),
            *(f"--property=ReadWritePaths={place}" for place in found),
            *options,
        ]
        # In the code.
        return self.as_builder(options, command, place=None)

    def as_builder(self, options, command, place="/", **stdin):
        """Run a command as the build user in its sandbox; nothing of it runs any more when this returns."""
        where = [f"--working-directory={place}"] if place else []
        code = self.program("build", [*where, *options], command, **stdin)
        end_processes(self.builder())
        return code

    def venv_key(self, code):
        """What a venv is made from; None where it holds the project itself and so belongs to one release alone."""
        if self.data["kind"] == "package":
            parts = [self.app["source"]["package"].encode()]
        else:
            asked = self.app["install"]
            required = dict(self.required(code, asked["requirements"]))
            found = required or self.described(code)[1]
            inside = self.app["source"].get("subdirectory")
            parts = [*found.values(), json.dumps(asked).encode(), *([inside.encode()] if inside else [])]
            if not found or any(b"[build-system]" in found.get(name, b"") for name in ("pyproject.toml", MEMBER)):
                return None
            if any(NEEDS_CODE.search(part) for part in parts):
                return None
        # Not by its version: root does not start a program that somebody else may have put there.
        interpreter = os.path.realpath(shutil.which(self.app["python"], path=BUILD_PATH) or "")
        with contextlib.suppress(OSError):
            found = os.stat(interpreter)
            interpreter += f" {found.st_size} {found.st_mtime_ns}"
        parts += [
            interpreter.encode(),
            self.app["python"].encode(),
            json.dumps(self.data["server"]["packages"]).encode(),
        ]
        # Who may read a venv has changed once: those from before are no twins.
        parts.append(b"read by the application's group")
        return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def make_venv(self, code, venv):
        package = self.release.path / "package.txt"
        if self.data["kind"] == "package":
            # Its address may hold a token, and words of a command are for everybody to see.
            write_for_group(package, self.app["source"]["package"] + "\n", self.builder_group())
            packages = ["pip", "install", "--requirements", str(package)]
        else:
            packages = self.wanted(code)
        # From here on the project's packages, and their builds, have a hand in it: root reads nothing there any more.
        self.work_in(self.tree, venv)
        self.uv("venv", "--allow-existing", "--no-project", "--relocatable", "--python", self.app["python"], str(venv))
        self.uv(*packages)
        package.unlink(missing_ok=True)
        self.add_server()
        self.take_over(self.tree, venv)

    def build(self):
        """The application's own commands, which write what they make into its code: with the network, and without its secrets."""
        self.work_in(self.tree)
        # Nothing of one build is there in the next, which may be of other code.
        with self.build_environment(HOME="/tmp", PATH=f"{self.release.path / 'venv/bin'}:{BUILD_PATH}") as path:  # noqa: S108
            for command in self.app["build"]:
                if self.in_build([self.tree], *shlex.split(command), environment=path) != 0:
                    raise ReleaseError(f"the build command '{command}' failed:\n{self.output}")
        self.take_over(self.tree)

    def work_in(self, code, *places):
        """The same with the code as it is, and other directories that begin empty."""
        self.work_on(*places)
        os.rename(code, self.work / code.name)
        self.hand_to_builder(code)

    def work_on(self, *places):
        """Directories in which code of the project is to write: it sees them in their places, but they lie elsewhere."""
        self.work.mkdir(mode=0o711, exist_ok=True)
        for place in places:
            self.hand_to_builder(place)
            self.hand_to_builder(self.work / place.name)

    def take_over(self, *places):
        """Copy what code of the project has written into files that it never had open.

        Its processes have ended, but one of them may have handed an open file or directory to a running instance, which could
        write there for ever. The copy is made by programs of the system, as the build user: what they could be made to read is no
        more than he may read.
        """
        names = [place.name for place in places]
        options = [f"--property=ReadWritePaths={place}" for place in (*places, *(self.work / name for name in names))]
        if self.as_builder(options, ("/bin/sh", "-c", TAKE_OVER, "take-over", str(self.release.path), *names)) != 0:
            raise ReleaseError(f"what was built cannot be copied:\n{self.output}")
        for name in names:
            with contextlib.suppress(OSError):  # what an instance still holds is removed with the release
                (self.work / name).rmdir()
        with contextlib.suppress(OSError):
            self.work.rmdir()

    def add_server(self):
        """The server as the project locks it, and beside it what it does not lock; nothing that is locked changes."""
        look = ("/bin/sh", "-c", 'ls -d "$1"/lib/python*/site-packages/*.dist-info', "look", str(self.work / "venv"))
        self.as_builder([], look)
        packages, requirements = installed(self.printed.splitlines()), self.data["server"]["packages"]
        for name, version, minimum in too_old(requirements, packages):
            raise ReleaseError(
                f"the project locks {name} {version}; server {self.app['server']} needs {name} {minimum} or newer, for its safety"
                " or for an option that is used: raise it in the project's lock file"
            )
        if not missing(requirements, packages):
            return
        constraints = self.release.path / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        self.uv("pip", "install", "--constraints", str(constraints), *missing(requirements, packages))
        constraints.unlink()

    def described(self, code):
        """Where the project says which packages it needs, and its files there: in its directory or the nearest around it."""
        found = [(place, self.files(place, LOCKS)) for place in self.places(code)]
        place, files = next(((place, files) for place, files in found if files), (code, {}))
        if list(files) == ["pyproject.toml"]:
            for around, others in found:
                # The lock file of a workspace lies at its top.
                if around != place and "uv.lock" in others and WORKSPACE.search(others.get("pyproject.toml", b"")):
                    return around, {**others, MEMBER: files["pyproject.toml"]}
        return place, files

    def places(self, code):
        """The project's directory and those around it, up to the top of what was sent."""
        inside = self.app["source"].get("subdirectory")
        return [code, *(self.tree / place for place in Path(inside).parents)] if inside else [code]

    def files(self, place, names):
        within = self.tree if self.app["source"].get("subdirectory") else place
        return {name: content for name in names if (content := project_file(place, name, within)) is not None}

    def required(self, code, names):
        """Files of requirements by their paths, as they are seen from the project."""
        for name in names:
            for place in self.places(code):
                if found := self.files(place, [name]):
                    yield self.seen(code, place, name), found[name]
                    break
            else:
                raise ReleaseError(f"the code has no {name}, which install.requirements names")

    def seen(self, code, place, name="."):
        """What lies in a directory around the project, as commands that run in the project have to name it."""
        return name if place == code else os.path.relpath(place / name, self.project())

    def wanted(self, code):
        """What uv is to do: install exactly what the project locks; with less of a lock, what it asks for."""
        asked = self.app["install"]
        more = [word for key in ("extra", "group") for name in asked[f"{key}s"] for word in (f"--{key}", name)]
        if asked["requirements"]:
            return self.requirements(code, *asked["requirements"])
        place, files = self.described(code)
        if "uv.lock" in files:
            # From the directory of a workspace's member, what that member needs.
            return ["sync", "--locked", "--no-dev", "--python", self.app["python"], *more]
        if more and "pyproject.toml" not in files:
            raise ReleaseError(
                "install names extras or groups, and the code has neither uv.lock nor pyproject.toml at its top"
            )
        if not more and "pylock.toml" in files:
            return ["pip", "sync", self.seen(code, place, "pylock.toml")]
        if not more and "requirements.txt" in files:
            return self.requirements(code, "requirements.txt")
        self.refuse_foreign(place if files else code)
        if "pyproject.toml" in files:
            project = files["pyproject.toml"]
            path = self.seen(code, place, "pyproject.toml")
            is_package = b"[build-system]" in project and not NO_PACKAGE.search(project)
            if NO_PACKAGE.search(project) and not PROJECT.search(project):
                raise ReleaseError(
                    "pyproject.toml says package-mode = false, and names the packages in a way that only Poetry reads: make a"
                    f" file of requirements, {FOREIGN['poetry.lock']}"
                )
            # The project itself comes with what it asks for.
            itself = [self.seen(code, place)] if is_package else []
            return ["pip", "install", *itself, *(["--requirements", path] if more or not itself else []), *more]
        raise ReleaseError(
            "the code has none of uv.lock, pylock.toml, requirements.txt and pyproject.toml at its top: nothing says"
            " which packages it needs"
        )

    def refuse_foreign(self, place):
        """A lock that is not read is not passed over: other versions than those that were tried would go live."""
        for name, how in FOREIGN.items():
            if os.path.lexists(place / name):
                raise ReleaseError(
                    f"the packages of the project are locked in {name}, which is not read here. Make a lock file that is, and"
                    f" commit it: {how}"
                )

    def requirements(self, code, *names):
        """How to install files of requirements; where one has hashes, every package needs one."""
        found = dict(self.required(code, names))
        words = [word for name in found for word in ("--requirements", name)]
        return [
            "pip",
            "install",
            *words,
            *["--require-hashes"] * any(b"--hash=" in content for content in found.values()),
        ]

    def strip_wrapper(self, code):
        """An archive often holds one directory around everything: the code begins inside it."""
        inside = list(code.iterdir())
        if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():
            wrapper = code.with_name("code.wrapper")
            os.rename(inside[0], wrapper)
            code.rmdir()
            os.rename(wrapper, code)

    def django(self):
        """How Django's commands are run: by the project's own program where there is one, which may extend sys.path."""
        return (
            ("python", "manage.py") if (self.release.path / "code/manage.py").is_file() else ("python", "-m", "django")
        )

    def migrate(self):
        """Apply migrations. One that waits for a lock holds up whoever comes after it: it waits briefly, and tries again."""
        facts, options = facts_of(self.release), []
        # One that is not atomic cannot be begun anew after half of it; a pooler may refuse options.
        if self.app["database"] and facts.get("atomic_migrations") is True:
            options = [f"--setenv=PGOPTIONS=-clock_timeout={MIGRATE_LOCK_TIMEOUT}s"]
        applied, pause, deadline = [], 1, time.monotonic() + MIGRATE_PATIENCE
        while True:
            code = self.run(options, *self.django(), "migrate", "--noinput")
            applied += MIGRATION.findall(self.printed)
            self.release.note(migrations=applied)
            if code == 0:
                return
            if not options or LOCKED_OUT not in self.printed or time.monotonic() + pause > deadline:
                raise ReleaseError(f"manage.py migrate --noinput failed:\n{self.output}")
            time.sleep(pause)
            pause = min(2 * pause, 10)

    def run(self, options, *command):
        """Run a command in this release exactly as the service runs: its user, environment and sandbox."""
        return self.program("run", options, command)

    def program(self, program, options, command, stdin=subprocess.DEVNULL):
        """Run a command in this release through one of the application's programs; it is ended when its time is over."""
        limit, begun = self.app["step_timeout"], time.monotonic()
        code, output = run(
            [
                f"{PROGRAMS}/{self.app['name']}-{program}", self.release.id, f"--unit={self.step_unit}",
                f"--property=RuntimeMaxSec={limit}", "--property=TimeoutStopSec=5", *options, "--", *command,
            ],
            timeout=None,
            stdin=stdin,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.printed = output
        self.output = self.mask()(shorten(output))
        if code != 0 and time.monotonic() - begun >= limit:
            self.output += f"\nIt did not end within the {limit} s of step_timeout."
        return code

    def mask(self):
        """Takes secrets out of a text: the release's own, and those of its builds."""
        private = re.compile("pass|token|secret|key|auth|credential", re.IGNORECASE)
        build = {name: str(value) for name, value in self.data["build_environment"].items()}
        # The address of a package index may be told, who logs in there not.
        accounts = (part for value in build.values() if "://" in value for part in list(secret_parts(value))[1:])
        return Mask(self.release, [*accounts, *(value for name, value in build.items() if private.search(name))])

    def show(self, release):
        """Static files as nginx serves them, at `live/public`: a second tree of the same files, which nginx alone enters.

        The first one stays the application's, which reads its manifest there. Links are left out: nginx would follow them.
        """
        source, target, before = release.path / "static", release.path / "public", self.application.live()
        if not source.is_dir() or target.is_dir():
            return
        group = os.stat(self.application.root / "static").st_gid
        # Whole or not there at all: what is missing here is looked for among the files of older releases.
        scratch = release.path / ".public"
        run(["rm", "--recursive", "--force", "--one-file-system", str(scratch)], timeout=None)
        for directory, _directories, files in os.walk(source):
            inside = os.path.relpath(directory, source)
            place = scratch / inside
            place.mkdir(mode=0o750)
            os.chown(place, -1, group)
            for name in files:
                path = Path(directory, name)
                if path.is_symlink() or not path.is_file():
                    continue
                os.chmod(path, 0o644)
                if before and before != release and same_file(twin := before.path / "public" / inside / name, path):
                    # It is the same to browsers too, which ask by the time of the last change.
                    with contextlib.suppress(OSError):
                        put_link(twin, path)
                os.link(path, place / name)
        os.rename(scratch, target)

    def offer(self, *releases):
        """See to it that nginx finds the static files of these releases once they are live."""
        for release in releases:
            self.unless_it_fails(self.show, release)

    def keep(self, *releases):
        """See to it that nginx finds the static files of these releases when they are live no more."""
        for release in releases:
            self.unless_it_fails(self.publish, release.path / "public", self.application.root / "static")

    def unless_it_fails(self, work, *arguments):
        """A disk that is full is no reason to keep requests from a good release, or to leave them with a bad one."""
        try:
            work(*arguments)
        except OSError as error:
            self.warnings.append(f"{self.app['name']}: static files of older releases may be missing ({error})")

    def publish(self, source, target):
        """Add a release's static files to those that are served behind the live one's; nothing else is taken away."""
        for directory, _directories, files in os.walk(source):
            place = target / os.path.relpath(directory, source)
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                place.unlink()  # what was a file is a directory now
            place.mkdir(mode=0o755, exist_ok=True)
            for name in files:
                new, old = Path(directory, name), place / name
                if new.is_symlink() or not new.is_file():
                    continue
                if old.is_dir() and not old.is_symlink():
                    shutil.rmtree(old)
                try:
                    put_link(new, old)
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EMLINK):
                        raise
                    put_copy(new, old)
                # Whether it changed or not, this sets the time from which prune_static counts.
                os.chmod(old, 0o644)

    def link_socket(self, release):
        """`live/socket` is where nginx connects: the release's link to its own socket."""
        link = release.path / "socket"
        if not link.is_symlink():
            link.symlink_to(release.socket)

    def wait_for_answer(self, release):
        deadline = time.monotonic() + self.app["start_timeout"]
        # A server with several workers stays up though none of them can import the application.
        import_at = time.monotonic() + IMPORT_PATIENCE
        # Asking systemd takes time that the start of the application needs.
        state_at = time.monotonic() + 0.5
        # Of the directory of its sockets: nginx's. That an answer gets through to root says nothing.
        group = os.stat(self.app["runtime"]).st_gid

        def look():
            """The request waits in the socket, which systemd holds, whether a server comes for it or not."""
            nonlocal import_at, state_at
            if time.monotonic() > state_at:
                state_at = time.monotonic() + 0.5
                self.check_state(release)
            if time.monotonic() > import_at:
                import_at = deadline
                self.try_import(deadline - time.monotonic())

        def complaint():
            left = max(1, min(10, deadline - time.monotonic()))
            try:
                status = ask_socket(
                    release.socket, self.app["health_path"], self.app["domains"][0], left, group=group, meanwhile=look
                )
                return None if healthy(status, self.app["health_strict"]) else f"status {status}"
            except (OSError, http.client.HTTPException) as error:
                last = f"no answer on its socket ({error})"
            look()
            return last

        last = wait_until(complaint, self.app["start_timeout"])
        if last:
            raise ReleaseError(
                f"{release.unit} was not ready within {self.app['start_timeout']} s of start_timeout: GET"
                f" {self.app['health_path']}: {last}\nIts last lines:\n{journal(release.unit)}"
            )

    def look_at_instance(self, release):
        """What was checked is what runs: a server can be given other settings than its release, by a file of its own say."""
        try:
            found = ask(release, self.app["domains"][0], self.app["start_timeout"])
        except (OSError, http.client.HTTPException) as error:
            raise ReleaseError(f"{release.unit} does not say what it runs with ({error})") from error
        if found is None:
            return
        checked = facts_of(release).get("running")
        if checked is None:
            # Its import took too long for the gate, which looks at this too.
            if found.get("debug") is True and "vivarium.E027" not in self.app["waivers"]:
                raise ReleaseError(
                    f"{release.unit} is in debug mode: visitors see its code at an error (vivarium.E027)"
                )
        elif others := differences(checked, found):
            raise ReleaseError(
                f"{release.unit} does not run with what was checked: {'; '.join(others.values())}. Look for a file that the"
                " server reads (gunicorn.conf.py, --env-file) or code that changes settings later"
            )

    def check_state(self, release):
        """Raise where systemd has given up on an instance, or had to start it over and over."""
        state = systemctl("show", "--property=ActiveState,NRestarts", "--value", release.unit).split()
        if "failed" in state or any(text.isdigit() and int(text) > 2 for text in state):
            raise ReleaseError(last_words(release.unit, "does not stay up"))

    def start_processes(self, release, processes):
        """Start background processes and see that they stay up."""
        units = process_units(release, processes)
        running = self.application.running_units() if units else {}
        units = [unit for unit in units if unit not in running]
        if not units:
            return
        systemctl("start", *units)
        time.sleep(PROCESS_PATIENCE)
        states = systemctl("is-active", *units, check=False).split()
        for unit, state in zip(units, states, strict=True):
            if state != "active":
                raise ReleaseError(last_words(unit, "does not stay up"))

    def alone(self):
        """The background processes of which there are no two at a time, by the description of now."""
        return [name for name in self.processes() if not self.app["processes"][name].get("overlap", True)]

    def take_turns(self, before):
        """Those end in all other releases, then they start in this one. Says what is wrong, and gives them back then."""
        alone = self.alone()
        if not alone:
            return None
        mine = process_units(self.release, alone)
        kinds = tuple(f"{self.app['name']}-{name}@" for name in alone)
        others = [
            unit
            for unit in self.application.running_units("deactivating")
            if unit.startswith(kinds) and unit not in mine
        ]
        if others:
            systemctl("stop", *others)
        try:
            self.start_processes(self.release, alone)
        except ReleaseError as error:
            if before and before != self.release:
                systemctl("stop", *mine, check=False)
                had = set(before.record.get("processes", alone))
                systemctl(
                    "start", "--no-block", *process_units(before, [name for name in alone if name in had]), check=False
                )
            return str(error)
        return None

    def try_import(self, seconds):
        """Say so at once when the application cannot be imported, rather than wait for an answer that cannot come."""
        module = self.app["callable"].split(":")[0]
        # What does not end in time is no proof of anything.
        limit = [f"--property=RuntimeMaxSec={max(1, int(seconds))}"]
        code = f"import sys\ntry: import {module}\nexcept BaseException: import traceback; traceback.print_exc(); sys.exit(111)"
        if self.run(limit, "python", "-c", code) == 111:
            raise ReleaseError(f"{module} cannot be imported:\n{self.output}")

    def verify(self):
        """Ask once more the way a visitor does: through nginx, over TLS, by name."""
        way = self.app.get("verify")
        if not way:
            return None

        def complaint():
            try:
                status = ask_site(way["port"], way["domain"], self.app["health_path"])
            except (OSError, http.client.HTTPException) as error:
                return f"nginx gave no answer for https://{way['domain']}:{way['port']} ({error})"
            if healthy(status, self.app["health_strict"]):
                return None
            return f"https://{way['domain']}:{way['port']}{self.app['health_path']} answered {status} through nginx"

        return wait_until(complaint, SWITCH_PATIENCE)

    def call_good(self, before):
        """From here on it is what a rollback may go to, until its watch says otherwise; with what that has to know."""
        record = self.release.record
        since = record.get("live_since") if before == self.release and record.get("state") == "good" else None
        self.release.note(
            state="good",
            live_since=since or time.time(),
            workers=self.app["workers"],
            processes=self.processes(),
            alone=self.alone(),
            **self.instead_of(before),
        )

    def instead_of(self, before):
        """What this release is put live in the place of, against the inventory: the next run does not undo that unasked."""
        if self.data["action"] == "rollback" and before:
            return {"instead_of": {key: before.record.get("parts", {}).get(key) for key in ("source", "env")}}
        if self.data["action"] == "deploy":
            source, env = self.data["release"].get("instead_of"), self.release.record.get("parts", {}).get("env")
            return {"instead_of": {"source": source, "env": env} if source else None}
        return {}

    def switch_back(self, before, complaint):
        """Requests go to the release they went to before; where there was none, to none."""
        if before == self.release:
            raise ReleaseError(complaint)
        self.application.point_live_at(before)
        if self.release.record.get("state") != "good":
            self.release.note(state="bad", step="switch", reason=complaint)
        raise ReleaseError(
            f"{complaint}; {f'requests go to release {before.id} again' if before else 'it is not live'}"
        )

    def settle(self, before):
        """Wait until the release has stayed up for its time. Requests are taken back by the drain of the one before, not here."""
        self.application.lock.leave()
        self.owns_lock = False
        watch = Watch(self.release, self.app["settle_time"])

        def verdict():
            """The drain's, which may have seen what this did not."""
            record = self.release.record
            return record.get("reason") or "it did not stay up" if record.get("state") == "bad" else None

        complaint = None
        while not (complaint or watch.over()):
            complaint = verdict() or watch.complaint()
            time.sleep(0.5)
        if complaint:
            wait_until(lambda: None if verdict() else "not yet", VERDICT_PATIENCE)
        if complaint := verdict() or complaint:
            raise ReleaseError(complaint)

    def process_units(self, release):
        return process_units(release, self.processes())

    def processes(self):
        """The background processes that the release has a command for: it may have been made before the others."""
        return [name for name in self.app["processes"] if (self.release.path / "commands" / name).is_file()]

    def hand_over(self, units, alone=False):
        """Its own processes run. Old instances finish what they hold, watched by a unit each: no deploy waits for them.

        Where no other release could watch it, the release has such a unit of its own.
        """
        name, started, stopped = self.app["name"], [], []
        for unit, state in units.items():
            kind, identifier = unit.removesuffix(".service").split("@", 1)
            if identifier == self.release.id or kind == f"{name}-drain" or state == "deactivating":
                continue
            if kind == name:
                started.append(f"{name}-drain@{identifier}.service")
            else:  # a background process, of this description or of an earlier one
                stopped.append(unit)
        if alone and not started:
            started.append(f"{name}-drain@{self.release.id}.service")
        systemctl("start", "--no-block", f"{name}.service", *self.process_units(self.release), *started)
        if stopped:
            systemctl("stop", "--no-block", *stopped, check=False)

    def prune(self, units):
        """Remove old releases, but none that is live, that runs or still stops, or that a rollback would want."""
        releases = self.application.releases()
        good = [release for release in releases if release.record.get("state") == "good"]
        running = {unit.removesuffix(".service").split("@", 1)[1] for unit in units}
        kept = set(good[-self.app["keep_releases"] :]) | {self.application.live(), self.release}
        users = {0}
        with contextlib.suppress(KeyError):
            users |= {pwd.getpwnam(self.app[user]).pw_uid for user in ("user", "build_user")}
        for release in releases:
            if release not in kept and release.id not in running and not is_somewhere(release.path, users):
                self.clear(release)
            else:
                self.close(release)
        self.prune_static(self.application.releases())

    def close(self, release):
        """Close a release to others that was made when everybody could read one; its directories have been root's since then."""
        for name in ("code", "venv", "static", "lib"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, KeyError):
                handle = os.open(release.path / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    found = os.fstat(handle)
                    if found.st_uid == 0 and found.st_mode & stat.S_IRWXO:
                        os.fchown(handle, 0, grp.getgrnam(self.app["user"]).gr_gid)
                        os.fchmod(handle, 0o750)
                finally:
                    os.close(handle)

    def prune_static(self, releases):
        target, limit = self.application.root / "static", time.time() - STATIC_GRACE
        for directory, _directories, files in os.walk(target):
            inside = os.path.relpath(directory, target)
            for name in files:
                path = Path(directory, name)
                # The time of the last change of mode: publish() sets it, and visitors see the time of the content.
                if path.lstat().st_ctime < limit and not any(
                    (release.path / "static" / inside / name).exists() for release in releases
                ):
                    path.unlink()

    def clear(self, release):
        """Remove a release whole; one that is half gone after a kill has no record and is never taken for a good one."""
        (release.path / "release.json").unlink(missing_ok=True)
        # A build can put directories into one another so deep that Python does not find its way.
        run(["rm", "--recursive", "--force", "--one-file-system", str(release.path)], timeout=None)
        if os.path.lexists(release.socket):
            systemctl("stop", release.socket_unit, check=False)
            Path(release.socket).unlink(missing_ok=True)  # one that no unit holds


def seal(path, builder, group):
    """Give a tree that a build has made to root, closed to others. No process that could change it runs any more.

    What is not the builder's, and what is neither a file nor a directory nor a link, has no business there. A directory is closed
    before what lies in it is looked at.
    """
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise ReleaseError(f"{path} is no directory")
    sealed = set()
    for directory, directories, files, handle in os.fwalk(path, follow_symlinks=False):
        if directory.count("/") - str(path).count("/") > DEEPEST:
            raise ReleaseError(f"there are more than {DEEPEST} directories in one another in {path}")
        for name in (".", *files, *(name for name in directories if os.path.islink(os.path.join(directory, name)))):
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            place = printable(os.path.normpath(os.path.join(directory, name)))
            if (found.st_dev, found.st_ino) in sealed:
                continue  # another name of the same file
            if found.st_uid != builder:
                raise ReleaseError(f"{place} does not belong to the build")
            if not (stat.S_ISLNK(found.st_mode) or stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise ReleaseError(f"{place} is neither a file nor a directory")
            os.chown(name, 0, group, dir_fd=handle, follow_symlinks=False)
            if not stat.S_ISLNK(found.st_mode):
                executable = 0o110 if found.st_mode & 0o111 else 0
                os.chmod(name, 0o750 if stat.S_ISDIR(found.st_mode) else 0o640 | executable, dir_fd=handle)
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                sealed.add((found.st_dev, found.st_ino))


def pieces(descriptor):
    """Where a file has content, each piece from where to where: a hole of terabytes takes neither time nor space."""
    size = end = os.fstat(descriptor).st_size
    begin = 0
    while begin < size:
        try:
            begin = os.lseek(descriptor, begin, os.SEEK_DATA)
        except OSError:
            return  # nothing but a hole is left
        end = min(size, os.lseek(descriptor, begin, os.SEEK_HOLE))
        while begin < end:
            yield begin, min(end, begin + BLOCK)
            begin += BLOCK
        begin = end


def copy_content(source, target):
    """Copy from one descriptor to another, holes included; what grows meanwhile is not followed."""
    os.ftruncate(target, os.fstat(source).st_size)
    for begin, end in pieces(source):
        os.pwrite(target, os.pread(source, end - begin, begin), begin)


def put_link(source, target):
    """Give a file a second name in one rename, in place of what has that name."""
    if os.path.lexists(target) and os.path.samestat(os.lstat(source), os.lstat(target)):
        return
    scratch = target.with_name(SCRATCH)
    scratch.unlink(missing_ok=True)
    try:
        os.link(source, scratch)
        os.replace(scratch, target)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def put_copy(source, target):
    """Copy a file in one rename, where it cannot have a second name: its directory may be a disk of its own."""
    if same_file(source, target):
        return
    scratch = target.with_name(SCRATCH)
    scratch.unlink(missing_ok=True)
    try:
        with open(source, "rb") as given, open(scratch, "wb") as copy:
            copy_content(given.fileno(), copy.fileno())
        shutil.copystat(source, scratch)
        os.replace(scratch, target)
    except OSError:
        scratch.unlink(missing_ok=True)  # the disk may be full
        raise


def project_file(code, name, within=None):
    """A file of a project as bytes; None where it is not there. It may be a link within the code, but neither huge nor a pipe.

    Nobody changes the code meanwhile: its build user has no process.
    """
    if not os.path.lexists(code / name):
        return None
    real = Path(os.path.realpath(code / name))
    try:
        if Path(os.path.realpath(within or code)) in real.parents:
            return read_regular(real)
    except OSError:
        pass
    raise ReleaseError(f"{name} cannot be used: it must be a file inside the code of at most 16 MiB")


def database_of(release):
    """Where the database of a release is that its environment names, without who logs in there; None where it names none."""
    with contextlib.suppress(OSError):
        return database_place(read_regular(release.path / "env"))
    return None


def write_for_group(path, text, group):
    """A file that a group reads and root alone writes; from its first moment nobody else reads it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        os.fchown(descriptor, 0, group)
        os.fchmod(descriptor, 0o640)


def quoted(value):
    """A value as systemd's EnvironmentFile has it: nothing in it has a meaning."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def systemctl(*arguments, check=True):
    errors = subprocess.STDOUT if check else subprocess.DEVNULL
    code, output = run(["systemctl", *arguments], timeout=SYSTEMCTL_LIMIT, stderr=errors)
    if check and code != 0:
        units = [argument for argument in arguments if "@" in argument]
        lines = journal(units[0]) if units else ""
        raise ReleaseError(f"systemctl {' '.join(arguments)} failed: {printable(output).strip()}\n{lines}")
    return output


def is_somewhere(path, users):
    """Whether a process of one of these users works below a directory: a task by the clock, or a person's shell.

    Others can enter a release as well; a release that nobody needs is not kept for them.
    """
    for pid in {pid for user in users for pid in processes_of(user)}:
        with contextlib.suppress(OSError):
            if path in (place := Path(os.readlink(f"/proc/{pid}/cwd"))).parents or place == path:
                return True
    return False


def same_file(one, other):
    """Whether two files have the same content, and holes in the same places."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            numbers = first.fileno(), second.fileno()
            return len({os.fstat(number).st_size for number in numbers}) == 1 and all(
                one == other and len({os.pread(number, one[1] - one[0], one[0]) for number in numbers}) == 1
                for one, other in itertools.zip_longest(*map(pieces, numbers))
            )
    except (FileNotFoundError, IsADirectoryError):
        return False


def report_in(output):
    """The report of the gate in an output, in which the project may have printed as well."""
    for line in reversed(output.splitlines()):
        # RecursionError: of a project that nests things without end.
        with contextlib.suppress(ValueError, RecursionError):
            if line.startswith("{") and "passed" in (report := json.loads(line)):
                return {**report, "text": report["text"] if isinstance(report.get("text"), str) else ""}
    return None


def messages_in(gate):
    """The messages of the gate's report, in which the project's code had a hand."""
    messages = gate.get("messages")
    return [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []


def shorten(text, lines=OUTPUT_LINES):
    """The last lines of an output, without terminal colours."""
    kept = printable(re.sub(r"\x1b\[[0-9;]*m", "", text)).strip().splitlines()
    return "\n".join(line[:500] for line in kept[-lines:])


def main(data, check_mode, diff):
    """The module; ``data`` is what the action made of its options."""
    # Whoever runs the play may have a narrow umask; the application must read its code.
    os.umask(0o022)
    deploy = Deploy(data)
    name, changed, states = deploy.app["name"], False, data["state"]
    try:
        # A step in the middle does not begin without the lock, or after somebody took it away.
        deploy.lock(take=states[0] in ("locked", "staged"), step=STEPS.get(states[0]))
        if not deploy.owns_lock and states != ["abandoned"]:
            raise ReleaseError("another run took over the lock, so this one stops")
        for number, state in enumerate(states):
            if number:
                deploy.begin(STEPS[state])
            try:
                changed = getattr(deploy, state)() or changed
            except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
                raise ReleaseError(deploy.tell(error)) from error
            deploy.end()
    except LockedError as error:
        holder = {"user": "root", "controller": "this host", "since": time.time(), "run": "", **error.holder}
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder["since"]))
        raise Failed(
            f"{name}: a deploy by {holder['user']} on {holder['controller']} is under way since {since}; wait for it,"
            " or take over with -e asgi_break_lock=true if it is dead",
            holder=holder,
        ) from error
    except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"{name}: {error}", step=deploy.holder.get("step")) from error
    live = deploy.application.live()
    mask = deploy.mask()
    return {
        "changed": changed,
        "output": shorten(deploy.output, 40),
        "live": live.id if live else None,
        "checklist": deploy.checklist,
        "warnings": mask.of_all(deploy.warnings),
        "after": deploy.after,
    }
