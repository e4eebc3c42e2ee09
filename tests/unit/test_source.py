"""Where the code comes from: real repositories, directories and archives."""

from __future__ import annotations

import functools
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import tarfile

import pytest
from ansible import constants
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi import source as module
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.source import SourceError, resolve


@pytest.fixture(autouse=True)
def own_git(tmp_path, monkeypatch):
    """The tester's own git configuration has no say."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "gitconfig").write_text("[user]\nname = A\nemail = a@example.com\n[init]\ndefaultBranch = main\n")


class Repository:
    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet")

    def git(self, *arguments):
        return subprocess.run(
            ["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, name, text="x\n"):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, **files):
        for name, text in files.items():
            self.write(name, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "work/shop")
    made.commit(app="one")
    return made


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Resolve a source as a playbook in tmp_path/inventories would, each time in another run unless it is named."""
    runs = itertools.count()

    def resolve_in(what, run=None):
        place = tmp_path / "runs" / (run or f"another-{next(runs)}")
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(place))
        return resolve(what, tmp_path / "inventories", tmp_path / "cache")

    (tmp_path / "inventories").mkdir()
    return resolve_in


def members(source, tmp_path):
    """What the packed source holds: contents, or where links lead."""
    target = tmp_path / "packed.tar.gz"
    source.archive(target)
    found = {}
    # What unpacks it goes from one archive to the next.
    with tarfile.open(target, "r:gz", ignore_zeros=True) as archive:
        for member in archive:
            if member.isreg():
                found[member.name] = archive.extractfile(member).read().decode()
            elif member.issym():
                found[member.name] = f"-> {member.linkname}"
    return found


# git


def test_branch_tag_annotated_tag_and_commit(repository, find, tmp_path):
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "light")
    repository.git("tag", "--annotate", "--message", "x", "heavy")
    second = repository.commit(app="two")
    url = f"file://{repository.path}"
    for version, commit, content in (
        ("main", second, "two"), ("light", first, "one"), ("heavy", first, "one"), (first, first, "one"),
    ):  # fmt: skip
        source = find({"git": url, "version": version})
        assert (source.kind, source.fingerprint) == ("git", commit)
        assert members(source, tmp_path) == {"app": content}
    assert find({"git": url, "version": "heavy"}).version == f"heavy ({first[:12]})"
    assert find({"git": url, "version": first}).version == first[:12]


def test_branch_with_a_slash_and_an_old_commit_fetched_alone(repository, find, tmp_path):
    first = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "-b", "feature/x")
    second = repository.commit(app="two")
    assert find({"git": str(repository.path), "version": "feature/x"}).fingerprint == second
    assert members(find({"git": str(repository.path), "version": first}), tmp_path) == {"app": "one"}


def test_a_moved_branch_is_seen_but_not_within_one_run(repository, find):
    what = {"git": str(repository.path), "version": "main"}
    first = find(what, run="a").fingerprint
    second = repository.commit(app="two")
    assert find(what, run="a").fingerprint == first
    assert find(what, run="b").fingerprint == second
    assert find(what).fingerprint == second


def test_a_known_commit_needs_no_repository(repository, find, tmp_path):
    commit = repository.git("rev-parse", "HEAD")
    what = {"git": str(repository.path), "version": commit}
    find(what)
    repository.path.rename(tmp_path / "gone")
    assert members(find(what), tmp_path) == {"app": "one"}


def test_relative_paths_count_from_the_inventory(repository, find, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    commit = repository.git("rev-parse", "HEAD")
    assert find({"git": "../work/shop", "version": "main"}).fingerprint == commit
    assert find({"git": "~/work/shop", "version": "main"}).fingerprint == commit
    assert find({"path": "../work/shop"}).location == str(repository.path)
    with tarfile.open(tmp_path / "inventories/shop.tar.gz", "w:gz") as archive:
        archive.add(repository.path / "app", "app")
    assert find({"archive": "shop.tar.gz"}).location == str(tmp_path / "inventories/shop.tar.gz")


@pytest.mark.parametrize("url", ["git@git.example.com:shop.git", "ssh://git@git.example.com/shop.git", "host:shop"])
def test_remote_urls_stay_as_they_are(url):
    assert module._repository_url(url, "/base") == url


@pytest.mark.parametrize("version", ["nosuch", "deadbeef", "0" * 40])
def test_an_unknown_version_is_named(repository, find, version):
    with pytest.raises(SourceError, match=rf"source\.version: .*{version}"):
        find({"git": str(repository.path), "version": version})


def test_a_repository_that_is_not_there(find):
    with pytest.raises(SourceError, match=r"^source\.git: git ls-remote failed: .*nosuch"):
        find({"git": "../nosuch", "version": "main"})


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@127.0.0.1:1/shop.git",
        "https://hunter2@127.0.0.1:1/shop.git",
        "https://user:hunter2/x@127.0.0.1:1/shop.git",
        "ssh://user:hunter2@127.0.0.1:1/shop.git",
    ],
)
def test_a_token_in_the_url_is_not_told(find, url):
    for version in ("main", "1" * 40):
        with pytest.raises(SourceError) as raised:
            find({"git": url, "version": version})
        assert "hunter2" not in str(raised.value)


