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
    """Run a script as somebody who may do nothing, in a directory of their own."""
    home = host.check_output("mktemp -d")
    host.check_output("chown nobody %s", home)

    def run(script):
        return host.run(
            "cd %s && su -s /bin/sh nobody -c %s",
            home,
            f"set -eu; export HOME={home} PATH=/usr/local/bin:/usr/bin:/bin\n{script}",
        )

    yield run
    host.check_output("rm -rf %s", home)


def install(user, sha256):
    """Install a package from a lock file that accepts a download with this hash."""
    lock = f"echo 'idna==3.10 --hash=sha256:{sha256}' > lock.txt"
    return user(
        f"{lock}; uv venv --quiet --python /usr/bin/python3 venv; uv pip install --python venv --require-hashes -r lock.txt"
    )


def test_uv_is_the_version_asked_for(host):
    assert host.check_output("/usr/local/bin/uv --version").split()[1] == DEFAULTS["python_uv_version"]


def test_a_user_installs_from_a_lock_with_hashes(user):
    done = install(user, IDNA)
    assert done.rc == 0, done.stderr
    assert user("venv/bin/python -c 'import idna; print(idna.__version__)'").stdout == "3.10\n"
    assert user("readlink -f venv/bin/python").stdout.startswith("/usr/bin/python3.")


def test_a_wrong_hash_is_refused(user):
    done = install(user, IDNA[::-1])
    assert done.rc != 0
    assert "Hash mismatch" in done.stderr
    assert "No module named 'idna'" in user("venv/bin/python -c 'import idna'").stderr


def test_what_has_no_wheel_can_be_built(user):
    done = user(
        """
        cat > main.c <<'END'
        #include <Python.h>
        int main(void) { Py_Initialize(); return PyRun_SimpleString("print(6 * 7)") + Py_FinalizeEx(); }
        END
        gcc main.c -o main $(python3-config --includes --embed) $(python3-config --ldflags --embed)
        ./main
    """.replace("\n        ", "\n")
    )
    assert (done.rc, done.stdout) == (0, "42\n"), done.stderr


def test_a_user_gets_a_python_that_uv_brought(user):
    link = user("readlink -f /usr/local/bin/python3.*").stdout
    assert link.startswith("/usr/local/lib/uv-python/cpython-3.")
    done = user("uv venv --quiet --python /usr/local/bin/python3.* venv; venv/bin/python -c 'print(6 * 7)'")
    assert (done.rc, done.stdout) == (0, "42\n"), done.stderr


def test_debians_own_python_is_left_alone(host):
    assert "No module named 'uv'" in host.run("python3 -c 'import uv'").stderr
    assert "No module named pip" in host.run("python3 -m pip --version").stderr


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
