"""docs/first-hour.md, as somebody does it with a bare server and a new project: each command of its `sh` blocks, in their order.

They are run as printed. What differs here is in SAID_OTHERWISE and LAB, and in how this machine reaches the server: a program
`ssh` of the test's own leads the page's address to the test host. All names lead the authority to the server.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from play import PROJECT
from terminal import Terminal

PAGE = PROJECT / "docs/first-hour.md"
ADDRESS, DOMAIN = "203.0.113.5", "shop.example.com"
# Ansible is the suite's, the collection is the tree: nothing is installed.
SAID_OTHERWISE = {
    "python3 -m venv ~/ansible": ":",
    ". ~/ansible/bin/activate": ":",
    "pip install ansible-core": ":",
    "ansible-galaxy collection install vivarium.server": ":",
}
# Stands beside what init wrote: the authority is not Let's Encrypt.
LAB = "certificates_acme_directory: https://authority:14000/dir\n"
# The page says this of the project, beside `django-admin startproject shop`.
PACKAGES = "Django>=5.2,<5.3\npsycopg[binary,pool]\n"
VIEW = """
from django.http import HttpResponse

urlpatterns.append(path("", lambda request: HttpResponse("the second release")))
"""
PASSWORD = "correct-horse-9"


def commands():
    """The lines of the page's blocks for a shell."""
    return [
        line for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S) for line in block.splitlines()
    ]


class User:
    """Somebody with a shell on this machine."""

    def __init__(self, home, server):
        self.home = home
        programs = home / "bin"
        programs.mkdir()
        (home / "ssh_config").write_text(
            f"Host {ADDRESS}\n  HostName 127.0.0.1\n  Port {server['port']}\n  IdentityFile {server['identity_file']}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {home}/known_hosts\n  StrictHostKeyChecking accept-new\n"
        )
        # OpenSSH finds its configuration by the account, whatever HOME says.
        (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {home}/ssh_config "$@"\n')
        (programs / "ssh").chmod(0o755)
        own = ("ANSIBLE_", "MOLECULE_", "GIT_")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(own)},
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".collections"),
        }
        self.shell = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=home,
            env=self.environment,
        )  # fmt: skip

    def type(self, command):
        """One line; what it printed, unless it failed."""
        self.shell.stdin.write(f'{{\n{command}\n}} </dev/null\necho "end: $?"\n')
        self.shell.stdin.flush()
        printed = ""
        while not (end := re.search(r"end: (\d+)\n\Z", printed)):
            line = self.shell.stdout.readline()
            assert line, f"{command}: the shell ended\n{printed}"
            printed += line
        assert end[1] == "0" and "[DEPRECATION WARNING]" not in printed, f"{command}\n{printed}"
        return printed[: end.start()]


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    user = User(tmp_path_factory.mktemp("home"), next(each for each in instances if each["instance"] == "server"))
    yield user
    user.shell.stdin.close()
    user.shell.wait(timeout=60)


@pytest.fixture(scope="module")
def ask(hosts, addresses):
    """A visitor who trusts nobody but the authority, and asks the server for a path: status and body."""
    hosts["authority"].check_output(
        "curl --silent --fail --cacert /etc/pebble/root.pem --output /tmp/trusted.pem https://authority:15000/roots/0"
    )

    def ask(path):
        run = hosts["authority"].run(
            "curl --silent --show-error --cacert /tmp/trusted.pem --resolve %s --write-out '\\n%%{http_code}' https://%s%s",
            f"{DOMAIN}:443:{addresses['server']}", DOMAIN, path,
        )  # fmt: skip
        assert run.rc == 0, run.stderr
        body, _, status = run.stdout.rpartition("\n")
        return int(status), body

    return ask


def orders(hosts):
    """How often the authority was asked for a certificate."""
    return int(
        hosts["authority"].check_output(
            "journalctl --sync; journalctl -u pebble -o cat | grep -c 'POST /order-plz' || true"
        )
    )


def test_the_first_hour(user, hosts, ask):
    user.type("django-admin startproject shop")
    (user.home / "shop/requirements.txt").write_text(PACKAGES)
    assert all(line in PAGE.read_text() for line in PACKAGES.splitlines()), (
        "the page says something else of the project"
    )
    lines, done = commands(), {}
    for line in lines:
        if line.startswith("ssh -t "):
            create_superuser(user, line)
            continue
        done[line] = user.type(SAID_OTHERWISE.get(line, line))
        if "vivarium.server.init" in line:
            (user.home / "servers/inventories/prod/group_vars/all/lab.yml").write_text(LAB)
        if "vivarium.server.site" in line:
            assert ask("/admin/login/")[0] == 200, "it is there after site, as the page says"
    assert set(SAID_OTHERWISE) <= set(lines), "the page has no such lines any more"

    init, site, status, deploy = (
        next(line for line in lines if f"vivarium.server.{name} " in line)
        for name in ("init", "site", "status", "deploy")
    )
    # What init says to type is what the page says.
    printed = re.findall(r"^  (ansible-playbook .*?) +# ", done[init], re.M)
    assert printed == [site, status, deploy]
    assert "encrypted" in done[init] and "changed=0" in user.type(init), "a second run of init"
    told = " ".join(done[status].split())
    assert "shop: shop, release" in told and re.search(r"certificate ends [-0-9]+ [:0-9]+ UTC, in 89 days'", told), told
    assert "1 failed of 19" in told and "no mail server answered" in told, "the page shows these lines"

    page = ask("/admin/login/")[1]
    assert ask(re.search(r'href="(/static/admin/css/base\.[^"]+)"', page)[1])[0] == 200

    asked = orders(hosts)
    assert asked > 0
    again = user.type(site)
    assert " changed=0 " in again and orders(hosts) == asked, again

    with (user.home / "shop/shop/urls.py").open("a") as urls:
        urls.write(VIEW)
    assert ask("/")[0] == 404
    user.type(deploy)
    assert ask("/") == (200, "the second release")


def create_superuser(user, line):
    """The one command that asks something, at a terminal."""
    with Terminal(None, *shlex.split(line), env=user.environment) as terminal:
        for question, answer in (
            ("Username", "ada"),
            ("Email address", "ada@example.com"),
            ("Password: ", PASSWORD),
            ("Password (again): ", PASSWORD),
        ):
            terminal.until(question)
            terminal.type(f"{answer}\n")
        terminal.until("Superuser created successfully.")
        assert terminal.ends() == 0