def test_a_token_in_a_package_is_not_told(find):
    source = find({"package": "shop @ https://user:hunter2@example.com/shop.whl"})
    assert source.version == "shop @ https://***@example.com/shop.whl"


def test_git_of_a_hook_does_not_mislead(repository, find, monkeypatch, tmp_path):
    other = Repository(tmp_path / "other")
    other.commit(secret="x")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git/index"))
    assert members(find({"path": "../work/shop"}), tmp_path) == {"app": "one"}
    assert members(find({"git": "../work/shop", "version": "main"}), tmp_path) == {"app": "one"}


# a deploy key

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----"
# In the place of ssh: notes what it was told and what lay there, and is the other side itself.
SSH = """#!/bin/sh
while [ "$1" != git@git.example.com ]; do
  case $1 in -i) key=$2; shift;; -oIdentitiesOnly=yes) alone=yes;; esac
  shift
done
[ "$alone" = yes ] && echo "$(stat -c %a "$key") $(stat -c %n "$key")" >> {place}/seen && cat "$key" > {place}/key
exec sh -c "$2"
"""


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH.replace("{place}", str(tmp_path)))
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", KEY.replace("\n", "\r\n")])
def test_a_deploy_key_from_vault_lies_in_a_private_file_and_is_gone(repository, find, ssh, text, tmp_path):
    what = {"git": f"git@git.example.com:{repository.path}", "version": "main", "key": text}
    assert members(find(what), tmp_path) == {"app": "one"}
    for line in (ssh / "seen").read_text().splitlines():
        mode, path = line.split()
        assert mode == "600" and not os.path.exists(path)
    assert (ssh / "key").read_text() == f"{KEY}\n"


def test_a_deploy_key_may_be_a_file(repository, find, ssh, tmp_path):
    (tmp_path / "inventories/deploy key").write_text(KEY)
    what = {"git": f"ssh://git@git.example.com{repository.path}", "version": "main", "key": "deploy key"}
    assert members(find(what), tmp_path) == {"app": "one"}
    assert (ssh / "key").read_text() == KEY


def test_a_deploy_key_is_not_told(repository, find, ssh):
    for key in (KEY, "hunter2"):
        with pytest.raises(SourceError) as raised:
            find({"git": "git@git.example.com:/nosuch", "version": "main", "key": key})
        assert "hunter2" not in str(raised.value)


def link(repository, path, url, commit):
    """A submodule as a commit has it."""
    with open(repository.path / ".gitmodules", "a") as stream:
        stream.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
    repository.git("add", ".gitmodules")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    repository.git("commit", "--quiet", "--message", "x")


def test_submodules_come_along(repository, find, tmp_path):
    inner, part = Repository(tmp_path / "work/inner"), Repository(tmp_path / "work/part")
    deep = inner.commit(deep="x")
    inner.commit(deep="not the one that is named")
    part.commit(module="x")
    link(part, "lib/inner", "./../inner", deep)
    link(repository, "parts/part", "../part", part.git("rev-parse", "HEAD"))
    for url in (f"file://{repository.path}", "../work/shop"):
        source = find({"git": url, "version": "main"})
        found = members(source, tmp_path)
        assert found["parts/part/module"] == found["parts/part/lib/inner/deep"] == "x" and found["app"] == "one"
        # A project may lie in one.
        find({"git": url, "version": "main", "subdirectory": "parts/part/lib"})


@pytest.mark.parametrize(
    "place", ["{}/work/part", "file://{}/work/part", "ext::sh -c id", "-oProxyCommand=x", "../../.."]
)
def test_a_submodule_names_no_place_of_the_controller(repository, find, tmp_path, place):
    part = Repository(tmp_path / "work/part")
    link(repository, "part", place.format(tmp_path), part.commit(module="x"))
    with pytest.raises(SourceError, match=r"source\.git: the submodule part: "):
        find({"git": f"file://{repository.path}", "version": "main"})


