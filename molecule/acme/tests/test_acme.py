"""Certificates of an authority (Debian's pebble), as visitors get them: issued, renewed, refused, changed and given up, live."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from play import INVENTORY, PROJECT, wait_until

CONVERGE = PROJECT / "molecule/acme/converge.yml"
WEB = ("debian12", "debian13")
FILES = {"certificate": "fullchain.pem", "key": "privkey.pem"}
SECOND = {
    "certificates_acme_directory": "https://authority:14001/dir",
    "certificates_acme_eab": {
        "kid": "kid-1",
        "hmac_key": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
    },
}
TSIG = "bm9ib2R5IHNpZ25zIGFueXRoaW5nIHJlYWwgd2l0aCB0aGlz"


def run(*options, only=None, **variables):
    """Converge once more, perhaps one host only, with other variables: what was said, and whether it ended well."""
    if only:
        # The facts of the other one are not known then.
        instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
        known = {each["instance"]: each["ip"] for each in instances}
        options = ("--limit", only, *options)
        variables["nginx_acme_peers"] = [f"{known[name]}:80" for name in WEB if name != only]
    command = ["ansible-playbook", "-i", INVENTORY, CONVERGE, "-e", json.dumps(variables), *options]
    done = subprocess.run(
        [str(word) for word in command], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
    )  # fmt: skip
    return done.stdout, done.returncode == 0


def succeed(*options, **variables):
    output, well = run(*options, **variables)
    assert well, output
    return output


def fail(*options, **variables):
    output, well = run(*options, **variables)
    assert not well, output
    return output


def with_names(**names):
    """What converge.yml has, with other names beside them or instead of them; None takes one away."""
    play = yaml.safe_load(CONVERGE.read_text())[0]["vars"]
    requests = {each["name"]: each for each in play["certificates_requests"]}
    for name, wanted in names.items():
        requests.pop(name, None)
        requests |= {name: {"name": name, **wanted}} if wanted else {}
    sites = [
        {
            "name": name,
            "domains": each["domains"],
            "certificate": {key: f"/etc/ssl/vivarium/{name}/{file}" for key, file in FILES.items()},
            "static": play["nginx_sites"][0]["static"],
        }
        for name, each in requests.items()
    ]
    return {"certificates_requests": list(requests.values()), "nginx_sites": sites}


@pytest.fixture(scope="module")
def authority(hosts):
    """The host of the authority, which is also the visitor of the sites."""
    trust(hosts["authority"])
    return hosts["authority"]


def trust(host):
    """Have visitors trust both authorities; one that was started anew has another root."""
    for port in ("15000", "15001"):
        host.check_output(
            "curl --silent --show-error --retry 20 --retry-connrefused --retry-delay 1 --cacert /etc/pebble/root.pem"
            " https://authority:%s/roots/0 >> /tmp/roots.pem && echo >> /tmp/roots.pem",
            port,
        )


def visit(authority, address, domain):
    """A page of a site for somebody who trusts the authority and nobody else: its status, 0 where the certificate is not good."""
    return authority.run(
        "curl --silent --output /dev/null --write-out '%%{http_code}' --cacert /tmp/roots.pem --resolve %s https://%s/files/x",
        f"{domain}:443:{address}",
        domain,
    ).stdout


def shown(authority, address, domain):
    """The serial number and the names of the certificate that a visitor gets."""
    text = authority.check_output(
        "openssl s_client -connect %s -servername %s </dev/null 2>/dev/null | openssl x509 -noout -serial -ext subjectAltName",
        f"{address}:443",
        domain,
    )
    return re.search(r"serial=(\w+)", text)[1], sorted(re.findall(r"DNS:([\w.*-]+)", text))


def orders(authority):
    """How many certificates the authorities were asked for."""
    return int(
        authority.check_output(
            "journalctl --sync; journalctl -u pebble -u pebble-dns -o cat | grep -c 'POST /order-plz' || true"
        )
    )


def leads(authority, domain, *addresses):
    """Where a name leads, as the authority sees it."""
    for path, body in (
        ("clear-a", {"host": domain}),
        *([("add-a", {"host": domain, "addresses": addresses})] if addresses else []),
    ):
        authority.check_output("curl --silent --fail --data %s http://127.0.0.1:8055/%s", json.dumps(body), path)


def test_every_site_shows_a_certificate_of_the_authority(authority, addresses):
    for name in WEB:
        for domain in ("shared.test", "www.shared.test", f"own.{name}.test"):
            assert visit(authority, addresses[name], domain) == "404", (name, domain)
        assert visit(authority, addresses[name], "inner.test") == "000"  # signed by itself, as it was asked


def test_each_web_server_has_a_key_of_its_own(hosts, authority, addresses):
    """All names lead to debian12: what debian13 was asked for came by way of it, and nothing but the answer."""
    serials = {shown(authority, addresses[name], "shared.test")[0] for name in WEB}
    assert len(serials) == 2
    keys = {hosts[name].check_output("sha256sum < /etc/ssl/vivarium/shared/privkey.pem") for name in WEB}
    assert len(keys) == 2
    for name in WEB:
        key = hosts[name].file("/etc/ssl/vivarium/shared/privkey.pem")
        assert (key.mode, key.user) == (0o600, "root")
        assert hosts[name].file("/etc/letsencrypt/archive").mode == 0o700


def test_a_challenge_that_nobody_knows_goes_one_hop(hosts, authority, addresses):
    token = "a-token-that-nobody-knows"
    url = f"http://shared.test/.well-known/acme-challenge/{token}"
    command = "curl --silent --output /dev/null --write-out '%%{http_code}' --resolve %s %s"
    assert authority.check_output(command, f"shared.test:80:{addresses['debian12']}", url) == "404"

    def lines(name):
        # nginx writes them together, within a second.
        return int(hosts[name].check_output("sleep 2; grep -c %s /var/log/nginx/access.log || true", token))

    assert {name: wait_until(lambda name=name: lines(name)) for name in WEB} == {"debian12": 1, "debian13": 1}
    # Whoever says that a web server asked already is told so at once.
    command += " --header 'X-Vivarium-Acme: asked'"
    assert authority.check_output(command, f"shared.test:80:{addresses['debian12']}", url) == "404"
    assert wait_until(lambda: lines("debian12") == 2) and lines("debian13") == 1


def test_a_second_run_asks_nothing(authority):
    before = orders(authority)
    output = succeed()
    assert {changed(output, name) for name in WEB} == {0} and orders(authority) == before > 0


def changed(output, host):
    return int(re.search(rf"^{host} .*changed=(\d+)", output, re.M)[1])


def test_a_line_that_is_gone_from_the_inventory_takes_no_certificate_away(authority, addresses):
    former, before = shown(authority, addresses["debian12"], "shared.test"), orders(authority)
    succeed(only="debian12", certificates_acme_email="")
    assert shown(authority, addresses["debian12"], "shared.test") == former and orders(authority) == before


def test_check_mode_says_what_would_be_asked_for_and_asks_nothing(authority):
    before = orders(authority)
    output = succeed("--check", "--diff", only="debian12", **with_names(new={"domains": ["new.test"]}))
    assert "new: is missing" in output and orders(authority) == before


VISITOR = r"""
import http.client, json, socket, ssl, sys, threading

