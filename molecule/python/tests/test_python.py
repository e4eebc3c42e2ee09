"""The role python: an unprivileged user makes a venv, installs from a lock and builds; a wrong download gets nowhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

SCENARIO = Path(__file__).resolve().parents[1]
DEFAULTS = yaml.safe_load((SCENARIO.parents[1] / "roles/python/defaults/main.yml").read_text())
IDNA = "946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3"


@pytest.fixture
def user(host):
    """Run a command as somebody who may do nothing, in a directory of their own."""
    home = host.check_output("runuser -u nobody -- mktemp -d")

    def run(command, *args):
        command = command % args
        return host.run(
            "cd %s && runuser -u nobody -- env HOME=%s UV_CACHE_DIR=%s/cache PATH=/usr/local/bin:/usr/bin:/bin sh -euc %s",
            home, home, home, command,
        )  # fmt: skip

    yield run
    host.check_output("rm -rf %s", home)


def test_uv_is_the_version_asked_for(host):
    assert host.check_output("/usr/local/bin/uv --version").split()[1] == DEFAULTS["python_uv_version"]


def test_a_user_installs_from_a_lock_with_hashes(user):
    lock = "printf 'idna==3.10 --hash=sha256:%s\\n' > lock.txt"
    done = user(lock + "; uv venv --quiet venv; uv pip install --python venv --require-hashes -r lock.txt", IDNA)
    assert done.rc == 0, done.stderr
    assert user("venv/bin/python -c 'import idna; print(idna.__version__)'").stdout == "3.10\n"
    assert user("readlink -f venv/bin/python").stdout.startswith("/usr/bin/python3.")


def test_a_wrong_hash_is_refused(user):
    lock = "printf 'idna==3.10 --hash=sha256:%s\\n' > lock.txt"
    done = user(lock + "; uv venv --quiet venv; uv pip install --python venv --require-hashes -r lock.txt", IDNA[::-1])
    assert done.rc != 0
    assert "Hash mismatch" in done.stderr
    assert user("venv/bin/python -c 'import idna'").rc != 0


def test_what_has_no_wheel_can_be_built(user):
    source = '#include <Python.h>\\nint main(void) { Py_Initialize(); return PyRun_SimpleString("print(6 * 7)") + Py_FinalizeEx(); }'
    build = "gcc main.c -o main $(python3-config --includes --embed) $(python3-config --ldflags --embed)"
    done = user("printf '%s\\n' '" + source.replace("%", "%%") + "' > main.c; " + build + "; ./main", "%b")
    assert (done.rc, done.stdout) == (0, "42\n"), done.stderr


def test_debians_own_python_is_left_alone(host):
    refused = host.run("python3 -m venv --without-pip /tmp/probe && python3 -c 'import uv'")
    assert "No module named 'uv'" in refused.stderr
    assert host.run("find /usr/lib/python3 /usr/lib/python3.* -newer /usr/local/bin/uv -name 'uv*'").stdout == ""


def test_a_download_with_another_hash_leaves_the_old_uv(hosts):
    """An older uv that does not have the hash in the inventory: refused, and what was there still works."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(SCENARIO / "converge.yml")]
    command += ["-e", '{"python_uv_version": "0.13.8"}']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stdout
    for host in hosts.values():
        assert host.check_output("/usr/local/bin/uv --version").split()[1] == DEFAULTS["python_uv_version"]
        assert host.check_output("ls /usr/local/lib").split().count(f"uv-{DEFAULTS['python_uv_version']}") == 1
        assert host.run("ls -d /usr/local/lib/uv-0.13.8*").rc != 0