def test_a_submodule_that_cannot_be_fetched_is_named(repository, find, tmp_path):
    link(repository, "a/part", "../nosuch", "1" * 40)
    with pytest.raises(SourceError, match=r"^source\.git: the submodule a/part: git fetch failed: "):
        find({"git": f"file://{repository.path}", "version": "main"})
    Repository(tmp_path / "work/nosuch").commit(x="x")
    with pytest.raises(SourceError, match=r"^source\.git: the submodule a/part: commit 1{40} is not in the repository"):
        find({"git": f"file://{repository.path}", "version": "main"})


@pytest.mark.parametrize(
    ("url", "relative", "expected"),
    [
        ("https://me:token@git.example.com/a/shop.git", "../part.git", "https://me:token@git.example.com/a/part.git"),
        ("https://git.example.com/a/shop/", "../../b/part", "https://git.example.com/b/part"),
        ("git@git.example.com:a/shop.git", "../part.git", "git@git.example.com:a/part.git"),
        ("git@git.example.com:shop.git", "../part.git", "git@git.example.com:part.git"),
        ("ssh://git@git.example.com:2222/a/shop", "../part", "ssh://git@git.example.com:2222/a/part"),
        ("/srv/git/shop", "./part", "/srv/git/shop/part"),
    ],
)
def test_relative_urls_of_submodules(url, relative, expected):
    assert module._beside(url, relative) == expected


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def test_a_file_in_git_lfs_is_named_and_no_pointer_goes_live(repository, find, tmp_path):
    repository.commit(**{"media/logo.png": POINTER})
    # Without the attribute it is a file like others.
    assert members(find({"git": str(repository.path), "version": "main"}), tmp_path)["media/logo.png"] == POINTER
    find({"path": "../work/shop"})
    repository.commit(**{"media/.gitattributes": "*.png filter=lfs diff=lfs -text\n"})
    with pytest.raises(SourceError, match=r"^source\.git: media/logo\.png lies in Git LFS"):
        find({"git": str(repository.path), "version": "main"})
    with pytest.raises(SourceError, match=r"^source\.path: media/logo\.png lies in Git LFS.*git lfs pull"):
        find({"path": "../work/shop"})
    repository.write("media/logo.png", "the picture")
    assert members(find({"path": "../work/shop"}), tmp_path)["media/logo.png"] == "the picture"


def test_what_is_left_out_is_neither_fetched_nor_sent(repository, find, tmp_path):
    inner, part = Repository(tmp_path / "work/inner"), Repository(tmp_path / "work/part")
    part.commit(**{"docs/text": "x", "docs/more": "x"})
    link(part, "inner", "../inner", inner.commit(deep="x"))
    repository.commit(
        **{"media/x.png": POINTER, "media/x.png.txt": "x", ".gitattributes": "*.png filter=lfs\n", "documents": "x"}
    )
    link(repository, "lost", "../nosuch", "1" * 40)
    link(repository, "part", "../part", part.git("rev-parse", "HEAD"))
    without = ["lost", "media/x.png", "part/inner", "part/docs/text"]
    source = find({"git": str(repository.path), "version": "main", "exclude": without})
    assert set(members(source, tmp_path)) == {
        "app", "documents", "media/x.png.txt", "part/docs/more", ".gitattributes", ".gitmodules", "part/.gitmodules",
    }  # fmt: skip
    assert (
        source.identity != find({"git": str(repository.path), "version": "main", "exclude": [*without, "app"]}).identity
    )
    with pytest.raises(SourceError, match="there is no nosuch"):
        find({"git": str(repository.path), "version": "main", "exclude": [*without, "nosuch"]})


def test_what_is_left_out_of_a_directory_is_not_sent(repository, find, tmp_path):
    repository.commit(**{"docs/a": "x", "docs2": "x", ".gitattributes": "*.png filter=lfs\n"})
    link(repository, "lost", "../nosuch", "1" * 40)
    (repository.path / "lost").mkdir()
    repository.write("x.png", POINTER)
    source = find({"path": "../work/shop", "exclude": ["lost", "docs", "x.png"]})
    assert set(members(source, tmp_path)) == {"app", "docs2", ".gitattributes", ".gitmodules"}
    with pytest.raises(SourceError, match=r"source\.exclude: there is no nosuch"):
        find({"path": "../work/shop", "exclude": ["nosuch"]})


def test_a_pointer_of_a_submodule_is_named(repository, find, tmp_path):
    part = Repository(tmp_path / "work/part")
    link(repository, "part", "../part", part.commit(**{".gitattributes": "x filter=lfs\n", "x": POINTER}))
    with pytest.raises(SourceError, match=r"the submodule part: x lies in Git LFS"):
        find({"git": str(repository.path), "version": "main"})


# a project in a directory of its repository


