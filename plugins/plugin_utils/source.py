# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Resolves an application's source on the controller: what it is exactly, and the archive to send.

The servers need no access to a repository and hold no deploy key; every host of a fleet gets the same commit.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible.errors import AnsibleError
from ansible_collections.vivarium.server.plugins.plugin_utils.run import agreed, cache_directory

# What a directory holds that is nobody's source, unless git tracks it. git's own ignore rules come on top.
NEVER_SENT = frozenset({".git", ".hg", ".venv", "venv", "__pycache__", "node_modules", ".pytest_cache", ".ruff_cache"})
COMMIT = re.compile(r"[0-9a-f]{40}")


class SourceError(Exception):
    """The source cannot be used; the message names the variable and the reason."""


class GitError(SourceError):
    """git said no."""


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
            _gzipped(self.location, target)
        else:
            raise SourceError(f"a {self.kind} has no archive")


def resolve_application(application, variables):
    """The resolved source of one application of a play, or an error that names its variable."""
    # An inventory that is no file (-i host,) has no directory.
    basedir = next((path for path in [variables.get("inventory_dir")] if path and os.path.isabs(path)), ".")
    try:
        return resolve(application["source"], basedir, cache_directory() / "git")
    except (SourceError, OSError) as error:
        raise AnsibleError(f"asgi_apps ({application['name']}): {error}") from error


def resolve(source, basedir, cache):
    """Resolve one application's ``source``; relative paths count from ``basedir``, ``cache`` holds git repositories."""
    if source.get("git"):
        with _deploy_key(source.get("key"), basedir) as options:
            return _resolve_git(_repository_url(source["git"], basedir), source["version"], Path(cache), options)
    if source.get("package"):
        package = source["package"]
        return Source("package", package, _digest(package.encode()), without_credentials(package))
    kind = "path" if source.get("path") else "archive"
    location = Path(basedir, os.path.expanduser(source[kind])).resolve()
    if kind == "archive":
        if not location.is_file() or not tarfile.is_tarfile(location):
            raise SourceError(f"source.archive: {location} is not a tar archive on this controller")
        return Source(kind, str(location), _read_into(hashlib.sha256(), location).hexdigest(), location.name)
    if not location.is_dir():
        raise SourceError(f"source.path: {location} is not a directory on this controller")
    names = _tracked(location)
    if not names:
        raise SourceError(f"source.path: {location} holds no files, or none that git would track")
    return Source(kind, str(location), _tree_digest(location, names), _describe(location))


def _digest(data):
    return hashlib.sha256(data).hexdigest()


def _read_into(digest, path):
    """A file of any size, piece by piece."""
    with open(path, "rb") as stream:
        while piece := stream.read(1024 * 1024):
            digest.update(piece)
    return digest


def without_credentials(text):
    """A URL may carry a token: show the rest."""
    return re.sub(r"//[^\s'\"]*@", "//***@", text)


@contextlib.contextmanager
def _deploy_key(key, basedir):
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


def _git(*arguments, cwd=None, ssh_options=""):
    """Run git without ever asking for a password; return what it printed."""
    # What a git hook sets for its own repository must not lead to that one instead of ours.
    own = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    # Optional locks would be taken on a repository in which somebody may just be working.
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    environment["GIT_SSH_COMMAND"] = environment.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes") + ssh_options
    try:
        # What a repository has configured for itself may be anybody's to run.
        command = ["git", "-c", "core.fsmonitor=false", *arguments]
        run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GitError("git is not installed on this controller") from error
    if run.returncode != 0:
        reason = without_credentials(run.stderr.decode(errors="replace").strip())
        raise GitError(f"git {arguments[0]} failed: {reason.partition('Please make sure')[0].strip()}")
    return run.stdout


def _repository_url(url, basedir):
    """A URL as it is, ``host:path`` as well; a path counts from ``basedir``."""
    if "://" in url or ":" in url.split("/", 1)[0]:
        return url
    return str(Path(basedir, os.path.expanduser(url)).resolve())


