# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which packages a project asks for, in whatever file it says so, and how uv is to be told."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import ReleaseError, read_regular
from ansible_collections.vivarium.server.plugins.module_utils._deploy.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


class Packages(Stage):
    """What the step built asks of a project."""

    def described(self, code: Path) -> tuple[Path, dict[str, bytes]]:
        """Where the project says which packages it needs, and its files there: in its directory or the nearest around it."""
        found = [(place, self.files(place, LOCKS)) for place in self.places(code)]
        place, files = next(((place, files) for place, files in found if files), (code, {}))
        if list(files) == ["pyproject.toml"]:
            for around, others in found:
                # The lock file of a workspace lies at its top.
                if around != place and "uv.lock" in others and WORKSPACE.search(others.get("pyproject.toml", b"")):
                    return around, {**others, MEMBER: files["pyproject.toml"]}
        return place, files

    def places(self, code: Path) -> list[Path]:
        """The project's directory and those around it, up to the top of what was sent."""
        inside = self.app["source"].get("subdirectory")
        return [code, *(self.tree / place for place in Path(inside).parents)] if inside else [code]

    def files(self, place: Path, names: Iterable[str]) -> dict[str, bytes]:
        within = self.tree if self.app["source"].get("subdirectory") else place
        return {name: content for name in names if (content := project_file(place, name, within)) is not None}

    def required(self, code: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Files of requirements by their paths, as they are seen from the project."""
        for name in names:
            for place in self.places(code):
                if found := self.files(place, [name]):
                    yield self.seen(code, place, name), found[name]
                    break
            else:
                raise ReleaseError(f"the code has no {name}, which install.requirements names")

    def seen(self, code: Path, place: Path, name: str = ".") -> str:
        """What lies in a directory around the project, as commands that run in the project have to name it."""
        return name if place == code else os.path.relpath(str(place / name), self.project())

    def wanted(self, code: Path) -> list[str]:
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

    def refuse_foreign(self, place: Path) -> None:
        """A lock that is not read is not passed over: other versions than those that were tried would go live."""
        for name, how in FOREIGN.items():
            if os.path.lexists(place / name):
                raise ReleaseError(
                    f"the packages of the project are locked in {name}, which is not read here. Make a lock file that is, and"
                    f" commit it: {how}"
                )

    def requirements(self, code: Path, *names: str) -> list[str]:
        """How to install files of requirements; where one has hashes, every package needs one."""
        found = dict(self.required(code, names))
        words = [word for name in found for word in ("--requirements", name)]
        return [
            "pip",
            "install",
            *words,
            *["--require-hashes"] * any(b"--hash=" in content for content in found.values()),
        ]


def project_file(code: Path, name: str, within: Path | None = None) -> bytes | None:
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