address, *domains = sys.argv[1:]
over, seen = threading.Event(), {"requests": 0, "failures": [], "serials": []}
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
context = ssl.create_default_context(cafile="/tmp/roots.pem")
print("begun", flush=True)
while not over.wait(0.01):
    for domain in domains:
        seen["requests"] += 1
        try:
            with socket.create_connection((address, 443), timeout=10) as plain:
                with context.wrap_socket(plain, server_hostname=domain) as connection:
                    serial = connection.getpeercert()["serialNumber"]
                    connection.sendall(f"GET /files/x HTTP/1.0\r\nHost: {domain}\r\n\r\n".encode())
                    status = connection.recv(12)
                    if status[9:] != b"404":
                        raise OSError(repr(status))
            if serial not in seen["serials"]:
                seen["serials"].append(serial)
        except OSError as error:
            seen["failures"].append(f"{domain}: {error!r}")
print(json.dumps(seen))
"""


@contextlib.contextmanager
def visitors(authority, address, *domains):
    """Somebody who comes anew for each page and trusts the authority alone, until the block ends."""
    process = subprocess.Popen(
        ["podman", "exec", "-i", authority.backend.name, "python3", "-c", VISITOR, address, *domains],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n", process.communicate(timeout=300)
    seen = {}
    try:
        yield seen
    finally:
        seen.update(json.loads(process.communicate(timeout=300)[0]))
    assert seen["failures"] == [] and seen["requests"] > 10


def renew(host, days):
    """certbot's service, as its timer starts it, on a day to come."""
    library = host.check_output("find /usr/lib -name libfaketime.so.1")
    future = f"[Service]\nEnvironment=LD_PRELOAD={library} FAKETIME=+{days}d\n"
    drop_in = "/run/systemd/system/certbot.service.d"
    host.check_output("mkdir -p %s && printf %%s %s > %s/future.conf", drop_in, future, drop_in)
    done = host.run("systemctl daemon-reload && systemctl start certbot.service")
    host.check_output("rm %s/future.conf && systemctl daemon-reload", drop_in)
    return done.rc


