"""The test hosts are real servers: what other scenarios prove on them would hold on a machine."""

import pytest


def unit(host, command, *properties):
    """Run a command as a transient service with these properties."""
    options = " ".join(f"--property='{item}'" for item in properties)
    return host.run(f"systemd-run --wait --pipe --quiet --collect {options} sh -c %s", command)


def test_systemd_has_booted(host):
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


CONNECT = "curl --silent --http0.9 --max-time 3 http://127.0.0.1:22 | grep -q SSH"


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
    host.run("touch /tmp/of-another /dev/of-another; rm -rf /tmp/x")
    assert unit(host, forbidden).rc == 0
    host.run("rm -rf /tmp/x")
    assert unit(host, forbidden, sandbox).rc != 0


def test_credentials_reach_a_unit(host):
    host.run("echo secret >/root/credential")
    options = "--property=LoadCredential=it:/root/credential --property=DynamicUser=yes"
    result = host.run(f"systemd-run --wait --pipe --quiet --collect {options} sh -c 'cat $CREDENTIALS_DIRECTORY/it'")
    assert result.stdout == "secret\n"


def test_packages_install_without_a_network(host):
    result = host.run("unshare --net apt-get install --yes --no-install-recommends nginx")
    assert result.rc == 0, result.stderr


def test_hosts_reach_each_other_by_name(hosts, addresses):
    for name in hosts:
        for other in hosts:
            assert hosts[name].run(f"getent hosts {other}").stdout.split()[0] == addresses[other]
