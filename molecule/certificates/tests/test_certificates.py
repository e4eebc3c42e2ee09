"""Certificates that are good, stay good, and whose keys nobody sees."""

from __future__ import annotations

import datetime
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SCENARIO = Path(__file__).resolve().parent.parent
HOME = "/etc/ssl/vivarium"
NOW = datetime.datetime.now(datetime.UTC)
LONG = "a-name-that-is-as-long-as-a-label-may-be-which-is-sixty-three-ch.example.test"

# Connects to itself as a client does that trusts this one certificate and takes every rule seriously.
HANDSHAKE = """
import socket, ssl, sys, threading
home, name = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(f"{home}/fullchain.pem", f"{home}/privkey.pem")
ours, theirs = socket.socketpair()
def serve():
    try:
        server.wrap_socket(theirs, server_side=True)
    except (ssl.SSLError, ConnectionError):
        pass
threading.Thread(target=serve, daemon=True).start()
client = ssl.create_default_context(cafile=f"{home}/fullchain.pem")
client.verify_flags |= ssl.VERIFY_X509_STRICT
client.wrap_socket(ours, server_hostname=name)
"""


def play(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "ansible-playbook", "--inventory", os.environ["MOLECULE_INVENTORY_FILE"], "--limit", name, *options,
            str(SCENARIO / "converge.yml"),
        ],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(params=["debian12", "debian13"])
def name(request) -> str:
    return request.param


@pytest.fixture
def host(name, hosts):
    return hosts[name]


