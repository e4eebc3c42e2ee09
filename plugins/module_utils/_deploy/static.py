# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gathers static files and shows them to nginx, those of older releases behind the live one's."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shlex
import shutil
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import PROGRAMS, Release, ReleaseError, run
from ansible_collections.vivarium.server.plugins.module_utils._deploy.build import Build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# A static file that no kept release has any more is served this long, for pages that browsers still show (seconds).
STATIC_GRACE = 30 * 86400
# A static file while it is put in its place.
SCRATCH = ".vivarium.new"
# How much of a file is held in memory at once (bytes).
BLOCK = 1024 * 1024
# What nginx serves in the place of a file that has the same name without it, to who takes it.
COPIES = (".br", ".gz")
# They are made while nobody else wants the processor or the disk, and not for long: the program itself ends sooner
# (roles/asgi/files/compress).
IN_PASSING = ("Nice=19", "CPUWeight=10", "IOSchedulingClass=idle", "RuntimeMaxSec=60")


class Static(Build):
    """The step collected, and what is left of it when others are live."""

    def collected(self) -> bool:
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
        self.compress(target)
        self.take_over(target)
        self.seal(target)
        self.show(self.release)
        return True

    def compress(self, target: Path) -> None:
        """Lay compressed copies beside the files while they are the build user's; those of unchanged files are taken on."""
        place, before = self.work / target.name, self.application.live()
        command = [f"{PROGRAMS}/compress", str(place)]
        if before and before != self.release:
            command.append(str(before.path / target.name))
        options = [f"--property={line}" for line in (f"ReadWritePaths={place}", *IN_PASSING)]
        if self.as_builder(options, command) != 0:
            # nginx compresses them as it sends them.
            self.warnings.append(f"{self.app['name']}: static files were not compressed:\n{self.output}")

    def show(self, release: Release) -> None:
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

    def offer(self, *releases: Release) -> None:
        """See to it that nginx finds the static files of these releases once they are live."""
        for release in releases:
            self.unless_it_fails(self.show, release)

    def keep(self, *releases: Release) -> None:
        """See to it that nginx finds the static files of these releases when they are live no more."""
        for release in releases:
            self.unless_it_fails(self.publish, release.path / "public", self.application.root / "static")

    def unless_it_fails(self, work: Callable[..., None], *arguments: Any) -> None:
        """A disk that is full is no reason to keep requests from a good release, or to leave them with a bad one."""
        try:
            work(*arguments)
        except OSError as error:
            self.warnings.append(f"{self.app['name']}: static files of older releases may be missing ({error})")

    def publish(self, source: Path, target: Path) -> None:
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
                for copy in COPIES:
                    # It was one of another file.
                    if not os.path.lexists(f"{new}{copy}") and not os.path.isdir(f"{old}{copy}"):
                        Path(f"{old}{copy}").unlink(missing_ok=True)

    def prune_static(self, releases: list[Release]) -> None:
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


def pieces(descriptor: int) -> Iterator[tuple[int, int]]:
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


def copy_content(source: int, target: int) -> None:
    """Copy from one descriptor to another, holes included; what grows meanwhile is not followed."""
    os.ftruncate(target, os.fstat(source).st_size)
    for begin, end in pieces(source):
        os.pwrite(target, os.pread(source, end - begin, begin), begin)


def put_link(source: Path, target: Path) -> None:
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


def put_copy(source: Path, target: Path) -> None:
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


def same_file(one: Path, other: Path) -> bool:
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
