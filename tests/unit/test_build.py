"""What is in the collection that `ansible-galaxy collection build` packs: all that is needed, and nothing of whoever packs it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GALAXY = pathlib.Path(sys.executable).parent / "ansible-galaxy"

# What lies in clones that are worked with. Each line of .gitignore has its like here (see below).
PLANTED = """
    inventories/prod/group_vars/all/vault.yml inventories/shop/group_vars/all/vault.yml inventories/shop/hosts.yml
    inventories/prod/host_vars/web1.yml inventories/prod/hosts.yml.orig group_vars/all.yml host_vars/web1.yml hosts hosts.ini
    inventory.yml vault.yml playbooks/group_vars/all/vault.yml roles/asgi/vars/vault.yaml roles/nginx/files/vault-password
    .env .env.production shop.env roles/asgi/files/.env examples/herbarium/.env examples/herbarium/production.env .vault-pass
    id_ed25519 roles/asgi/files/id_rsa roles/asgi/files/id_rsa.pub roles/nginx/files/privkey.pem roles/nginx/files/shop.key
    playbooks/site.retry site.retry ansible.log roles/nginx/nginx.log logs/nginx.log logs/demo-status.json
    .venv/lib/x.py venv/bin/python .cache/molecule/x .ansible/x .pytest_cache/x .ruff_cache/x .mypy_cache/x .git/config .idea/x
    plugins/filter/__pycache__/wiring.cpython-311.pyc roles/asgi/files/module.pyc plugins/modules/.files.py.swp
    vivarium-server-0.1.0.tar.gz other.tar.gz backup.tar shop.sql roles/postgresql/files/shop.dump
    examples/herbarium/var/media/cat.jpg examples/herbarium/db.sqlite3 examples/herbarium/.venv/x
    examples/herbarium/node_modules/x.js plugins/modules/files.py.orig roles/nginx/tasks/main.yml~ README.md.bak
    changelogs/.plugin-cache.yaml
""".split()
NEEDED = """
    README.md LICENSE CHANGELOG.md meta/runtime.yml site.yml MANIFEST.json FILES.json
    playbooks/site.yml playbooks/deploy.yml playbooks/tasks/wiring.yml playbooks/vars/wiring.yml templates/env.j2
    plugins/modules/files.py plugins/action/files.py plugins/module_utils/_asgi/releases.py plugins/plugin_utils/domains.py
    plugins/filter/nginx_sites.py plugins/filter/nginx_sites.yml roles/nginx/templates/site.conf.j2
    templates/page.html.j2 roles/nginx/meta/argument_specs.yml roles/asgi/files/drain docs/releases.md
    changelogs/config.yaml changelogs/changelog.yaml docs/first-hour.md
""".split()


def tracked():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listing.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the tree in which somebody has worked."""
    clone = tmp_path_factory.mktemp("clone")
    for name in tracked():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name, follow_symlinks=False)
    for name in PLANTED:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if not (clone / name).exists():
            (clone / name).write_text("nobody else's business")
    return clone


@pytest.fixture(scope="module")
def packed(clone, tmp_path_factory):
    """The names of the files in the archive."""
    output = tmp_path_factory.mktemp("archive")
    run = subprocess.run(
        [GALAXY, "collection", "build", "--output-path", output],
        cwd=clone, env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (archive,) = output.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        return {member.name for member in content.getmembers() if not member.isdir()}


def test_the_collection_is_whole(packed):
    assert not set(NEEDED) - packed
    rooms = ("roles/", "plugins/", "playbooks/", "templates/", "docs/", "meta/", "changelogs/")
    expected = {name for name in tracked() if name.startswith(rooms) and "/." not in name}
    assert not expected - packed


def test_nothing_of_whoever_packs_it_is_in_it(packed):
    assert not packed - tracked() - {"MANIFEST.json", "FILES.json"}


def test_each_line_of_gitignore_was_tried(clone):
    """git itself says which of the planted files a line concerns."""
    subprocess.run(["git", "init", "--quiet", "trial"], cwd=clone.parent, check=True)
    patterns = []
    for file in (ROOT / ".gitignore", ROOT / "examples/herbarium/.gitignore"):
        inside = file.parent.relative_to(ROOT)
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        for line in lines:
            rule = clone.parent / "rule"
            rule.write_text(line)
            names = [
                str(pathlib.Path(name).relative_to(inside))
                for name in PLANTED
                if pathlib.Path(name).is_relative_to(inside)
            ]
            found = subprocess.run(
                ["git", "-c", f"core.excludesFile={rule}", "check-ignore", "--no-index", *names],
                cwd=clone.parent / "trial", capture_output=True, text=True, check=False,
            )  # fmt: skip
            if not found.stdout:
                patterns.append(f"{file}: {line}")
    assert not patterns, "plant a file for each"
