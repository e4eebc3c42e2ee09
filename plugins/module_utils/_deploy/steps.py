# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every step of a deploy has: the application, its release, and how commands of the project are run for it."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    PROGRAMS,
    Application,
    Mask,
    Release,
    ReleaseError,
    end_processes,
    journal,
    printable,
    process_units,
    run,
    secret_parts,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO, Any

BUILD_PATH = "/usr/local/bin:/usr/bin:/bin"
# How much of what a step printed is kept (lines).
OUTPUT_LINES = 1000
# How long systemd may take to start or stop units; the longest of their own limits (seconds).
SYSTEMCTL_LIMIT = 3600


class Step:
    """What every concern of a deploy builds on; `release` is the one that the steps are taken for."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.app = data["application"]
        self.application = Application(self.app["name"])
        self.release = self.application.release(data["release"]["id"])
        self.data = data
        # What a step's command printed: for people, and as it is.
        self.output = self.printed = ""
        self.checklist: list[str] = []
        self.warnings: list[str] = []
        # After a failure, for people.
        self.after: dict[str, Any] = {}
        self.owns_lock = False
        # What was sent: the code itself, or what the project is a directory of, as `code` links to it then.
        self.tree = self.release.path / ("repository" if self.app["source"].get("subdirectory") else "code")
        # Where code of the project writes while it is being built.
        self.work = self.release.path / "build"
        # What runs of a step on the host, one command at a time; no process or timer of an application has such a name.
        self.step_unit = f"{self.app['name']}.step.service"
        # What the lock says while this run holds it: who, for which release, what the steps have taken so far.
        self.holder: dict[str, Any] = {}

    def account(self, user: str, home: str) -> pwd.struct_passwd:
        """The application's account of a name. One that was there before (a person's, with sudo perhaps) is not its own."""
        found = pwd.getpwnam(user)
        if found.pw_dir != home:
            raise ReleaseError(
                f"this host has an account '{user}' already (home {found.pw_dir}), which is not the application's;"
                " give the application another name"
            )
        return found

    def builder(self) -> int:
        """The number of the build user."""
        return self.account(self.app["build_user"], self.app["build_home"]).pw_uid

    def builder_group(self) -> int:
        return pwd.getpwnam(self.app["build_user"]).pw_gid

    def hand_to_builder(self, path: Path) -> None:
        """A directory for the build user alone; where it is there already, it is his already."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            shutil.chown(path, self.app["build_user"], self.app["build_user"])

    def run_hooks(self, moment: str) -> None:
        """The application's own commands, in the release, with its environment and sandbox."""
        for command in self.app["hooks"][moment]:
            if self.run([], *shlex.split(command)) != 0:
                raise ReleaseError(f"the hook {moment}, '{command}', failed:\n{self.output}")

    @contextlib.contextmanager
    def build_environment(self, **own: str) -> Iterator[Path]:
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

    def in_build(
        self, writable: Iterable[Path], *command: str, environment: Path | None = None, options: Iterable[str] = ()
    ) -> int:
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

    def as_builder(self, options: Iterable[str], command: Iterable[str], place: str | None = "/", **stdin: Any) -> int:
        """Run a command as the build user in its sandbox; nothing of it runs any more when this returns."""
        where = [f"--working-directory={place}"] if place else []
        code = self.program("build", [*where, *options], command, **stdin)
        end_processes(self.builder())
        return code

    def django(self) -> tuple[str, ...]:
        """How Django's commands are run: by the project's own program where there is one, which may extend sys.path."""
        return (
            ("python", "manage.py") if (self.release.path / "code/manage.py").is_file() else ("python", "-m", "django")
        )

    def run(self, options: Iterable[str], *command: str) -> int:
        """Run a command in this release exactly as the service runs: its user, environment and sandbox."""
        return self.program("run", options, command)

    def program(
        self, program: str, options: Iterable[str], command: Iterable[str], stdin: int | IO[bytes] = subprocess.DEVNULL
    ) -> int:
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
        mask = self.mask()
        # Of a secret that a line is cut in, the beginning would stay; one with colours in it is found once they are gone.
        self.output = mask(shorten(mask(output)))
        if code != 0 and time.monotonic() - begun >= limit:
            self.output += f"\nIt did not end within the {limit} s of step_timeout."
        return code

    def mask(self) -> Mask:
        """Takes secrets out of a text: the release's own, and those of its builds."""
        private = re.compile("pass|token|secret|key|auth|credential", re.IGNORECASE)
        build = {name: str(value) for name, value in self.data["build_environment"].items()}
        # The address of a package index may be told, who logs in there not.
        accounts = (part for value in build.values() if "://" in value for part in list(secret_parts(value))[1:])
        return Mask(self.release, [*accounts, *(value for name, value in build.items() if private.search(name))])

    def clear(self, release: Release) -> None:
        """Remove a release whole; one that is half gone after a kill has no record and is never taken for a good one."""
        (release.path / "release.json").unlink(missing_ok=True)
        # A build can put directories into one another so deep that Python does not find its way.
        run(["rm", "--recursive", "--force", "--one-file-system", str(release.path)], timeout=None)
        if os.path.lexists(release.socket):
            systemctl("stop", release.socket_unit, check=False)
            Path(release.socket).unlink(missing_ok=True)  # one that no unit holds

    def processes(self) -> list[str]:
        """The background processes that the release has a command for: it may have been made before the others."""
        return [name for name in self.app["processes"] if (self.release.path / "commands" / name).is_file()]

    def process_units(self, release: Release) -> list[str]:
        return process_units(release, self.processes())


def quoted(value: str) -> str:
    """A value as systemd's EnvironmentFile has it: nothing in it has a meaning."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def systemctl(*arguments: str, check: bool = True) -> str:
    errors = subprocess.STDOUT if check else subprocess.DEVNULL
    code, output = run(["systemctl", *arguments], timeout=SYSTEMCTL_LIMIT, stderr=errors)
    if check and code != 0:
        units = [argument for argument in arguments if "@" in argument]
        lines = journal(units[0]) if units else ""
        raise ReleaseError(f"systemctl {' '.join(arguments)} failed: {printable(output).strip()}\n{lines}")
    return output


def shorten(text: str, lines: int = OUTPUT_LINES) -> str:
    """The last lines of an output, without terminal colours."""
    kept = printable(re.sub(r"\x1b\[[0-9;]*m", "", text)).strip().splitlines()
    return "\n".join(line[:500] for line in kept[-lines:])


def write_for_group(path: Path, text: str, group: int) -> None:
    """A file that a group reads and root alone writes; from its first moment nobody else reads it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        os.fchown(descriptor, 0, group)
        os.fchmod(descriptor, 0o640)
