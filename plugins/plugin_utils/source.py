# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Resolves an application's source on the controller: what it is exactly, and the archive to send.

The servers need no access to a repository and hold no deploy key; every host of a fleet gets the same commit.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

# What a directory holds that is nobody's source. Inside a git work tree git's own ignore rules come on top.
NEVER_SENT = frozenset({".git", ".hg", ".venv", "venv", "__pycache__", "node_modules", ".pytest_cache", ".ruff_cache"})
COMMIT = re.compile(r"[0-9a-f]{40}")


class SourceError(Exception):
    """The source cannot be used; the message names the variable and the reason."""


@dataclass(frozen=True)
class Source:
    """A resolved source: ``fingerprint`` changes when the code does, ``version`` is what a person calls it."""

    kind: str
    location: str
    fingerprint: str
    version: str
    base: Path | None = None

    def archive(self, target):
        """Write the code as a gzipped tar archive to the file ``target``."""
        if self.kind == "git":
            _git_archive(self, target)
        elif self.kind == "path":
            _pack(Path(self.location), _tracked(Path(self.location)), target)
        elif self.kind == "archive":
            shutil.copyfile(self.location, target)
        else:
            raise SourceError(f"a {self.kind} has no archive")


def resolve(source, basedir, cache):
    """Resolve one application's ``source``; relative paths count from ``basedir``, ``cache`` holds git repositories."""
    if source.get("git"):
        return _resolve_git(source["git"], source["version"], Path(cache))
    if source.get("package"):
        package = source["package"]
        return Source("package", package, _digest(package.encode()), package)
    kind = "path" if source.get("path") else "archive"
    location = Path(basedir, os.path.expanduser(source[kind])).resolve()
    if kind == "archive":
        if not location.is_file() or not tarfile.is_tarfile(location):
            raise SourceError(f"source.archive: {location} is not a tar archive on this controller")
        return Source(kind, str(location), _digest(location.read_bytes()), location.name)
    if not location.is_dir():
        raise SourceError(f"source.path: {location} is not a directory on this controller")
    return Source(kind, str(location), _tree_digest(location), _describe(location))


def _digest(data):
    return hashlib.sha256(data).hexdigest()


def _git(*arguments, cwd=None):
    """Run git without ever asking for a password; return what it printed."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    try:
        run = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise SourceError("git is not installed on this controller") from error
    if run.returncode != 0:
        # A URL may carry a token: the message keeps git's reason without it.
        reason = re.sub(r"//[^/@\s]+@", "//***@", run.stderr.decode(errors="replace").strip())
        raise SourceError(f"git {arguments[0]} failed: {reason}")
    return run.stdout


def _resolve_git(url, version, cache):
    repository = cache / f"{_digest(url.encode())[:24]}.git"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{repository.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (repository / "HEAD").is_file():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _git("init", "--quiet", "--bare", f"{scratch}/new.git")
                os.rename(f"{scratch}/new.git", repository)
        commit = _known_commit(repository, version) if COMMIT.fullmatch(version) else None
        if not commit:
            commit = _remote_commit(url, version, repository)
    return Source("git", url, commit, f"{version} ({commit[:12]})" if version != commit else commit[:12], repository)


def _known_commit(repository, commit):
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", cwd=repository).decode().strip()
    except SourceError:
        return None


def _remote_commit(url, version, repository):
    """The commit that a branch, a tag or a full hash names in the remote repository, fetched into the local one."""
    if COMMIT.fullmatch(version):
        wanted = version
    else:
        names = (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}")
        lines = _git("ls-remote", url, f"refs/tags/{version}", f"refs/tags/{version}^{{}}", f"refs/heads/{version}")
        found = {name: commit for commit, name in (line.split("\t") for line in lines.decode().splitlines())}
        wanted = next((found[name] for name in names if name in found), None)
        if not wanted:
            raise SourceError(f"source.version: '{version}' is no branch, tag or full commit of the repository")
    if not _known_commit(repository, wanted):
        try:
            _git("fetch", "--quiet", "--depth=1", url, wanted, cwd=repository)
        except SourceError:  # a server that does not hand out single commits
            _git("fetch", "--quiet", "--tags", url, "+refs/heads/*:refs/heads/*", cwd=repository)
    if not _known_commit(repository, wanted):
        raise SourceError(f"source.version: commit {wanted} is not in the repository")
    return wanted


def _git_archive(source, target):
    plain = _git("archive", "--format=tar", source.fingerprint, cwd=source.base)
    with gzip.open(target, "wb", compresslevel=6) as stream:
        stream.write(plain)


def _tracked(root):
    """The files of a directory that git would track, or, outside a work tree, all but what nobody sends."""
    try:
        listing = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=root)
        names = {name for name in listing.decode(errors="surrogateescape").split("\0") if name}
    except SourceError:
        names = _walk(root)
    present = (name for name in names if not NEVER_SENT & set(Path(name).parts))
    return sorted(name for name in present if os.path.lexists(root / name))


def _walk(root):
    names = set()
    for directory, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name not in NEVER_SENT]
        names |= {os.path.relpath(os.path.join(directory, file), root) for file in files}
    return names


def _tree_digest(root):
    digest = hashlib.sha256()
    for name in _tracked(root):
        path = root / name
        if path.is_symlink():
            kind, content = "link", os.readlink(path).encode(errors="surrogateescape")
        elif path.is_file():
            kind, content = "exec" if os.access(path, os.X_OK) else "file", path.read_bytes()
        else:
            continue
        digest.update(f"{kind}\0{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    return digest.hexdigest()


def _describe(root):
    """What git calls the state of a directory, or its own name where git knows nothing of it."""
    try:
        return f"{root.name} {_git('describe', '--always', '--dirty', '--tags', cwd=root).decode().strip()}"
    except SourceError:
        return root.name


def _pack(root, names, target):
    def plain(member):
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.mode & 0o100 else 0o644
        return member

    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for name in names:
            archive.add(root / name, arcname=name, recursive=False, filter=plain)
