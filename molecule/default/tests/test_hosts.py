"""The test hosts are real servers: what other scenarios prove on them would hold on a machine."""

import shlex
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[3] / "tools" / "images.packages"


UNIT = "systemd-run --wait --pipe --quiet --collect"


def test_systemd_has_booted(host):
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


CONNECT = "curl --silent --http0.9 --max-time 1 http://127.0.0.1:22 | grep -q SSH"


@pytest.mark.parametrize(
    ("sandbox", "forbidden"),
    [
        ("ProtectSystem=strict", "touch /usr/x"),
        ("ProtectSystem=strict", "touch /var/x"),
        ("ProtectHome=yes", "ls /home/admin"),
        ("ProtectHome=tmpfs", "ls /home/admin"),
        ("InaccessiblePaths=/etc/ssh", "test -e /etc/ssh/sshd_config"),
        ("ReadOnlyPaths=/etc", "touch /etc/x"),
        ("PrivateTmp=yes", "test -e /tmp/of-another"),
        ("PrivateDevices=yes", "test -e /dev/of-another"),
        ("RestrictAddressFamilies=AF_UNIX", CONNECT),
        ("IPAddressDeny=any", CONNECT),
        ("PrivateNetwork=yes", CONNECT),
        ("SystemCallFilter=~mkdir mkdirat", "mkdir /tmp/x"),
        ("CapabilityBoundingSet=~CAP_CHOWN", "chown nobody /tmp/of-another"),
        ("MemoryDenyWriteExecute=yes", "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'"),
    ],
)
def test_sandbox_is_enforced(host, sandbox, forbidden):
    """A unit with the property cannot do what one without it can."""
    result = host.run(
        "touch /tmp/of-another /dev/of-another\n"
        f"{UNIT} sh -c {shlex.quote(forbidden)} >/dev/null && echo can\n"
        "rm -rf /tmp/x\n"
        f"{UNIT} --property={shlex.quote(sandbox)} sh -c {shlex.quote(forbidden)} >/dev/null || echo cannot\n"
    )
    assert result.stdout.split() == ["can", "cannot"], result.stderr


def test_credentials_reach_a_unit(host):
    host.run("echo secret >/root/credential")
    options = "--property=LoadCredential=it:/root/credential --property=DynamicUser=yes"
    result = host.run(f"{UNIT} {options} sh -c 'cat $CREDENTIALS_DIRECTORY/it'")
    assert result.stdout == "secret\n"


def test_packages_lie_ready(host):
    """apt would fetch nothing for any package of the list: a converge needs no network."""
    lines = (line.split("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    names = " ".join(line for line in lines if line and ":" not in line)
    result = host.run(f"apt-get install --print-uris -qq --no-install-recommends {names}")
    assert result.rc == 0, result.stderr
    assert result.stdout == ""
    assert host.run("unshare --net apt-get install --yes --no-install-recommends netcat-openbsd").rc == 0


def test_hosts_reach_each_other_by_name(hosts, addresses):
    for name in hosts:
        for other in hosts:
            assert hosts[name].run(f"getent hosts {other}").stdout.split()[0] == addresses[other]
