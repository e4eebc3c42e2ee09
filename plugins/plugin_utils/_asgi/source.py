# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Resolves an application's source on the controller: what it is exactly, and the archive to send.

The servers need no access to a repository and hold no deploy key; every host of a fleet gets the same commit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleError
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import printable
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.run import agreed, cache_directory

# How long a packed source is kept for other hosts and later runs (seconds).
KEPT = 86400
# Contents of at most this size can be a pointer of Git LFS, which begins like this (bytes).
POINTER = 1024
# A file of attributes is read up to this size (bytes).
MOST_ATTRIBUTES = 1024 * 1024
# How long a server of HTTP may say nothing at all before it is given up (seconds).
SILENCE = 300
# How much of a list of files, or of their contents, is held at once (bytes): some ten times Linux. A few kilobytes of trees in
# trees are as many files as somebody likes.
MOST_LISTED = 64 * 1024 * 1024
# How many submodules there may be in all, in one another as well; each is asked of whatever server it names.
MOST_MODULES = 300
POINTER_BEGINS = b"version https://git-lfs.github.com/spec/"
# What is no smaller than this goes through git piece by piece.
BIG = "core.bigFileThreshold=8m"
# Where a submodule may lie that says so itself; a path of this controller is not its to name.
REMOTE = re.compile(r"(https?|ssh|git)://.+|[A-Za-z0-9][\w.@-]*:(?!:|//).+")
# What a directory holds that is nobody's source, unless git tracks it. git's own ignore rules come on top.
NEVER_SENT = frozenset({".git", ".hg", ".venv", "venv", "__pycache__", "node_modules", ".pytest_cache", ".ruff_cache"})
COMMIT = re.compile(r"[0-9a-f]{40}")


class SourceError(Exception):
    """The source cannot be used; the message names the variable and the reason."""

    def __str__(self) -> str:
        # Names of files, and what a server answered, are words of somebody else's.
        return printable(super().__str__())


class GitError(SourceError):
    """git said no."""


@dataclass(frozen=True)
class Source:
    """A resolved source: ``fingerprint`` changes when the code does, ``version`` is what a person calls it.

    The project lies in ``subdirectory`` of it. ``modules`` are a git source's submodules: path, commit and repository of each.
    """

    kind: str
    location: str
    fingerprint: str
    version: str
    base: Path | None = None
    subdirectory: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    modules: tuple[tuple[str, str, Path], ...] = ()

    @property
    def identity(self) -> str:
        """What the code of a release is, as its record has it."""
        # Of a directory, the fingerprint is that of what is sent.
        without = f"without {','.join(self.exclude)}" if self.kind == "git" and self.exclude else ""
        return ":".join(filter(None, (self.kind, self.fingerprint, self.subdirectory, without)))

    def archive(self, target: str) -> None:
        """Write the code as a gzipped tar archive, or several in one file, to the file ``target``."""
        if self.kind == "git":
            _git_archive(self, target)
        elif self.kind == "path":
            root = Path(self.location)
            names = _names(root, self.include, self.exclude)
            _pack(root, names, target)
            if _tree_digest(root, names) != self.fingerprint:
                raise SourceError(f"source.path: files in {root} were changed while they were packed; run again")
        elif self.kind == "archive":
            _gzipped(self.location, target)
            if _read_into(hashlib.sha256(), self.location).hexdigest() != self.fingerprint:
                raise SourceError(f"source.archive: {self.location} was changed while it was packed; run again")
        else:
            raise SourceError(f"a {self.kind} has no archive")


def resolve_application(application: dict[str, Any], variables: dict[str, Any]) -> Source:
    """The resolved source of one application of a play, or an error that names its variable."""
    # An inventory that is no file (-i host,) has no directory.
    basedir = next((path for path in [variables.get("inventory_dir")] if path and os.path.isabs(path)), ".")
    try:
        return resolve(application["source"], basedir, cache_directory() / "git")
    except (SourceError, OSError) as error:
        raise AnsibleError(f"asgi_apps ({application['name']}): {error}") from error