def certificate(host, which: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(host.check_output(f"cat {HOME}/{which}/fullchain.pem").encode())


def serials(host) -> dict[str, int]:
    return {which: certificate(host, which).serial_number for which in ("shop", "long", "provided")}


def notified(host) -> int:
    return len(host.check_output("cat /var/tmp/certificates-changed").splitlines())


def put(host, path: str, content: bytes) -> None:
    host.check_output(f"printf %s {shlex.quote(content.decode())} > {path}")


def crafted(*domains: str, begin: int = -1, end: int = 396, issuer: str = "") -> tuple[bytes, bytes]:
    """A certificate and its key, valid between two days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domains[0])])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or domains[0])])
    names = [x509.DNSName(domain) for domain in domains if domain[0].isalpha()]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=begin))
        .not_valid_after(NOW + datetime.timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def test_self_signed_certificates_are_what_browsers_accept(host):
    for which, domains in (("shop", ["shop.test", "www.shop.test"]), ("long", [LONG, "*.example.test"])):
        made = certificate(host, which)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == domains
        assert isinstance(made.public_key().curve, ec.SECP256R1)
        assert made.not_valid_after_utc - made.not_valid_before_utc <= datetime.timedelta(days=397)
        assert made.not_valid_after_utc > NOW + datetime.timedelta(days=390)


@pytest.mark.parametrize(
    ("which", "domain"),
    [
        ("shop", "shop.test"),
        ("shop", "www.shop.test"),
        ("shop", "192.0.2.7"),
        ("long", LONG),
        ("long", "any.example.test"),
    ],
)
def test_a_strict_client_accepts_a_certificate_that_it_trusts(host, which, domain):
    run = host.run(f"python3 -c {shlex.quote(HANDSHAKE)} {HOME}/{which} {shlex.quote(domain)}")
    assert run.rc == 0, run.stderr
    assert host.run(f"python3 -c {shlex.quote(HANDSHAKE)} {HOME}/{which} other.test").rc != 0


def test_keys_are_for_root_alone(host):
    for which in ("shop", "long", "provided"):
        key = host.file(f"{HOME}/{which}/privkey.pem")
        assert (key.mode, key.user, key.group) == (0o600, "root", "root")
        assert host.run(f"runuser -u nobody -- cat {HOME}/{which}/fullchain.pem").rc == 0
        assert host.run(f"runuser -u nobody -- cat {HOME}/{which}/privkey.pem").rc != 0
        assert host.check_output(f"ls -A {HOME}/{which}").split() == ["fullchain.pem", "privkey.pem"]


def test_a_provided_certificate_is_the_one_that_was_given(host):
    given = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "provided.pem").read_text()
    assert host.file(f"{HOME}/provided/fullchain.pem").content_string == given


def test_a_provided_key_is_shown_nowhere(name, host):
    key = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "provided.key").read_text()
    host.check_output(f"rm {HOME}/provided/privkey.pem")
    run = play(name, "--diff", "-vvv")
    assert run.returncode == 0, run.stdout
    assert host.file(f"{HOME}/provided/privkey.pem").content_string == key
    lines = [line for line in key.splitlines() if "-----" not in line]
    journal = host.check_output("journalctl --no-pager --output cat")
    for output in (run.stdout, run.stderr, journal):
        assert not [line for line in lines if line in output]


def swap_key(host):
    put(host, f"{HOME}/shop/privkey.pem", crafted("shop.test")[1])


def truncate(host):
    host.check_output(f"truncate --size 100 {HOME}/shop/fullchain.pem")


def place(host, *domains, **options):
    made, key = crafted(*domains, **options)
    put(host, f"{HOME}/shop/fullchain.pem", made)
    put(host, f"{HOME}/shop/privkey.pem", key)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (swap_key, "does not belong to its key"),
        (truncate, "is not readable"),
        (lambda host: host.check_output(f"rm {HOME}/shop/privkey.pem"), "is missing"),
        (lambda host: place(host, "shop.test"), "is for other names"),
        (lambda host: place(host, "shop.test", issuer="An authority"), "was issued by an authority"),
    ],
    ids=["key", "damaged", "missing", "names", "authority"],
)
def test_what_is_not_good_is_made_again_and_nothing_else(name, host, harm, why):
    before, told = serials(host), notified(host)
    harm(host)
    run = play(name, "--diff")
    assert run.returncode == 0, run.stdout
    assert f"shop: {why}" in run.stdout
    after = serials(host)
    assert after.pop("shop") != before.pop("shop")
    assert after == before
    assert notified(host) == told + 1
    assert host.run(f"python3 -c {shlex.quote(HANDSHAKE)} {HOME}/shop shop.test").rc == 0


@pytest.mark.parametrize(
    ("begin", "end", "why"),
    [(-270, 126, "expires soon"), (-400, -3, "expires soon"), (-1, 800, "is good for too long"), (-250, 147, None)],
)
def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(name, host, begin, end, why):
    request = json.dumps({"certificates_requests": [{"name": "shop", "domains": ["shop.test"]}]})
    place(host, "shop.test", begin=begin, end=end)
    host.check_output(f"chmod 0600 {HOME}/shop/privkey.pem")
    before = certificate(host, "shop").serial_number
    run = play(name, "--diff", "--extra-vars", request, "--check")
    assert (f"shop: {why}" in run.stdout) == bool(why)
    assert certificate(host, "shop").serial_number == before, "check mode has made one"
    run = play(name, "--extra-vars", request)
    assert run.returncode == 0, run.stdout
    assert (certificate(host, "shop").serial_number != before) == bool(why)


def test_a_key_that_others_can_read_is_closed(name, host):
    assert play(name).returncode == 0
    before = serials(host)
    host.check_output(f"chmod 0644 {HOME}/shop/privkey.pem {HOME}/provided/privkey.pem")
    assert play(name).returncode == 0
    for which in ("shop", "provided"):
        assert host.file(f"{HOME}/{which}/privkey.pem").mode == 0o600
    assert serials(host) == before


def test_a_pair_that_does_not_fit_is_refused_before_anything_changes(name, host):
    before, told = serials(host), notified(host)
    wrong = crafted("provided.test")[1].decode()
    good = crafted("provided.test")[0].decode()
    request = {"name": "provided", "domains": ["provided.test"], "type": "provided", "certificate": good, "key": wrong}
    run = play(name, "-vvv", "--diff", "--extra-vars", json.dumps({"certificates_requests": [request]}))
    assert run.returncode != 0
    assert "certificates_requests[0] (provided): key: does not belong to the certificate" in run.stdout
    assert (serials(host), notified(host)) == (before, told)
    for change, message in (
        ({"type": "acme"}, "type: acme is not there yet; use self_signed or provided"),
        ({"key": None}, "key is missing: type provided needs both"),
        ({"keys": "x"}, "certificates_requests.keys"),
    ):
        run = play(name, "--extra-vars", json.dumps({"certificates_requests": [{**request, **change}]}))
        assert run.returncode != 0
        assert message in run.stdout


def test_a_run_that_changes_nothing_is_short(name, host):
    assert play(name).returncode == 0
    # Every module is one start of the interpreter.
    counter = '#!/bin/sh\necho run >> /tmp/module-runs\nexec /usr/bin/python3 "$@"\n'
    host.check_output("rm -f /tmp/module-runs; printf %s > /tmp/python; chmod +x /tmp/python", counter)
    run = play(name, "--extra-vars", "ansible_python_interpreter=/tmp/python")
    assert run.returncode == 0, run.stdout
    assert re.search(r"changed=0\b", run.stdout)
    assert len(host.check_output("cat /tmp/module-runs").splitlines()) <= 2