def test_the_whole_repository_comes_with_a_project_in_a_directory(repository, find, tmp_path):
    repository.commit(**{"backend/app": "x", "lib/code": "x"})
    for what in ({"git": str(repository.path), "version": "main"}, {"path": "../work/shop"}):
        whole, source = find(what), find({**what, "subdirectory": "backend"})
        assert {"backend/app", "lib/code", "app"} <= set(members(source, tmp_path))
        # Another directory is another release of the same code.
        assert source.fingerprint == whole.fingerprint and source.identity != whole.identity
        assert whole.identity == f"{whole.kind}:{whole.fingerprint}"


def test_a_directory_that_is_not_in_the_code_is_named(repository, find, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/app").write_text("x")
    repository.commit(**{"real/app": "x"})
    (repository.path / "out").symlink_to(tmp_path / "outside")
    (repository.path / "in").symlink_to("real")
    repository.write("empty/.gitignore", "*")
    repository.commit(other="x")
    for what in ({"git": str(repository.path), "version": "main"}, {"path": "../work/shop"}):
        for place in ("nosuch", "app", "real/nosuch", "rea", "out", "in", "empty"):
            with pytest.raises(SourceError, match=rf"source\.subdirectory: there is no directory '{place}' in "):
                find({**what, "subdirectory": place})


# path


def test_what_git_ignores_is_sent_where_it_is_asked_for(repository, find, tmp_path):
    repository.commit(**{".gitignore": "dist/\n.env\n*.map\n"})
    repository.write(".env", "hunter2")
    for name in ("web/dist/a.js", "web/dist/deep/venv/b.js", "web/dist/.git/config", "web/app.map"):
        repository.write(name)
    what = {"path": "../work/shop", "include": ["web/dist", "web/app.map"]}
    before = find(what)
    assert set(members(before, tmp_path)) == {
        ".gitignore", "app", "web/dist/a.js", "web/dist/deep/venv/b.js", "web/app.map",
    }  # fmt: skip
    repository.write("web/dist/a.js", "changed")
    assert find(what).fingerprint != before.fingerprint
    with pytest.raises(SourceError, match=r"source\.include: there is no web/nosuch in .*must have run before"):
        find({"path": "../work/shop", "include": ["web/nosuch"]})


def test_nothing_is_included_from_elsewhere(repository, find, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/key").write_text("hunter2")
    (repository.path / "out").symlink_to(tmp_path / "outside")
    for name in ("out", "out/key"):
        with pytest.raises(SourceError, match=rf"source\.include: {name} leads out of "):
            find({"path": "../work/shop", "include": [name]})


def test_a_source_is_packed_once_for_all_hosts(repository, find, monkeypatch):
    made, archive = [], module.Source.archive
    monkeypatch.setattr(module.Source, "archive", lambda *given: made.append(1) or archive(*given))
    first = module.packed(find({"path": "../work/shop"}))
    # Another run finds it as well.
    assert module.packed(find({"path": "../work/shop"})) == first and made == [1]
    assert (first.stat().st_mode & 0o777, first.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    old = first.with_name("old.tar.gz.cut-off")
    old.write_text("x")
    for path in (first, old):
        os.utime(path, (0, 0))
    repository.write("app", "changed")
    second = module.packed(find({"path": "../work/shop"}))
    assert second != first and sorted(path.name for path in first.parent.iterdir()) == sorted([second.name, "lock"])


def test_a_directory_that_changes_while_it_is_packed_is_not_sent(repository, find):
    source = find({"path": "../work/shop"})
    repository.write("app", "changed")
    with pytest.raises(SourceError, match=r"were changed while they were packed; run again"):
        module.packed(source)
    assert [path.name for path in module.cache_directory().joinpath("packed").iterdir()] == ["lock"]


# Prints how much more memory each source took than there was, of this process and of the largest that it has started (bytes).
MEMORY = """
import json, resource, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([sys.argv[1]])
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi import run, source

def most():
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

run.this_run = lambda: "a run"
before = most()
for what in json.loads(sys.argv[3]):
    source.packed(source.resolve(what, sys.argv[2], sys.argv[2] + "/git"))
    print(most() - before)
"""


def test_a_large_source_takes_little_memory(repository, tmp_path):
    size = 128 * 1024 * 1024
    with open(repository.path / "large", "wb") as stream:
        stream.truncate(size)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "x")
    with tarfile.open(tmp_path / "large.tar.xz", "w:xz", preset=0) as archive:
        archive.add(repository.path / "large", arcname="large")
    sources = [{"path": "work/shop"}, {"archive": "large.tar.xz"}, {"git": "work/shop", "version": "main"}]
    collections = pathlib.Path(__file__).resolve().parents[2] / ".collections"
    # A process of its own: what is counted never falls.
    command = [sys.executable, "-c", MEMORY, str(collections), str(tmp_path), json.dumps(sources)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(told) == len(sources) and max(map(int, told)) < size / 2, told


def test_what_git_would_track_is_sent(repository, find, tmp_path):
    repository.commit(**{".gitignore": "*.sqlite3\n.env\n", "venv/tracked.py": "x", "gone": "x"})
    repository.write("app", "changed")
    repository.write("new/file")
    repository.write(".env", "hunter2")
    repository.write("db.sqlite3")
    repository.write(".venv/bin/python")
    repository.write("new/__pycache__/x.pyc")
    (repository.path / "gone").unlink()
    assert members(find({"path": "../work/shop"}), tmp_path) == {
        ".gitignore": "*.sqlite3\n.env\n", "app": "changed", "new/file": "x\n", "venv/tracked.py": "x",
    }  # fmt: skip


def test_a_directory_inside_a_repository(repository, find, tmp_path):
    repository.commit(**{"back/app": "x", "front/app": "y", ".gitignore": "*.log\n"})
    repository.write("back/x.log")
    assert members(find({"path": "../work/shop/back"}), tmp_path) == {"app": "x"}


def test_a_directory_without_git(find, tmp_path):
    for name in ("app.py", "node_modules/x", "pkg/__pycache__/x", "pkg/mod.py"):
        (tmp_path / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / name).write_text(name)
    (tmp_path / "plain/link").symlink_to("pkg")
    source = find({"path": "../plain"})
    assert members(source, tmp_path) == {"app.py": "app.py", "pkg/mod.py": "pkg/mod.py", "link": "-> pkg"}
    assert source.version == "plain"


def test_an_error_of_git_does_not_send_what_it_ignores(repository, find):
    (repository.path / ".git/index").write_text("broken")
    with pytest.raises(SourceError, match="git ls-files failed"):
        find({"path": "../work/shop"})


def test_a_directory_that_git_ignores(repository, find):
    repository.commit(**{".gitignore": "build/\n"})
    repository.write("build/app")
    with pytest.raises(SourceError, match=r"source\.path: .*build holds no files"):
        find({"path": "../work/shop/build"})


def test_submodules(repository, find, tmp_path):
    part = Repository(tmp_path / "part")
    part.commit(module="x")
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part.path), "part")
    repository.commit()
    assert members(find({"path": "../work/shop"}), tmp_path)["part/module"] == "x"
    repository.git("submodule", "--quiet", "deinit", "--force", "part")
    with pytest.raises(SourceError, match="part is not checked out"):
        find({"path": "../work/shop"})


def test_the_digest_is_stable_and_sees_every_change(repository, find):
    def digest():
        return find({"path": "../work/shop"}).fingerprint

    repository.commit(other="x")
    seen = [digest()]
    os.utime(repository.path / "app")
    repository.commit(other="x ")
    repository.write("other", "x")
    assert digest() == seen[0]
    for change in (
        lambda: repository.write("app", "two"),
        lambda: repository.write("new"),
        lambda: (repository.path / "app").chmod(0o755),
        lambda: (repository.path / "other").rename(repository.path / "another"),
        lambda: (repository.path / "link").symlink_to("app"),
        lambda: ((repository.path / "link").unlink(), (repository.path / "link").symlink_to("new")),
        lambda: (repository.path / "new").unlink(),
    ):
        change()
        seen.append(digest())
    assert len(set(seen)) == len(seen)


def test_symlinks_are_sent_as_they_are(repository, find, tmp_path):
    (repository.path / "inside").symlink_to("app")
    (repository.path / "outside").symlink_to("/etc/passwd")
    (repository.path / "dangling").symlink_to("nosuch")
    found = members(find({"path": "../work/shop"}), tmp_path)
    assert found == {"app": "one", "inside": "-> app", "outside": "-> /etc/passwd", "dangling": "-> nosuch"}


def test_odd_names_and_modes_survive(repository, find, tmp_path):
    repository.write("a b\n'c'ü", "odd")
    repository.write("run").chmod(0o777)
    repository.write("read").chmod(0o600)
    source = find({"path": "../work/shop"})
    assert members(source, tmp_path)["a b\n'c'ü"] == "odd"
    with tarfile.open(tmp_path / "packed.tar.gz") as archive:
        assert {m.name: oct(m.mode) for m in archive if m.name in ("run", "read")} == {"run": "0o755", "read": "0o644"}
        assert {(m.uid, m.uname) for m in archive} == {(0, "")}


def test_the_version_of_a_directory_says_whether_it_was_committed(repository, find):
    repository.git("tag", "v1")
    assert find({"path": "../work/shop"}).version == "shop v1"
    repository.write("app", "two")
    assert find({"path": "../work/shop"}).version == "shop v1-dirty"


@pytest.mark.parametrize(
    "what", [{"path": "nosuch"}, {"path": "file"}, {"archive": "nosuch"}, {"archive": "file"}, {"archive": "."}]
)
def test_a_source_that_is_not_there(find, tmp_path, what):
    (tmp_path / "inventories/file").write_text("no archive")
    (kind,) = what
    with pytest.raises(SourceError, match=rf"source\.{kind}: .* is not a"):
        find(what)


# archive


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", ""])
def test_archives_of_any_compression(find, tmp_path, compression):
    (tmp_path / "app").write_text("x")
    with tarfile.open(tmp_path / "shop.tar", f"w:{compression}") as archive:
        archive.add(tmp_path / "app", "shop-1.0/app")
        (tmp_path / "link").symlink_to("app")
        archive.add(tmp_path / "link", "shop-1.0/link")
    source = find({"archive": "../shop.tar"})
    assert source.version == "shop.tar"
    assert members(source, tmp_path) == {"shop-1.0/app": "x", "shop-1.0/link": "-> app"}


def test_a_directory_runs_nothing_on_the_controller(tmp_path):
    """Whoever wrote a project may have written the configuration of its repository too."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/app.py").write_text("pass\n")
    (tmp_path / "monitor").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "monitor").chmod(0o755)
    git = ["git", "-C", str(tmp_path / "code"), "-c", "user.name=a", "-c", "user.email=a@example.test"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run([*git, "config", "core.fsmonitor", str(tmp_path / "monitor")], check=True)
    resolve({"path": "code"}, tmp_path, tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x", "a=b"])
def test_a_directory_starts_no_program_of_its_own(repository, tmp_path, name):
    """A checkout that came with its .git has a configuration of somebody else's."""
    (repository.path / ".git/info/attributes").write_text(f"* filter={name}\n")
    ran = tmp_path / "ran"
    for key in ("clean", "smudge", "process"):
        repository.git("config", f"filter.{name}.{key}", f"echo {key} >> {ran}; cat")
    hook = repository.path / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho hook >> {ran}\n")
    hook.chmod(0o755)
    os.utime(repository.path / "app", (1, 1))
    assert resolve({"path": str(repository.path)}, "/", tmp_path / "git").version.startswith("shop ")
    assert not ran.exists(), ran.read_text()


def test_a_directory_with_changes_is_still_told_apart(repository, tmp_path):
    commit = repository.git("rev-parse", "--short", "HEAD")
    assert resolve({"path": str(repository.path)}, "/", tmp_path / "git").version == f"shop {commit}"
    repository.write("app", "two")
    assert resolve({"path": str(repository.path)}, "/", tmp_path / "git").version == f"shop {commit}-dirty"


def test_a_link_in_the_place_of_a_directory_brings_nothing_of_the_controller_along(repository, tmp_path):
    """git still lists the files that lay there; behind the link are others of the same names."""
    repository.commit(**{"keys/id_rsa": "an example", "deep/er/id_rsa": "an example"})
    outside = tmp_path / "ssh"
    outside.mkdir()
    (outside / "id_rsa").write_text("of the operator")
    for place in ("keys", "deep/er"):
        (repository.path / place / "id_rsa").unlink()
        (repository.path / place).rmdir()
        (repository.path / place).symlink_to(outside)
    source = resolve({"path": str(repository.path)}, "/", tmp_path / "git")
    source.archive(tmp_path / "code.tar.gz")
    with tarfile.open(tmp_path / "code.tar.gz") as archive:
        assert sorted((member.name, member.issym()) for member in archive) == [
            ("app", False), ("deep/er", True), ("keys", True),
        ]  # fmt: skip


def test_a_pipe_among_bundles_is_not_waited_for(repository, tmp_path):
    repository.commit(**{".gitignore": "dist\n"})
    repository.write("dist/app.js")
    os.mkfifo(repository.path / "dist/pipe")
    source = {"path": str(repository.path), "include": ["dist"]}
    script = "import json, sys, conftest\nfrom test_source import resolve\nresolve(json.loads(sys.argv[1]), '/', sys.argv[2])"
    words = [sys.executable, "-c", script, json.dumps(source), str(tmp_path / "git")]
    subprocess.run(words, cwd=pathlib.Path(__file__).parent, check=True, timeout=30)
    with pytest.raises(SourceError, match="there is no dist/pipe"):
        resolve({**source, "include": ["dist/pipe"]}, "/", tmp_path / "git")


def test_an_archive_that_is_replaced_meanwhile_is_not_kept_under_the_name_of_the_other(tmp_path):
    place = tmp_path / "shop.tar.gz"

    def put(text):
        (tmp_path / "app").write_text(text)
        with tarfile.open(place, "w:gz") as archive:
            archive.add(tmp_path / "app", "app")
        return place.read_bytes()

    good = put("good")
    source = resolve({"archive": str(place)}, "/", tmp_path / "git")
    put("other")
    with pytest.raises(SourceError, match="was changed while it was packed"):
        module.packed(source)
    place.write_bytes(good)
    with tarfile.open(module.packed(resolve({"archive": str(place)}, "/", tmp_path / "git"))) as archive:
        assert archive.extractfile("app").read() == b"good"


@pytest.mark.parametrize("odd", [b"\xff", "\u2028y".encode(), b"\xc2\x85"])
def test_a_branch_of_an_odd_name_stops_nobodys_deploys(repository, tmp_path, odd):
    """A server tells of each whose name ends like the one that is asked for."""
    commit = repository.git("rev-parse", "HEAD")
    for name in (b"refs/heads/x" + odd + b"/refs/heads/main", b"refs/tags/v" + odd):
        subprocess.run([b"git", b"update-ref", name, b"HEAD"], cwd=repository.path, check=True)
    assert resolve({"git": str(repository.path), "version": "main"}, "/", tmp_path / "git").fingerprint == commit
    assert resolve({"path": str(repository.path)}, "/", tmp_path / "git").version.startswith("shop v")


def test_a_name_in_a_repository_is_no_command_of_a_terminal(repository, tmp_path):
    commit = repository.git("rev-parse", "HEAD")
    name = b"\x1b]0;x\x07\x9b2J\xff"
    words = [b"git", b"update-index", b"--add", b"--cacheinfo", b"160000", commit.encode(), name]
    subprocess.run(words, cwd=repository.path, check=True)
    repository.git("commit", "--quiet", "--message", "x")
    application = {"name": "shop", "source": {"git": str(repository.path), "version": "main"}}
    with pytest.raises(module.AnsibleError) as error:
        module.resolve_application(application, {})
    assert "the submodule ]0;x" in str(error.value)
    assert all(letter.isprintable() or letter == "\n" for letter in str(error.value))


def bomb(repository, name, levels):
    """A branch whose trees hold the same trees ten times: 10 ** levels files in a few kilobytes."""

    def store(*words, given):
        run = subprocess.run(
            ["git", *words], cwd=repository.path, input=given, text=True, check=True, capture_output=True
        )
        return run.stdout.strip()

    inner, kind = store("hash-object", "-w", "--stdin", given="x"), "100644 blob"
    for level in range(levels):
        names = [".gitattributes" if not level and not number else f"n{number}" for number in range(10)]
        inner, kind = store("mktree", given="".join(f"{kind} {inner}\t{each}\n" for each in names)), "040000 tree"
    commit = store("commit-tree", "-m", "x", inner, given="")
    repository.git("update-ref", f"refs/heads/{name}", commit)
    return commit


def test_trees_in_trees_cost_the_controller_no_memory(repository, tmp_path, monkeypatch):
    bomb(repository, "many", 8)
    monkeypatch.setattr(module, "MOST_LISTED", 4 * 1024 * 1024)
    monkeypatch.setattr(module._Room, "__init__", functools.partialmethod(module._Room.__init__, 4 * 1024 * 1024))
    with pytest.raises(SourceError, match="it has more files than is good for any host"):
        resolve({"git": str(repository.path), "version": "many"}, "/", tmp_path / "git")
    bomb(repository, "few", 3)
    assert resolve({"git": str(repository.path), "version": "few"}, "/", tmp_path / "git").kind == "git"


def test_submodules_in_submodules_come_to_an_end(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REMOTE", module.re.compile(".+"))
    monkeypatch.setattr(module._Room, "__init__", functools.partialmethod(module._Room.__init__, modules=20))
    commit, inner = repository.git("rev-parse", "HEAD"), repository
    for level in range(3):
        outer = Repository(tmp_path / f"work/level{level}")
        outer.write(".gitmodules", "".join(f'[submodule "{n}"]\npath = n{n}\nurl = {inner.path}\n' for n in range(4)))
        for number in range(4):
            outer.git("update-index", "--add", "--cacheinfo", f"160000,{commit},n{number}")
        outer.git("add", ".gitmodules")
        outer.git("commit", "--quiet", "--message", "x")
        commit, inner = outer.git("rev-parse", "HEAD"), outer
    with pytest.raises(SourceError, match="there are more than"):
        resolve({"git": str(inner.path), "version": "main"}, "/", tmp_path / "git")
    found = resolve({"git": str(tmp_path / "work/level1"), "version": "main"}, "/", tmp_path / "git")
    assert len(found.modules) == 20


@pytest.mark.parametrize("left", ["commit", "trees"])
def test_a_fetch_that_was_cut_off_is_made_again(repository, tmp_path, left):
    """git unpacks a small fetch as it comes in: commits, then trees, then files."""
    commit = repository.commit(**{"inside/other": "two"})
    source = {"git": str(repository.path), "version": commit}
    (cached,) = [resolve(source, "/", tmp_path / "git").base]
    listing = repository.git("ls-tree", "-r", "-t", commit).splitlines()
    gone = {found for _mode, kind, found in (line.split("\t")[0].split() for line in listing) if kind == "blob"}
    if left == "commit":
        gone |= {line.split()[2] for line in listing} | {repository.git("rev-parse", f"{commit}^{{tree}}")}
    for found in gone:
        (cached / "objects" / found[:2] / found[2:]).unlink()
    again = resolve(source, "/", tmp_path / "git")
    again.archive(tmp_path / "code.tar.gz")
    with tarfile.open(tmp_path / "code.tar.gz") as archive:
        assert archive.extractfile("inside/other").read() == b"two"


def test_a_server_that_says_nothing_is_given_up(repository, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        submodule = f'[submodule "s"]\npath = s\nurl = http://127.0.0.1:{server.getsockname()[1]}/s.git\n'
        repository.write(".gitmodules", submodule)
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{repository.git('rev-parse', 'HEAD')},s")
        repository.git("add", ".gitmodules")
        repository.git("commit", "--quiet", "--message", "x")
        words = [sys.executable, "-c", SILENT, str(repository.path), str(tmp_path / "git")]
        run = subprocess.run(words, cwd=pathlib.Path(__file__).parent, timeout=60, capture_output=True, text=True)
    assert "the submodule s: git fetch failed" in run.stderr, run.stderr


SILENT = """
import sys, conftest
from test_source import module
module.SILENCE = 2
module.resolve({"git": sys.argv[1], "version": "main"}, "/", sys.argv[2])
"""


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("way", ["../../other/part", "../a/../../other/part", "../../../{}/other/part"])
def test_a_submodule_of_a_local_repository_lies_beside_it(repository, find, tmp_path, way, scheme):
    """A repository on the controller says a relative place too, and whoever writes it may not read all that is there."""
    part = Repository(tmp_path / "other/part")
    link(repository, "part", way.format(tmp_path.name), part.commit(module="x"))
    with pytest.raises(SourceError, match=r"the submodule part: \.gitmodules names a directory of this controller"):
        find({"git": f"{scheme}{repository.path}", "version": "main"})


def test_a_commit_has_the_same_bytes_on_each_controller(repository, tmp_path):
    """Whatever its user has configured git to do with line ends and filters."""
    repository.commit(**{".gitattributes": "b filter=mine\n", "a": "1\n2\n", "b": "x\n"})
    ran, configured = tmp_path / "ran", tmp_path / "gitconfig"
    configured.write_text(
        f'{configured.read_text()}[core]\nautocrlf = true\n[filter "mine"]\nsmudge = "tee {ran} | tr x y"\n'
    )
    (tmp_path / ".config/git").mkdir(parents=True)
    (tmp_path / ".config/git/attributes").write_text("* filter=mine\n")
    source = resolve({"git": str(repository.path), "version": "main"}, "/", tmp_path / "git")
    source.archive(tmp_path / "code.tar.gz")
    with tarfile.open(tmp_path / "code.tar.gz") as archive:
        assert [archive.extractfile(name).read() for name in ("a", "b")] == [b"1\n2\n", b"x\n"]
    assert not ran.exists() and (tmp_path / "git").stat().st_mode & 0o077 == 0


def test_a_branch_that_became_a_directory_of_branches_is_no_obstacle(repository, tmp_path):
    """Where a server hands out no single commits, all branches are fetched."""
    with open(tmp_path / "gitconfig", "a") as stream:
        stream.write("[protocol]\nversion = 0\n")
    for branch in ("fix", "fix/one"):
        repository.git("checkout", "--quiet", "--detach")
        if branch != "fix":
            repository.git("branch", "--quiet", "-D", "fix")
        repository.git("checkout", "--quiet", "-b", branch)
        commit = repository.commit(app=f"{branch} one")
        repository.commit(app=f"{branch} two")
        assert resolve({"git": str(repository.path), "version": commit}, "/", tmp_path / "git").fingerprint == commit


def test_nothing_lies_below_a_file_that_could_be_left_out(repository, tmp_path):
    with pytest.raises(SourceError, match="there is no app/x in the repository"):
        resolve({"git": str(repository.path), "version": "main", "exclude": ["app/x"]}, "/", tmp_path / "git")
