"""The program that lays compressed copies beside the static files of a release."""

from __future__ import annotations

import gzip
import importlib.machinery
import importlib.util
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOADER = importlib.machinery.SourceFileLoader("compress", str(ROOT / "roles/asgi/files/compress"))
TEXT = b"body { color: #123456; }\n" * 100


@pytest.fixture
def compress():
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compress", LOADER))
    LOADER.exec_module(module)
    # The library is a package of the hosts'.
    module.WAYS[".br"] = lambda content: b"brotli of " + gzip.compress(content, mtime=0)
    return module


def write(path: pathlib.Path, content: bytes = TEXT, time: int = 7) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time, time))
    return path


def names(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_gets_smaller_has_copies_of_its_age(compress, tmp_path):
    write(tmp_path / "css/site.css")
    write(tmp_path / "tiny.css", b"body {}")
    write(tmp_path / "photo.JPG")
    write(tmp_path / "noise.bin", os.urandom(2000))
    write(tmp_path / "huge.svg", b"")
    os.truncate(tmp_path / "huge.svg", 2**40)
    (tmp_path / "link.css").symlink_to("css/site.css")
    (tmp_path / "folder").symlink_to("css")
    before = names(tmp_path)
    compress.compress(tmp_path)
    assert set(names(tmp_path)) - set(before) == {"css/site.css.br", "css/site.css.gz"}
    copy = tmp_path / "css/site.css.gz"
    assert gzip.decompress(copy.read_bytes()) == TEXT and copy.stat().st_mtime == 7
    assert b"site.css" not in copy.read_bytes()


def test_a_copy_that_the_project_brings_stays(compress, tmp_path):
    write(tmp_path / "a.css")
    write(tmp_path / "a.css.gz", b"the project's own")
    (tmp_path / "b.css.br").mkdir()
    write(tmp_path / "b.css")
    compress.compress(tmp_path)
    assert (tmp_path / "a.css.gz").read_bytes() == b"the project's own"
    assert (tmp_path / "b.css.br").is_dir()
    assert names(tmp_path) == ["a.css", "a.css.br", "a.css.gz", "b.css", "b.css.gz"]


def test_a_file_with_two_names_is_compressed_once(compress, tmp_path):
    asked = []
    compress.WAYS = {".gz": lambda content: asked.append(content) or b"small"}
    write(tmp_path / "a.css", time=7)
    write(tmp_path / "a.0123456789ab.css", time=8)
    compress.compress(tmp_path)
    assert len(asked) == 1
    assert {path.name: path.stat().st_mtime for path in tmp_path.glob("*.gz")} == {
        "a.css.gz": 7,
        "a.0123456789ab.css.gz": 8,
    }


def test_what_has_not_changed_is_not_compressed_again(compress, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("same.css", "other.css", "linked.css"):
        write(old / name)
        write(new / name, TEXT if name != "other.css" else TEXT.upper())
    compress.compress(old)
    (old / "linked.css.gz").unlink()
    (old / "linked.css.gz").symlink_to("same.css.gz")
    asked = []
    compress.WAYS = {".gz": lambda content: asked.append(content) or b"small"}
    compress.compress(new, old)
    assert (new / "same.css.gz").read_bytes() == (old / "same.css.gz").read_bytes()
    assert (new / "other.css.gz").read_bytes() == (new / "linked.css.gz").read_bytes() == b"small"
    assert sorted(asked) == [TEXT.upper(), TEXT]


def test_the_same_files_have_the_same_copies(compress, tmp_path):
    for tree in ("one", "two"):
        write(tmp_path / tree / "a.css", time=len(tree))
        compress.compress(tmp_path / tree)
    assert (tmp_path / "one/a.css.gz").read_bytes() == (tmp_path / "two/a.css.gz").read_bytes()


def test_nothing_is_begun_when_the_time_is_over(compress, tmp_path):
    write(tmp_path / "a.css")
    compress.compress(tmp_path, seconds=-1)
    assert names(tmp_path) == ["a.css"]


def test_a_full_disk_leaves_nothing_half_written(compress, tmp_path, monkeypatch):
    def full(path, content):
        path.open("wb").write(content[:3])
        raise OSError(28, "No space left on device")

    write(tmp_path / "a.css")
    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        compress.compress(tmp_path)
    assert names(tmp_path) == ["a.css"]