def _resolve_git(url, version, cache, ssh_options):
    repository = cache / f"{_digest(url.encode())[:24]}.git"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{repository.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (repository / "HEAD").is_file():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _git("init", "--quiet", "--bare", f"{scratch}/new.git")
                os.rename(f"{scratch}/new.git", repository)
        try:
            commit = version
            if not COMMIT.fullmatch(version):
                # A branch may move while a playbook runs: all its hosts get the same commit.
                commit = agreed(f"{url} {version}", lambda: _remote_commit(url, version, ssh_options))
            _fetch(url, commit, repository, ssh_options)
        except GitError as error:
            raise SourceError(f"source.git: {error}") from error
    return Source("git", url, commit, f"{version} ({commit[:12]})" if version != commit else commit[:12], repository)


def _remote_commit(url, version, ssh_options):
    """The commit that a branch or a tag names in the remote repository."""
    names = (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}")
    lines = _git("ls-remote", "--", url, *names, ssh_options=ssh_options)
    found = {name: commit for commit, name in (line.split("\t") for line in lines.decode().splitlines())}
    commit = next((found[name] for name in names if name in found), None)
    if not commit:
        raise SourceError(f"source.version: '{version}' is no branch, tag or full commit of the repository")
    return commit


def _fetch(url, commit, repository, ssh_options):
    if _is_known(commit, repository):
        return
    try:
        _git("fetch", "--quiet", "--depth=1", "--", url, commit, cwd=repository, ssh_options=ssh_options)
    except GitError:  # a server that does not hand out single commits
        everything = ("--tags", "--", url, "+refs/heads/*:refs/heads/*")
        _git("fetch", "--quiet", *everything, cwd=repository, ssh_options=ssh_options)
    if not _is_known(commit, repository):
        raise SourceError(f"source.version: commit {commit} is not in the repository")


def _is_known(commit, repository):
    try:
        return bool(_git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", cwd=repository))
    except GitError:
        return False


def _git_archive(source, target):
    # git writes the file itself: a commit of kilobytes may hold files of gigabytes.
    _git("archive", "--format=tar.gz", "-6", f"--output={os.path.abspath(target)}", source.fingerprint, cwd=source.base)


def _tracked(root):
    """The files of a directory that git would track, or, outside a work tree, all but what nobody sends."""
    if any((place / ".git").exists() for place in (root, *root.parents)):
        # An error of git must not lead to sending what it ignores: a database, a file with secrets.
        tracked = _listed(root, "--cached")
        names = tracked | {name for name in _listed(root, "--others", "--exclude-standard") if _is_source(name)}
    else:
        names = _walk(root)
    found = set()
    for name in names:
        path = root / name
        if path.is_symlink() or path.is_file():
            found.add(name)
        elif (path / ".git").exists():  # a submodule, or another repository inside
            found |= {os.path.join(name, inner) for inner in _tracked(path)}
        elif path.is_dir():
            raise SourceError(f"source.path: the submodule {path} is not checked out (git submodule update --init)")
    return sorted(found)


def _listed(root, *which):
    listing = _git("ls-files", *which, "-z", cwd=root).decode(errors="surrogateescape")
    return {name.rstrip("/") for name in listing.split("\0") if name}


def _is_source(name):
    return not NEVER_SENT & set(Path(name).parts)


def _walk(root):
    names = set()
    for directory, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name not in NEVER_SENT]
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        names |= {os.path.relpath(os.path.join(directory, file), root) for file in (*files, *links)}
    return names


def _tree_digest(root, names):
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


def _describe(root):
    """What git calls the state of a directory, or its own name where git knows nothing of it."""
    try:
        return f"{root.name} {_git('describe', '--always', '--dirty', '--tags', cwd=root).decode().strip()}"
    except GitError:
        return root.name


def _gzipped(archive, target):
    """The same members, whatever the archive was compressed with: the host unpacks gzip."""
    with open(archive, "rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            shutil.copyfile(archive, target)
            return
    with tarfile.open(archive) as old, tarfile.open(target, "w:gz", compresslevel=6) as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isreg() else None)


def _pack(root, names, target):
    def plain(member):
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.mode & 0o100 else 0o644
        return member

    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for name in names:
            archive.add(root / name, arcname=name, recursive=False, filter=plain)