@pytest.mark.on(*WEB)
def test_the_timer_renews_when_a_third_of_the_life_is_left_and_nobody_notices(request, host, authority, addresses):
    name = request.node.callspec.params["host"]
    address, domain = addresses[name], f"own.{name}.test"
    host.check_output("apt-get install --yes --no-install-recommends faketime 2>&1")
    assert host.check_output("systemctl is-active certbot.timer") == "active"
    former = shown(authority, address, domain)[0]
    assert renew(host, 59) == 0 and shown(authority, address, domain)[0] == former
    with visitors(authority, address, domain) as seen:
        # This authority finds one nonce in five too old, and certbot gives up at the second: the timer comes again.
        assert any(renew(host, 61) == 0 for _ in range(6))
        wait_until(lambda: shown(authority, address, domain)[0] != former)
    assert seen["serials"][0] == former
    before = orders(authority)
    assert renew(host, 59) == 0 and orders(authority) == before


def test_a_failed_renewal_is_loud_and_harms_no_other_name(hosts, authority, addresses):
    host, address = hosts["debian12"], addresses["debian12"]
    kept, renewed = (shown(authority, address, domain)[0] for domain in ("own.debian12.test", "shared.test"))
    leads(authority, "own.debian12.test", addresses["authority"])
    for _ in range(6):  # for the nonces
        assert renew(host, 62) != 0
        if "vivarium-shared" not in host.check_output("journalctl --unit certbot.service --lines 6 --output cat"):
            break
    assert host.run("systemctl is-failed certbot.service").rc == 0
    assert "vivarium-own" in host.check_output("journalctl --unit certbot.service --lines 20 --output cat")
    assert shown(authority, address, "own.debian12.test")[0] == kept
    wait_until(lambda: shown(authority, address, "shared.test")[0] != renewed)
    leads(authority, "own.debian12.test", address)
    host.check_output("systemctl reset-failed certbot.service")


def test_a_name_that_does_not_lead_here_fails_its_own_certificate_only(authority, addresses):
    leads(authority, "stranger.test", addresses["authority"])
    output = fail(
        only="debian12", **with_names(stranger={"domains": ["stranger.test"]}, good={"domains": ["good.test"]})
    )
    said = re.findall(r"^stranger: stranger\.test \(.*$", output, re.M)
    assert said and "As this host sees it, the name leads to 192.0.2.7. The site goes on with a self-signed" in said[0]
    assert not re.search(r"^good: ", output, re.M)
    assert visit(authority, addresses["debian12"], "good.test") == "404"
    assert visit(authority, addresses["debian12"], "stranger.test") == "000"


