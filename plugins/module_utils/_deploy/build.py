# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes the venv of a release and what its builds add to the code, then gives both to root."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.packages import installed, missing, too_old
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import ReleaseError, printable
from ansible_collections.vivarium.server.plugins.module_utils._deploy.packages import MEMBER, Packages
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import BUILD_PATH, write_for_group

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


class Build(Packages):
    """The step built."""

    def built(self) -> bool:
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

    def seal(self, path: Path) -> None:
        """From here on nobody but root can change what lies there; the application and its builds read it, others do not."""
        seal(path, self.builder(), grp.getgrnam(self.app["user"]).gr_gid)

    def uv(self, *arguments: str) -> None:
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

    def venv_key(self, code: Path) -> str | None:
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
            program = os.stat(interpreter)
            interpreter += f" {program.st_size} {program.st_mtime_ns}"
        parts += [
            interpreter.encode(),
            self.app["python"].encode(),
            json.dumps(self.data["server"]["packages"]).encode(),
        ]
        # Who may read a venv has changed once: those from before are no twins.
        parts.append(b"read by the application's group")
        return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def make_venv(self, code: Path, venv: Path) -> None:
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

    def build(self) -> None:
        """The application's own commands, which write what they make into its code: with the network, and without its secrets."""
        self.work_in(self.tree)
        # Nothing of one build is there in the next, which may be of other code.
        with self.build_environment(HOME="/tmp", PATH=f"{self.release.path / 'venv/bin'}:{BUILD_PATH}") as path:  # noqa: S108
            for command in self.app["build"]:
                if self.in_build([self.tree], *shlex.split(command), environment=path) != 0:
                    raise ReleaseError(f"the build command '{command}' failed:\n{self.output}")
        self.take_over(self.tree)

    def work_in(self, code: Path, *places: Path) -> None:
        """The same with the code as it is, and other directories that begin empty."""
        self.work_on(*places)
        os.rename(code, self.work / code.name)
        self.hand_to_builder(code)

    def work_on(self, *places: Path) -> None:
        """Directories in which code of the project is to write: it sees them in their places, but they lie elsewhere."""
        self.work.mkdir(mode=0o711, exist_ok=True)
        for place in places:
            self.hand_to_builder(place)
            self.hand_to_builder(self.work / place.name)

    def take_over(self, *places: Path) -> None:
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

    def add_server(self) -> None:
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


def seal(path: Path, builder: int, group: int) -> None:
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
