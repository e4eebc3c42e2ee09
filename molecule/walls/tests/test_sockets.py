"""An application cannot make nginx talk to another one in its place; one that hangs or is killed comes back and visitors wait."""

from __future__ import annotations

import json
import time

import pytest

TRIES = """
import json, os, socket, sys
directory, theirs = "/run/asgi-raider", sys.argv[1]
mine = os.readlink("/srv/raider/live/socket")
def at(path):
    return lambda: socket.socket(socket.AF_UNIX).bind(path)
def swapped():
    os.rename(mine, mine + ".kept")
    os.symlink(theirs, mine)
def replaced():
    os.unlink(mine)
    os.symlink(theirs, mine)
def live():
    os.unlink("/srv/raider/live/socket")
    os.symlink(theirs, "/srv/raider/live/socket")
tries = {
    "look into the directory": lambda: os.listdir(directory),
    "write there": lambda: open(directory + "/x", "w").close(),
    "link there": lambda: os.symlink(theirs, directory + "/x.sock"),
    "bind there": at(directory + "/bound.sock"),
    "bind where the next release will": at(directory + "/20991231-000000-000000.sock"),
    "move its socket away for a link": swapped,
    "remove its socket for a link": replaced,
    "open the directory to itself": lambda: os.chmod(directory, 0o777),
    "open its socket to others": lambda: os.chmod(mine, 0o777),
    "move the directory": lambda: os.rename(directory, directory + ".old"),
    "change where nginx looks": live,
    "connect to the other": lambda: socket.socket(socket.AF_UNIX).connect(theirs),
    # What it holds is the socket itself, which has no name to change.
    "open the socket through its descriptor": lambda: (os.fchmod(3, 0o777), os.fchown(3, os.getuid(), os.getgid())),
}
done = []
for name, attempt in tries.items():
    try:
        attempt()
    except OSError:
        continue
    done.append(name)
print(json.dumps(done))
"""


def page(host, name="raider", options="--max-time 20"):
    domain = f"{name}.example.test"
    return host.run(
        f"curl --silent --insecure {options} --write-out '\n%{{http_code}}' --resolve {domain}:443:127.0.0.1 https://{domain}/health/"
    ).stdout.rsplit("\n", 1)


def unit(host, name="raider"):
    return f"{name}@{host.check_output(f'basename $(readlink /srv/{name}/live)')}.service"


def main_process(host, not_this="0"):
    """The number of the server's process; of another one than that."""
    pid = host.check_output(f"systemctl show --property=MainPID --value {unit(host)}")
    deadline = time.monotonic() + 60
    while pid in ("0", not_this):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        pid = host.check_output(f"systemctl show --property=MainPID --value {unit(host)}")
    return pid


@pytest.fixture
def as_it_was(host):
    """The application's socket, whatever came of an attempt."""
    yield
    host.check_output("systemctl restart raider.service")
    deadline = time.monotonic() + 60
    while page(host)[-1] != "200":
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_an_application_cannot_put_another_ones_socket_in_the_place_of_its_own(host, raid, as_it_was):
    theirs = host.check_output("readlink /srv/prey/live/socket")
    socket = host.check_output("readlink /srv/raider/live/socket")
    assert page(host, "prey") == ["prey", "200"]  # what must not be seen below
    before = host.check_output(f"stat --format '%i %U %G %a' {socket}")
    done = json.loads(raid(host, TRIES.replace("sys.argv[1]", repr(theirs))))
    # nginx may keep a connection from before for five seconds; its workers have one each.
    deadline, seen = time.monotonic() + 12, set()
    while time.monotonic() < deadline:
        seen.add(tuple(page(host)))
        time.sleep(0.2)
    assert all("prey" not in text and status == "200" for text, status in seen), (done, seen)
    assert host.check_output(f"stat --format '%i %U %G %a' {socket}") == before and before.endswith("root www-data 660")
    assert set(done) <= {"open the socket through its descriptor"}


def test_an_application_that_is_killed_makes_visitors_wait_instead_of_fail(host):
    """What its processes hold is lost with them; whoever comes from then on waits in the socket."""
    for _ in range(3):
        before = main_process(host)
        # A connection that nginx keeps open would be what its processes hold.
        time.sleep(6)
        host.check_output(f"kill -9 {before}")
        answers = [page(host, options="--max-time 60")[-1] for _ in range(5)]
        assert answers == ["200"] * 5
        assert main_process(host, before) != before


def test_a_worker_that_hangs_is_ended_and_the_next_one_serves(host, raid):
    """Its event loop is kept busy by one endless regular expression, which holds the interpreter's lock."""
    before = main_process(host)
    code = "import re; re.match('(a+)+$', 'a' * 60 + 'b')"
    domain = "raider.example.test"
    host.run(
        f"curl --silent --insecure --max-time 2 --resolve {domain}:443:127.0.0.1 --data-binary %s https://{domain}/hang",
        code,
    )
    assert page(host, options="--max-time 2")[-1] == "000", "it did not hang"
    assert page(host, options="--max-time 90")[-1] == "200"
    assert main_process(host, before) != before
    log = host.check_output(f"journalctl --unit {unit(host)} --output cat --lines 200")
    assert "most recent call first" in log