def packed(source: Source) -> Path:
    """The code as a file, packed once for all hosts; it lies in the cache for a day, for this user alone."""
    place = cache_directory() / "packed"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = place / f"{_digest(repr((source.location, source.identity)).encode())[:32]}.tar.gz"
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in place.glob("*.gz*"):
            # One of a run that was killed as well.
            if old != target and time.time() - old.stat().st_mtime > KEPT:
                old.unlink()
        if target.exists():
            os.utime(target)
            return target
        # A file that is there is whole.
        with tempfile.NamedTemporaryFile(dir=place, prefix=f"{target.name}.", delete=False) as scratch:
            try:
                source.archive(scratch.name)
                os.replace(scratch.name, target)
            except BaseException:
                os.unlink(scratch.name)
                raise
    return target


def resolve(source: dict[str, Any], basedir: str, cache: Path) -> Source:
    """Resolve one application's ``source``; relative paths count from ``basedir``, ``cache`` holds git repositories."""
    include, exclude = (tuple(source.get(key) or ()) for key in ("include", "exclude"))
    if source.get("git"):
        with _deploy_key(source.get("key"), basedir) as options:
            found = _resolve_git(_repository_url(source["git"], basedir), source["version"], Path(cache), options)
            found = dataclasses.replace(found, subdirectory=source.get("subdirectory") or "", exclude=exclude)
            return _with_modules(found, Path(cache), options)
    if source.get("package"):
        package = source["package"]
        return Source("package", package, _digest(package.encode()), without_credentials(package))
    kind = "path" if source.get("path") else "archive"
    location = Path(basedir, os.path.expanduser(source[kind])).resolve()
    if kind == "archive":
        if not location.is_file() or not tarfile.is_tarfile(location):
            raise SourceError(f"source.archive: {location} is not a tar archive on this controller")
        digest = _read_into(hashlib.sha256(), location).hexdigest()
        return Source(kind, str(location), digest, location.name, subdirectory=source.get("subdirectory") or "")
    if not location.is_dir():
        raise SourceError(f"source.path: {location} is not a directory on this controller")
    names = _names(location, include, exclude)
    if not names:
        raise SourceError(f"source.path: {location} holds no files, or none that git would track")
    subdirectory = _inside(source.get("subdirectory") or "", names, f"{location}, or git tracks nothing there")
    _refuse_pointers(location, names)
    digest = _tree_digest(location, names)
    return Source(kind, str(location), digest, _describe(location), None, subdirectory, include, exclude)


def _inside(subdirectory: str, names: Iterable[str], place: str) -> str:
    """A subdirectory that has files; below a link there are none, so it lies inside the code."""
    if subdirectory and not any(name.startswith(f"{subdirectory}/") for name in names):
        raise SourceError(f"source.subdirectory: there is no directory '{subdirectory}' in {place}")
    return subdirectory


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_into(digest: hashlib._Hash, path: str | Path) -> hashlib._Hash:
    """A file of any size, piece by piece."""
    with open(path, "rb") as stream:
        while piece := stream.read(1024 * 1024):
            digest.update(piece)
    return digest


def without_credentials(text: str) -> str:
    """A URL may carry a token: show the rest."""
    return re.sub(r"//[^\s'\"]*@", "//***@", text)


@contextlib.contextmanager
def _deploy_key(key: str | None, basedir: str) -> Iterator[str]:
    """Options of ssh that make it use a private key, given as a path or as its text, and no other one."""
    if not key:
        yield ""
        return
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "key")
        if "PRIVATE KEY-----" in key:
            path.touch(mode=0o600)
            # ssh wants the end of the last line, and no line ends of another system.
            path.write_text("\n".join(key.split("\r\n")).rstrip() + "\n")
        else:
            path = Path(basedir, os.path.expanduser(key)).resolve()
            if not path.is_file():
                raise SourceError("source.key is neither the text of a private key nor a file on this controller")
        yield f" -oIdentitiesOnly=yes -i {shlex.quote(str(path))}"


