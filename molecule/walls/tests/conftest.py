"""What attackers of this scenario can do: run code as the application, SQL as its database role, programs as another user."""

from __future__ import annotations

import base64
import shlex

import play
import pytest


def _into(command, text):
    """A command line with a text as the input of a command."""
    return f"echo {base64.b64encode(text.encode()).decode()} | base64 -d | {command}"


@pytest.fixture(scope="session")
def raid():
    """Run a Python program as the live application raider, in its sandbox; returns what it printed."""

    def run(host, code, application="raider", seconds=60):
        domain = f"{application}.example.test"
        ask = (
            f"curl --silent --show-error --fail --insecure --max-time {seconds} --data-binary @-"
            f" --resolve {domain}:443:127.0.0.1 https://{domain}/raid"
        )
        return host.check_output(_into(ask, code))

    return run


@pytest.fixture(scope="session")
def as_role():
    """Run SQL with the database role of raider, as its application may; returns testinfra's result."""

    def run(host, sql, database="raider"):
        url = play.database_url(host, "raider").replace("/raider?", f"/{database}?")
        return host.run(_into(f"psql -XqtA -v ON_ERROR_STOP=1 -d '{url}'", sql))

    return run


@pytest.fixture(scope="session")
def as_user():
    """Run a shell command as a local user without any rights; returns testinfra's result."""

    def run(host, command, user="nobody"):
        return host.run(f"runuser -u {user} -- sh -c {shlex.quote(command)}")

    return run
