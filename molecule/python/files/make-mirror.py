"""usage: make-mirror.py DIRECTORY: pack this Python as a download for uv, with the list of downloads that uv reads."""

from __future__ import annotations

import hashlib
import json
import pathlib
import platform
import sys
import sysconfig
import tarfile

sysconfig.get_config_vars()
directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True)
archive = directory / "python.tar.gz"
with tarfile.open(archive, "w:gz") as tar:
    tar.add(pathlib.Path(sys.executable).resolve(), f"python/bin/python3.{sys.version_info.minor}")
    # uv looks for this file; the rest of the library is found where Debian has it.
    data = pathlib.Path(sys.modules[sysconfig._get_sysconfigdata_name()].__file__)
    tar.add(data.resolve(), f"python/lib/python3.{sys.version_info.minor}/{data.name}")
download = {
    "name": "cpython",
    "arch": {"family": platform.machine(), "variant": None},
    "os": "linux",
    "libc": "gnu",
    "major": 3,
    "minor": sys.version_info.minor,
    "patch": sys.version_info.micro,
    "prerelease": "",
    "url": archive.as_uri(),
    "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    "variant": None,
    "build": "20260101",
}
key = f"cpython-{platform.python_version()}-linux-{platform.machine()}-gnu"
(directory / "downloads.json").write_text(json.dumps({key: download}))