def _git(
    *arguments: str,
    cwd: Path | None = None,
    ssh_options: str = "",
    given: bytes | None = None,
    into: int | IO[bytes] = subprocess.PIPE,
    most: int | None = None,
    bare: bool = False,
) -> bytes:
    """Run git without ever asking for a password; return what it printed, unless that goes into a file.

    With ``most``, it is ended once it has printed more than so many bytes; ``bare`` is without what this user has configured.
    """
    # What a git hook sets for its own repository must not lead to that one instead of ours.
    own = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    # Optional locks would be taken on a repository in which somebody may just be working.
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    if bare:
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
        environment |= {"HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull}
    # A repository names the servers of its submodules: one that takes connections and says nothing would be waited for.
    environment |= {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": str(SILENCE)}
    environment["GIT_SSH_COMMAND"] = environment.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes") + ssh_options
    try:
        # What a repository has configured for itself may be anybody's to run. A file that is large is never held in memory.
        command = ["git", "-c", "core.fsmonitor=false", "-c", BIG, *arguments]
        options: dict[str, Any] = {"cwd": cwd, "env": environment}
        if most is not None:
            return _beginning(command, most, **options)
        run = subprocess.run(command, **options, input=given, stdout=into, stderr=subprocess.PIPE, check=False)
    except FileNotFoundError as error:
        raise GitError("git is not installed on this controller") from error
    if run.returncode != 0:
        raise _said_no(arguments[0], run.stderr)
    return run.stdout


def _beginning(command: Sequence[str], most: int, **options: Any) -> bytes:
    """What a command prints, or a little more than ``most`` bytes of it."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, **options, stdout=subprocess.PIPE, stderr=errors) as process:
            said = process.stdout.read(most + 1) if process.stdout else b""
            if len(said) > most:
                process.kill()
                return said
        if process.returncode != 0:
            errors.seek(0)
            raise _said_no("ls-tree", errors.read())
    return said


def _said_no(command: str, errors: bytes) -> GitError:
    reason = without_credentials(errors.decode(errors="replace").strip())
    return GitError(f"git {command} failed: {reason.partition('Please make sure')[0].strip()}")


def _repository_url(url: str, basedir: str) -> str:
    """A URL as it is, ``host:path`` as well; a path counts from ``basedir``."""
    if "://" in url or ":" in url.split("/", 1)[0]:
        return url
    return str(Path(basedir, os.path.expanduser(url)).resolve())


@contextlib.contextmanager
def _cached(url: str, cache: Path) -> Iterator[Path]:
    """A bare repository of this controller for what is fetched from a URL, for one process at a time."""
    repository = cache / f"{_digest(url.encode())[:24]}.git"
    # What is in it is nobody else's to read.
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(cache / f"{repository.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (repository / "HEAD").is_file():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _git("init", "--quiet", "--bare", f"{scratch}/new.git")
                os.rename(f"{scratch}/new.git", repository)
        yield repository


def _resolve_git(url: str, version: str, cache: Path, ssh_options: str) -> Source:
    with _cached(url, cache) as repository:
        try:
            commit = version
            if not COMMIT.fullmatch(version):
                # A branch may move while a playbook runs: all its hosts get the same commit.
                commit = agreed(f"{url} {version}", lambda: _remote_commit(url, version, ssh_options))
            _fetch(url, commit, repository, ssh_options)
        except GitError as error:
            raise SourceError(f"source.git: {error}") from error
    return Source("git", url, commit, f"{version} ({commit[:12]})" if version != commit else commit[:12], repository)


def _remote_commit(url: str, version: str, ssh_options: str) -> str:
    """The commit that a branch or a tag names in the remote repository."""
    names = (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}")
    lines = _git("ls-remote", "--", url, *names, ssh_options=ssh_options)
    # Others come along whose names end like ours, in any bytes.
    found = {
        name: commit
        for commit, _tab, name in (line.partition("\t") for line in lines.decode(errors="replace").split("\n"))
    }
    commit = next((found[name] for name in names if name in found), None)
    if not commit:
        raise SourceError(f"source.version: '{version}' is no branch, tag or full commit of the repository")
    return commit


def _fetch(url: str, commit: str, repository: Path, ssh_options: str) -> None:
    if _is_known(commit, repository):
        return
    # git's other side, where that is this controller, knows nothing of our options.
    other = [] if REMOTE.fullmatch(url) else [f"--upload-pack=git -c {BIG} upload-pack"]
    try:
        _git("fetch", "--quiet", *other, "--depth=1", "--", url, commit, cwd=repository, ssh_options=ssh_options)
    except GitError:  # a server that does not hand out single commits
        # A branch that is gone must not stand in the way of one below its name.
        everything = ("--tags", "--prune", "--", url, "+refs/heads/*:refs/heads/*")
        _git("fetch", "--quiet", *other, *everything, cwd=repository, ssh_options=ssh_options)
    if not _is_known(commit, repository):
        raise SourceError(f"source.version: commit {commit} is not in the repository")


def _is_known(commit: str, repository: Path) -> bool:
    """Whether a commit is there with all that belongs to it: of a fetch that was cut off, it may be there alone."""
    try:
        _git("rev-list", "--quiet", "--objects", "--no-walk", f"{commit}^{{commit}}", "--", cwd=repository)
    except GitError:
        return False
    return True


def _left_out(name: str, exclude: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in exclude)


def _below(exclude: Iterable[str], path: str) -> tuple[str, ...]:
    """What is left out of a repository that lies in another one."""
    return tuple(place.removeprefix(f"{path}/") for place in exclude if place.startswith(f"{path}/"))


def _with_modules(source: Source, cache: Path, ssh_options: str) -> Source:
    """The source with its submodules, and known to hold what it is to hold."""
    try:
        there = source.location, source.fingerprint, source.base or Path()
        names, modules = _contents(*there, source.exclude, cache, ssh_options, _Room())
    except SourceError as error:
        raise SourceError(f"source.git: {error}") from error
    _inside(source.subdirectory, names, f"the repository at {source.version}")
    return dataclasses.replace(source, modules=tuple(modules))


@dataclass
class _Room:
    """What is left of the limits for a source with all its submodules."""

    listed: int = MOST_LISTED
    modules: int = MOST_MODULES

    def take(self, listed: int = 0, modules: int = 0) -> None:
        self.listed -= listed
        self.modules -= modules
        if self.listed < 0:
            raise SourceError(
                f"it has more files than is good for any host (their names take more than {MOST_LISTED >> 20} MiB)"
            )
        if self.modules < 0:
            raise SourceError(f"there are more than {MOST_MODULES} submodules in one another")


def _entries(commit: str, repository: Path, room: _Room, *more: str) -> Iterator[tuple[list[str], str]]:
    """The entries of a commit's trees: what stands before each name, and the name. No more is read than there is room for."""
    listing = _git("ls-tree", "-r", "-z", "--full-tree", *more, commit, cwd=repository, most=room.listed)
    room.take(listed=len(listing))
    for entry in filter(None, listing.decode(errors="surrogateescape").split("\0")):
        said, _tab, name = entry.partition("\t")
        yield said.split(), name


def _contents(
    url: str, commit: str, repository: Path, exclude: tuple[str, ...], cache: Path, ssh_options: str, room: _Room
) -> tuple[list[str], list[tuple[str, str, Path]]]:
    """The files of a commit by their names, and its submodules, which are fetched: path, commit and repository of each."""
    names, links = [], {}
    for (_mode, kind, found), name in _entries(commit, repository, room):
        if kind == "commit":
            links[name] = found
        else:
            names.append(name)
    for place in exclude:
        # What lies in a submodule is looked for there.
        within = any(place.startswith(f"{name}/") for name in links)
        if not within and not any(_left_out(name, [place]) for name in (*names, *links)):
            raise SourceError(f"source.exclude: there is no {place} in the repository")
    if any(name.rpartition("/")[2] == ".gitattributes" for name in names):
        _refuse_pointers_of(commit, repository, exclude, room)
    names = [name for name in names if not _left_out(name, exclude)]
    links = {path: inner for path, inner in links.items() if not _left_out(path, exclude)}
    modules: list[tuple[str, str, Path]] = []
    for path, inner in links.items():
        room.take(modules=1)
        try:
            there = _module_url(path, url, commit, repository)
            with _cached(there, cache) as other:
                _fetch(there, inner, other, ssh_options)
            inside, deeper = _contents(there, inner, other, _below(exclude, path), cache, ssh_options, room)
        except SourceError as error:
            out = " (source.exclude leaves it out)" if isinstance(error, GitError) else ""
            raise SourceError(f"the submodule {path}: {str(error).removeprefix('source.version: ')}{out}") from error
        modules += [(path, inner, other), *((f"{path}/{name}", found, place) for name, found, place in deeper)]
        names += [f"{path}/{name}" for name in inside]
    return names, modules


def _module_url(path: str, url: str, commit: str, repository: Path) -> str:
    """Where a submodule lies, as .gitmodules says it."""
    try:
        said = _git("config", "--null", f"--blob={commit}:.gitmodules", "--list", cwd=repository)
    except GitError:
        said = b""
    options = dict(line.partition("\n")[::2] for line in said.decode(errors="surrogateescape").split("\0") if line)
    place = next(
        (key[: -len(".path")] for key, value in options.items() if key.endswith(".path") and value == path), None
    )
    there = options.get(f"{place}.url", "")
    if there.startswith(("./", "../")):
        return _beside(url, there)
    if not REMOTE.fullmatch(there):
        raise SourceError(
            f".gitmodules says that it lies at '{without_credentials(there)}', which is no URL of a server"
            if there
            else "it is not in .gitmodules"
        )
    return there


def _beside(url: str, relative: str) -> str:
    """A relative URL of a submodule, which counts from its parent's."""
    base = url.rstrip("/")
    while relative.startswith(("./", "../")):
        step, _slash, relative = relative.partition("/")
        if step == "..":
            base = base[: max(base.rfind("/"), base.rfind(":") + 1)] if re.search(r"[^/:][/:]+[^/:]+$", base) else ""
    if not base:
        raise SourceError(".gitmodules names a place outside of the server")
    found = f"{base}{'' if base.endswith((':', '/')) else '/'}{relative}"
    # Beside a repository of this controller there may be others that are not for who writes this one.
    around = os.path.dirname(url.rstrip("/"))
    if not REMOTE.fullmatch(url) and not os.path.normpath(found).startswith(f"{os.path.normpath(around)}/"):
        raise SourceError(f".gitmodules names a directory of this controller that is not in {around}")
    return found


def _refuse_pointers_of(commit: str, repository: Path, exclude: tuple[str, ...], room: _Room) -> None:
    """Whether files of a commit lie in Git LFS: attributes say so, and the files themselves hold no more than where they are."""
    # By what is in them: the same file may be there a million times.
    attributes, small = {}, {}
    for (_mode, _kind, found, size), name in _entries(commit, repository, room, "-l"):
        if not size.isdigit() or int(size) > MOST_ATTRIBUTES:
            continue
        if name.rpartition("/")[2] == ".gitattributes":
            attributes[found] = name
        elif int(size) <= POINTER and not _left_out(name, exclude):
            small[found] = name
    if not any(
        re.search(rb"\bfilter=lfs\b", content)
        for _name, content in _blobs(attributes, repository, MOST_LISTED // MOST_ATTRIBUTES)
    ):
        return
    for name, content in _blobs(small, repository, MOST_LISTED // POINTER):
        if content.startswith(POINTER_BEGINS):
            raise SourceError(
                f"{name} lies in Git LFS, and the repository has a pointer to it alone. Deploy a checkout that has the file"
                " ('git lfs pull' there, and source.path), or leave it out (source.exclude)"
            )


def _blobs(objects: dict[str, str], repository: Path, most: int) -> Iterator[tuple[str, bytes]]:
    """The contents of small files of a repository, by their names; ``most`` are read at once."""
    pairs = iter(objects.items())
    while some := list(itertools.islice(pairs, most)):
        given = "".join(f"{found}\n" for found, _name in some).encode()
        said = _git("cat-file", "--batch", cwd=repository, given=given)
        begin = 0
        for _found, name in some:
            end = said.index(b"\n", begin)
            size = int(said[begin:end].split()[2])
            yield name, said[end + 1 : end + 1 + size]
            begin = end + 1 + size + 1


def _git_archive(source: Source, target: str) -> None:
    # The same bytes on each controller: line ends and filters that somebody has configured would change what a commit holds.
    # git writes the file itself: a commit of kilobytes may hold files of gigabytes. One archive follows the other.
    with open(target, "wb") as stream:
        for path, commit, repository in (("", source.fingerprint, source.base), *source.modules):
            prefix = [f"--prefix={path}/"] if path else []
            exclude = _below(source.exclude, path) if path else source.exclude
            without = [f":(exclude,literal){place}" for place in exclude]
            words = ("archive", "--format=tar.gz", "-6", *prefix, commit, "--", *without)
            _git(*words, cwd=repository, into=stream, bare=True)


def _names(root: Path, include: Iterable[str], exclude: Iterable[str]) -> list[str]:
    """The files of a directory that are its source: what git would track, without some of it, and what is asked for besides."""
    for place in exclude:
        if not os.path.lexists(root / place):
            raise SourceError(f"source.exclude: there is no {place} in {root}")
    names = set(_tracked(root, exclude))
    for wanted in include:
        path = root / wanted
        if not path.is_file() and not path.is_dir():
            raise SourceError(
                f"source.include: there is no {wanted} in {root}; what makes it must have run before the deploy"
            )
        if root not in path.resolve().parents:
            raise SourceError(f"source.include: {wanted} leads out of {root}")
        found = {os.path.join(wanted, name) for name in _walk(path, {".git"})} if path.is_dir() else {wanted}
        # A pipe would be waited for.
        names |= {name for name in found if (root / name).is_symlink() or (root / name).is_file()}
    return sorted(names)


def _refuse_pointers(root: Path, names: Iterable[str]) -> None:
    """A checkout without the files that lie in Git LFS."""
    for name in names:
        path = root / name
        if path.is_symlink() or path.stat().st_size > POINTER:
            continue
        with open(path, "rb") as stream:
            if stream.read(len(POINTER_BEGINS)) != POINTER_BEGINS:
                continue
        try:
            told = _git("check-attr", "-z", "filter", "--", path.name, cwd=path.parent).split(b"\0")[2:3]
        except GitError:  # no repository: nobody says that it is meant
            told = [b"lfs"]
        if told == [b"lfs"]:
            raise SourceError(
                f"source.path: {name} lies in Git LFS, and {root} has a pointer to it alone: run 'git lfs pull' there, or leave"
                " it out (source.exclude)"
            )


def _tracked(root: Path, exclude: Iterable[str] = ()) -> list[str]:
    """The files of a directory that git would track, or, outside a work tree, all but what nobody sends."""
    if any((place / ".git").exists() for place in (root, *root.parents)):
        # An error of git must not lead to sending what it ignores: a database, a file with secrets.
        tracked = _listed(root, "--cached")
        names = tracked | {name for name in _listed(root, "--others", "--exclude-standard") if _is_source(name)}
    else:
        names = _walk(root)
    found, known = set(), dict[str, bool]()
    for name in names:
        # git knows files by names that a link leads away from since: it is the link that is sent.
        if _left_out(name, exclude) or _behind_link(root, name, known):
            continue
        path = root / name
        if path.is_symlink() or path.is_file():
            found.add(name)
        elif (path / ".git").exists():  # a submodule, or another repository inside
            found |= {os.path.join(name, inner) for inner in _tracked(path, _below(exclude, name))}
        elif path.is_dir():
            raise SourceError(f"source.path: the submodule {path} is not checked out (git submodule update --init)")
    return sorted(found)


def _behind_link(root: Path, name: str, known: dict[str, bool]) -> bool:
    """Whether one of the directories that a file lies in is a link; ``known`` are those that were looked at."""
    directory = os.path.dirname(name)
    if directory and directory not in known:
        known[directory] = os.path.islink(root / directory) or _behind_link(root, directory, known)
    return bool(directory) and known[directory]


def _listed(root: Path, *which: str) -> set[str]:
    listing = _git("ls-files", *which, "-z", cwd=root).decode(errors="surrogateescape")
    return {name.rstrip("/") for name in listing.split("\0") if name}


def _is_source(name: str) -> bool:
    return not NEVER_SENT & set(Path(name).parts)


def _walk(root: Path, without: Container[str] = NEVER_SENT) -> set[str]:
    names = set()
    for directory, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name not in without]
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        names |= {os.path.relpath(os.path.join(directory, file), root) for file in (*files, *links)}
    return names


def _tree_digest(root: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        path = root / name
        if path.is_symlink():
            kind, content = "link", os.readlink(path).encode(errors="surrogateescape")
        else:
            kind, content = "exec" if path.stat().st_mode & 0o100 else "file", None
        size = path.stat().st_size if content is None else len(content)
        digest.update(f"{kind}\0{name}\0{size}\0".encode(errors="surrogateescape") + (content or b""))
        if content is None:
            _read_into(digest, path)
    return digest.hexdigest()


def _describe(root: Path) -> str:
    """What git calls the state of a directory, or its own name where git knows nothing of it."""
    try:
        # Not describe's own --dirty: it writes to the repository, which has hooks, and looks into submodules, which have filters.
        name = printable(_git("describe", "--always", "--tags", cwd=root).decode(errors="replace").strip())
        without = _without_filters(root)
        look = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
        changed = without is not None and _git(*without, *look, cwd=root)
    except GitError:
        return root.name
    return f"{root.name} {name}{'-dirty' if changed else ''}"


def _without_filters(root: Path) -> list[str] | None:
    """Options of git that turn off the filters of a repository's own configuration, which are programs; None where none can."""
    listing = _git("config", "--null", "--show-scope", "--list", cwd=root).decode(errors="surrogateescape").split("\0")
    ours, others = {}, set()
    for scope, entry in zip(listing[::2], listing[1::2], strict=False):
        key, _newline, value = entry.partition("\n")
        if key.startswith("filter."):
            if scope in ("system", "global", "command"):
                ours[key] = value
            else:
                others.add(key)
    if any("=" in key for key in others):
        return None
    return [word for key in sorted(others) for word in ("-c", f"{key}={ours.get(key, '')}")]


def _gzipped(archive: str, target: str) -> None:
    """The same members, whatever the archive was compressed with: the host unpacks gzip."""
    with open(archive, "rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            shutil.copyfile(archive, target)
            return
    with tarfile.open(archive) as old, tarfile.open(target, "w:gz", compresslevel=6) as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
            # Both would remember all members.
            old.members.clear()  # type: ignore[attr-defined]  # tarfile has it, its types do not
            new.members.clear()  # type: ignore[attr-defined]  # likewise


def _pack(root: Path, names: Iterable[str], target: str) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.mode & 0o100 else 0o644
        return member

    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for name in names:
            archive.add(root / name, arcname=name, recursive=False, filter=plain)
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile has it, its types do not