def test_an_authority_that_is_down_stops_nothing_that_is_there(hosts, authority, addresses):
    authority.check_output("systemctl stop pebble")
    try:
        output = fail(only="debian13", **with_names(late={"domains": ["late.test"]}))
    finally:
        authority.check_output("systemctl start pebble")
    assert re.search(r"^late: the authority https://authority:14000/dir cannot be asked: .*refused", output, re.M)
    assert shown(authority, addresses["debian13"], "late.test")[1] == ["late.test"]  # one that stands in
    assert visit(authority, addresses["debian13"], "shared.test") == "404"


def test_an_account_that_the_authority_does_not_know_is_made_anew(authority, addresses):
    """It has forgotten all of them when it was stopped; and it has another key, too."""
    trust(authority)
    leads(authority, "late.test", addresses["debian13"])
    succeed(only="debian13", **with_names(late={"domains": ["late.test"]}))
    assert visit(authority, addresses["debian13"], "late.test") == "404"
    assert visit(authority, addresses["debian13"], "shared.test") == "404"


def test_domains_come_and_go_and_types_change_while_visitors_come(hosts, authority, addresses):
    host, address = hosts["debian12"], addresses["debian12"]
    with visitors(authority, address, "shared.test"):
        succeed(only="debian12", **with_names(shared={"domains": ["shared.test", "shop.shared.test"]}))
        wait_until(lambda: shown(authority, address, "shared.test")[1] == ["shared.test", "shop.shared.test"])
        assert visit(authority, address, "shop.shared.test") == "404"
        # From one that signs itself to one of the authority's, and back.
        succeed(only="debian12", **with_names(inner={"domains": ["inner.test"]}))
        wait_until(lambda: visit(authority, address, "inner.test") == "404")
        succeed(only="debian12")
        assert (
            visit(authority, address, "inner.test") == "000" and visit(authority, address, "www.shared.test") == "404"
        )
    # What is the authority's no more is not renewed any more, and nothing brings it back.
    serial = shown(authority, address, "inner.test")[0]
    assert "vivarium-inner" in host.check_output("ls /etc/letsencrypt/renewal")
    assert renew(host, 1) == 0
    assert "vivarium-inner" not in host.check_output("ls /etc/letsencrypt/renewal")
    assert shown(authority, address, "inner.test")[0] == serial


def test_what_a_killed_run_left_in_certbot_is_put_in_place_and_nobody_is_asked(hosts, authority, addresses):
    host, address = hosts["debian12"], addresses["debian12"]
    serial = shown(authority, address, "shared.test")[0]
    before = orders(authority)
    # As if the run had died before certbot's answer was put in place.
    host.check_output("cd /etc/ssl/vivarium && cp inner/*.pem shared/ && rm shared/acme.json && systemctl reload nginx")
    wait_until(lambda: shown(authority, address, "shared.test")[1] == ["inner.test"])
    succeed(only="debian12")
    wait_until(lambda: shown(authority, address, "shared.test")[0] == serial)
    assert orders(authority) == before


def test_a_wildcard_is_proven_through_the_dns_with_an_account_that_is_bound_to_a_key(hosts, authority, addresses):
    """The second authority wants such an account, and looks names up in BIND, which certbot's plugin changes."""
    dns = {
        "plugin": "rfc2136",
        "propagation_seconds": 1,
        "credentials": {
            "dns_rfc2136_server": addresses["authority"],
            "dns_rfc2136_name": "acme.",
            "dns_rfc2136_secret": TSIG,
            "dns_rfc2136_algorithm": "HMAC-SHA256",
        },
    }
    names = {"any": {"domains": ["*.dns.test"]}} | dict.fromkeys(("shared", "own"))
    output = succeed("--diff", "-vvv", only="debian13", **with_names(**names), **SECOND, certificates_acme_dns=dns)
    assert visit(authority, addresses["debian13"], "every.dns.test") == "404"
    host = hosts["debian13"]
    journal = host.check_output("journalctl --no-pager --output cat")
    for secret in (TSIG, SECOND["certificates_acme_eab"]["hmac_key"]):
        assert journal.count(secret) == 0
        # It is in the command that this test gave, which -vvv does not print.
        assert output.count(secret) == 0
    assert host.file("/etc/letsencrypt/vivarium-dns.ini").mode == 0o600
