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
LONG = "a-name-as-long-as-a-label-can-be-which-is-sixty-three-character.example.test"

# Connects to itself as a client does that trusts this one certificate and takes every rule seriously.
HANDSHAKE = """
import socket, ssl, sys, threading
home, name = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(f"{home}/fullchain.pem", f"{home}/privkey.pem")
ours, theirs = socket.socketpair()
def serve():
    try:
        server.wrap_socket(theirs, server_side=True).close()
    except OSError:
        theirs.close()
thread = threading.Thread(target=serve)
thread.start()
client = ssl.create_default_context(cafile=f"{home}/fullchain.pem")
client.verify_flags |= ssl.VERIFY_X509_STRICT
try:
    client.wrap_socket(ours, server_hostname=name).close()
finally:
    # An interpreter that ends while a thread is inside OpenSSL may crash.
    ours.close()
    thread.join()
"""


def play(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "ansible-playbook", "--inventory", os.environ["MOLECULE_INVENTORY_FILE"], "--limit", name, *options,
            str(SCENARIO / "converge.yml"),
        ],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture
def name(request, host) -> str:
    """The host's name in the inventory."""
    return request.node.callspec.params["host"]


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


def place(host, which, domain="one.test", **options):
    """Put a crafted certificate where the role expects one."""
    made, key = crafted(domain, **options)
    host.check_output(f"install -d {HOME}/{which} && install -m 0600 /dev/null {HOME}/{which}/privkey.pem")
    put(host, f"{HOME}/{which}/fullchain.pem", made)
    put(host, f"{HOME}/{which}/privkey.pem", key)


# What is wrong with a certificate, and what the role says of it. All are for one.test.
CASES = {
    "nothing": "is missing",
    "keyless": "is missing",
    "damaged": "is not readable",
    "swapped": "does not belong to its key",
    "other": "is for other names",
    "authority": "was issued by an authority",
    "old": "expires soon",
    "expired": "expires soon",
    "overlong": "is good for too long",
    "good": None,
    "middle-aged": None,
}


def harm(host):
    for which in set(CASES) - {"nothing"}:
        place(host, which)
    host.check_output(f"rm {HOME}/keyless/privkey.pem")
    host.check_output(f"truncate --size 100 {HOME}/damaged/fullchain.pem")
    put(host, f"{HOME}/swapped/privkey.pem", crafted("one.test")[1])
    place(host, "other", "two.test")
    place(host, "authority", issuer="An authority")
    place(host, "old", begin=-270, end=126)
    place(host, "expired", begin=-400, end=-3)
    place(host, "overlong", begin=-1, end=800)
    place(host, "middle-aged", begin=-250, end=147)


def test_what_is_not_good_is_made_again_and_nothing_else(name, host):
    def sums():
        return dict(
            line.split()[::-1]
            for line in host.check_output(f"cd {HOME} && sha256sum {' '.join(paths)} || true").splitlines()
        )

    paths = [f"{which}/{part}.pem" for which in CASES for part in ("fullchain", "privkey")]
    requests = json.dumps({"certificates_requests": [{"name": which, "domains": ["one.test"]} for which in CASES]})
    untouched, told = serials(host), notified(host)
    try:
        harm(host)
        before = sums()
        run = play(name, "--extra-vars", requests, "--diff", "--check")
        assert run.returncode == 0, run.stdout
        for which, why in CASES.items():
            assert (f"{which}: {why}" in run.stdout) == bool(why), run.stdout
        assert sums() == before, "check mode changed something"
        run = play(name, "--extra-vars", requests)
        assert run.returncode == 0, run.stdout
        after = sums()
        for path in paths:
            assert (after[path] != before.get(path)) == bool(CASES[path.split("/")[0]]), path
        for which in CASES:
            assert host.run(f"python3 -c {shlex.quote(HANDSHAKE)} {HOME}/{which} one.test").rc == 0, which
        assert notified(host) == told + 1
        assert serials(host) == untouched
    finally:
        host.check_output(f"cd {HOME} && rm -rf {' '.join(CASES)}")


def test_a_key_that_others_can_read_is_closed(name, host):
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


def test_a_run_that_changes_nothing_is_short(name, host):
    # Every module is one start of the interpreter.
    counter = '#!/bin/sh\necho run >> /tmp/module-runs\nexec /usr/bin/python3 "$@"\n'
    host.check_output("rm -f /tmp/module-runs; printf %s > /tmp/python; chmod +x /tmp/python", counter)
    run = play(name, "--extra-vars", "ansible_python_interpreter=/tmp/python")
    assert run.returncode == 0, run.stdout
    assert re.search(r"changed=0\b", run.stdout)
    assert len(host.check_output("cat /tmp/module-runs").splitlines()) <= 2
