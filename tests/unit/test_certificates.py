"""What the certificates role refuses before it writes anything, and that it never quotes a key."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess

import pytest
from ansible_collections.vivarium.server.plugins.filter.certificates import certificate_problems, certificates_plan
from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import look, problem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(*domains, key=KEY, subject="leaf", issuer="root", begin=-1, end=90) -> str:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=begin))
        .not_valid_after(NOW + datetime.timedelta(days=end))
    )
    if domains:
        names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def pem(key=KEY, password: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def request(**changes) -> dict:
    good = {
        "name": "shop",
        "domains": ["shop.test"],
        "type": "provided",
        "certificate": certificate("shop.test"),
        "key": pem(),
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


ROOT = certificate(key=OTHER, subject="root")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"certificate": certificate("*.test", "shop.test") + ROOT, "domains": ["shop.test", "www.test", "*.test"]},
        {"certificate": certificate("SHOP.test").replace("\n", "\r\n"), "key": pem().replace("\n", "\r\n")},
        {"certificate": "friendly name: shop\n" + certificate("shop.test") + "\n\n" + ROOT},
        {
            "type": "self_signed",
            "certificate": None,
            "key": None,
            "domains": ["shop.test", "*.shop.test", "10.0.0.1", "fd00::1"],
        },
        {"type": None, "certificate": None, "key": None, "domains": ["localhost"]},
    ],
)
def test_good_requests(changes):
    assert certificate_problems([request(**changes)]) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"key": pem(OTHER)}, "key: does not belong to the certificate"),
        ({"certificate": ROOT + certificate("shop.test")}, "own certificate must come first"),
        (
            {"certificate": certificate("shop.test", issuer="x") + ROOT},
            "number 2 of the chain did not issue the one before it",
        ),
        ({"certificate": certificate("www.shop.test")}, "is not for shop.test (it is for www.shop.test)"),
        ({"domains": ["a.b.test"], "certificate": certificate("*.test")}, "is not for a.b.test"),
        ({"domains": ["*.test"], "certificate": certificate("a.test")}, "is not for *.test"),
        ({"certificate": certificate()}, "it is for no name"),
        ({"certificate": certificate("shop.test", begin=-9, end=-1)}, "certificate: expired on 20"),
        ({"certificate": certificate("shop.test", begin=1)}, "certificate: is not valid before 20"),
        ({"certificate": "none"}, "holds no PEM certificate"),
        ({"certificate": certificate("shop.test").replace("MII", "MI")}, "certificate: is not readable"),
        ({"key": "none"}, "key: is not readable as a PEM private key"),
        ({"key": pem(password=b"secret")}, "is protected by a passphrase"),
        ({"key": pem(rsa.generate_private_key(65537, 1024))}, "has 1024 bits"),
        ({"key": None}, "key is missing: type provided needs both"),
        ({"certificate": ""}, "certificate is missing"),
        ({"type": "acme"}, "type acme needs certificates_acme_email"),
        ({"type": "acne"}, "type: 'acne' is none of acme, self_signed, provided"),
        ({"type": "self_signed"}, "certificate and key belong to type provided"),
        ({"domains": "shop.test"}, "domains must be a list"),
        ({"domains": []}, "domains needs at least one name"),
        ({"domains": ["Shop.test"]}, "'Shop.test' is not a lower-case domain name"),
        ({"domains": ["shop..test"]}, "'shop..test' is not a lower-case domain name"),
        ({"name": "../etc"}, "name must be lower-case letters"),
        ({"name": ".."}, "name must be lower-case letters"),
    ],
)
def test_bad_requests(changes, problem):
    problems = certificate_problems([request(**changes)])
    assert any(problem in found and found.startswith("certificates_requests[0] (") for found in problems), problems
    text = "\n".join(problems)
    for key in (pem(), pem(OTHER)):
        assert not [line for line in key.splitlines()[1:-1] if line in text]


def test_names_are_unique():
    assert certificate_problems([request(), request()]) == [
        "certificates_requests: the name 'shop' is used more than once"
    ]


def test_a_certificate_that_expires_soon_is_a_warning(monkeypatch):
    warnings = []
    monkeypatch.setattr("ansible.utils.display.Display.warning", lambda self, text: warnings.append(text))
    assert certificate_problems([request(certificate=certificate("shop.test", end=10))]) == []
    assert len(warnings) == 1
    assert "(shop): the provided certificate expires on" in warnings[0]


def test_only_provided_keys_are_written_and_as_secrets():
    plan = certificates_plan([request(), {"name": "own", "domains": ["own.test"]}], "/d")
    assert plan["self_signed"] == [{"name": "own", "domains": ["own.test"], "keep_issued": True}]
    # What an authority was asked for would take the place of what is provided when it is renewed.
    assert plan["files"][0] == {"path": "/d/shop/acme.json", "state": "absent"}
    assert [entry["path"] for entry in plan["files"][1:]] == ["/d/shop/fullchain.pem", "/d/shop/privkey.pem"]
    key = plan["files"][2]
    assert (key["mode"], key["secret"]) == ("0600", True)


GOOD = {
    "self_signed": True,
    "names": ["192.0.2.7", "own.test"],
    "life": 397 * 86400,
    "left": 300 * 86400,
    "paired": True,
    "open": False,
}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "is missing"),
        ({"self_signed": None}, "is not readable"),
        (GOOD | {"self_signed": False}, "was issued by an authority"),
        (GOOD | {"names": ["own.test"]}, "is for other names"),
        (GOOD | {"life": 826 * 86400, "left": 800 * 86400}, "is good for too long"),
        (GOOD | {"left": 132 * 86400}, "expires soon"),
        (GOOD | {"paired": False}, "does not belong to its key"),
        (GOOD, None),
    ],
)
def test_why_a_self_signed_certificate_is_made_anew(found, reason):
    assert problem(found, ["OWN.test", "192.0.2.7"], 397) == reason
    # The module gets what is not known to be good.
    requests = [{"name": "own", "domains": ["own.test", "192.0.2.7"]}]
    assert bool(certificates_plan(requests, "/etc/ssl/vivarium", {"own": found})["self_signed"]) == bool(reason)


def test_a_key_that_others_may_read_is_the_modules_business():
    plan = certificates_plan(
        [{"name": "own", "domains": ["own.test", "192.0.2.7"]}], "/etc/ssl/vivarium", {"own": GOOD | {"open": True}}
    )
    assert len(plan["self_signed"]) == 1


def test_what_openssl_says_of_a_certificate_it_made(tmp_path):
    openssl = shutil.which("openssl")
    assert look(str(tmp_path)) == {}
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=x".split()
    make += ["-addext", "subjectAltName=DNS:Own.test,IP:2001:db8::7", "-out", "fullchain.pem", "-keyout", "privkey.pem"]
    subprocess.run([openssl, *make], cwd=tmp_path, capture_output=True, check=True)
    found = look(str(tmp_path))
    assert found.pop("left") in range(9 * 86400 - 60, 9 * 86400 + 1) and found.pop("open") is (os.getuid() != 0)
    assert found == {
        "self_signed": True,
        "names": ["2001:db8::7", "own.test"],
        "life": 9 * 86400,
        "paired": True,
        "acme": {},
    }
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", "privkey.pem"], cwd=tmp_path, check=True)
    assert look(str(tmp_path))["paired"] is False


AUTHORITY = "https://authority.test/directory"
ACME = {
    "certificates_acme_email": "admin@shop.test",
    "certificates_acme_directory": AUTHORITY,
    "certificates_acme_profile": "",
    "certificates_acme_eab": {},
    "certificates_acme_dns": {},
    "certificates_acme_reload": ["nginx.service"],
    "certificates_acme_webroot": "/var/lib/vivarium/acme",
    "certificates_acme_port": 80,
}
DNS = {"plugin": "rfc2136", "credentials": {"dns_rfc2136_secret": "hunter2=="}, "propagation_seconds": 1}
GOT = GOOD | {"self_signed": False, "names": ["own.test"], "life": 90 * 86400, "left": 31 * 86400}
GOT |= {"acme": {"authority": AUTHORITY, "authenticator": "webroot", "serial": "01"}}


@pytest.mark.parametrize(
    ("found", "asked", "stand_in"),
    [
        ({}, True, True),
        ({"self_signed": None}, True, True),
        (GOT | {"paired": False}, True, True),
        (GOOD | {"acme": {}}, True, False),
        (GOT | {"acme": {}}, True, False),  # provided until now
        (GOT | {"acme": {"authority": "https://staging.test/directory"}}, True, False),
        (GOT | {"acme": GOT["acme"] | {"authenticator": "dns-rfc2136"}}, True, False),
        (GOT | {"names": ["own.test", "www.own.test"]}, True, False),
        (GOT | {"left": 29 * 86400}, True, False),
        (GOT, False, False),
    ],
)
def test_an_authority_is_asked_only_where_its_certificate_is_not_good(found, asked, stand_in):
    plan = certificates_plan([{"name": "own", "domains": ["own.test"]}], "/d", {"own": found}, acme=ACME)
    assert plan["acme"] == ([{"name": "own", "domains": ["own.test"], "authenticator": "webroot"}] if asked else [])
    assert plan["self_signed"] == ([{"name": "own", "domains": ["own.test"], "stand_in": True}] if stand_in else [])
    assert plan["packages"] == ["certbot", "openssl"]


def test_a_certificate_of_an_authority_stays_where_the_line_that_named_it_is_gone():
    """And with it its renewal; the word for a self-signed one is its type."""
    none = ACME | {"certificates_acme_email": ""}
    own = {"name": "own", "domains": ["own.test", "new.own.test"]}
    plan = certificates_plan([own], "/d", {"own": GOT}, acme=none)
    assert (plan["self_signed"], plan["acme"], plan["kept"]) == ([], [], ["own"])
    assert problem(GOT, own["domains"], 397, keep_issued=True) is None
    for worse in ({"left": 0}, {"paired": False}, {"acme": {}}):
        plan = certificates_plan([own], "/d", {"own": GOT | worse}, acme=none)
        assert plan["self_signed"] == [{**own, "keep_issued": True}] and plan["kept"] == []
    plan = certificates_plan([{**own, "type": "self_signed"}], "/d", {"own": GOT}, acme=none)
    assert (plan["self_signed"], plan["kept"]) == ([own], [])


def test_who_is_asked_is_said_by_the_address_and_by_each_certificate():
    requests = [request(), {"name": "own", "domains": ["own.test"], "type": "self_signed"}]
    requests += [
        {"name": "any", "domains": ["*.any.test"]},
        {"name": "one", "domains": ["one.test"], "challenge": "http"},
    ]
    acme = ACME | {"certificates_acme_dns": DNS}
    plan = certificates_plan(requests, "/d", acme=acme)
    assert [(each["name"], each["authenticator"]) for each in plan["acme"]] == [
        ("any", "dns-rfc2136"),
        ("one", "webroot"),
    ]
    assert plan["packages"] == ["certbot", "openssl", "python3-certbot-dns-rfc2136"]
    credentials = plan["files"][-1]
    assert credentials["content"] == 'dns_rfc2136_secret = "hunter2=="\n'
    assert (credentials["mode"], credentials["secret"]) == ("0600", True)
    assert certificates_plan([request()], "/d", acme=ACME)["packages"] == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"email": "admin"}, "certificates_acme_email: 'admin' is not an e-mail address"),
        ({"email": "a@b.test\nserver = x"}, "certificates_acme_email: "),
        ({"directory": "http://authority.test/directory"}, "is not the https:// URL of an ACME directory"),
        ({"directory": ""}, "certificates_acme_directory is empty"),
        ({"profile": "shortlived"}, "the certbot of Debian 12 does not know profiles"),
        ({"webroot": "acme"}, "certificates_acme_webroot must be an absolute path"),
        ({"port": 0}, "certificates_acme_port: '0' is not a port"),
        ({"reload": ["nginx"]}, "certificates_acme_reload must be a list of systemd units"),
        ({"reload": "nginx.service"}, "certificates_acme_reload must be a list of systemd units"),
        ({"eab": {"kid": "hunter2"}}, "certificates_acme_eab must be a dictionary of kid and hmac_key"),
        ({"eab": {"kid": "k", "hmac_key": "hunter2 "}}, "certificates_acme_eab: hmac_key is not what an authority"),
        ({"dns": {"plugin": "route66"}}, "plugin 'route66' is not among those that Debian 12 has"),
        ({"dns": {"plugin": "desec"}}, "plugin 'desec' is not among those that Debian 12 has"),
        ({"dns": DNS | {"token": "hunter2"}}, "certificates_acme_dns: unknown key 'token'"),
        ({"dns": DNS | {"propagation_seconds": "soon"}}, "propagation_seconds must be a number"),
        ({"dns": DNS | {"credentials": {"dns_key": "hunter2\n"}}}, "credentials: dns_key must be one line"),
        ({"dns": DNS | {"credentials": {"DNS KEY": "hunter2"}}}, "credentials: 'DNS KEY' is not an option"),
        ({"dns": DNS | {"credentials": ["hunter2"]}}, "credentials must be a dictionary"),
    ],
)
def test_bad_words_on_an_authority(changes, problem):
    acme = ACME | {f"certificates_acme_{key}": value for key, value in changes.items()}
    problems = certificate_problems([], acme=acme, release="12")
    assert len(problems) == 1 and problem in problems[0]
    assert "hunter2" not in problems[0]


@pytest.mark.parametrize(
    ("entry", "acme", "problem"),
    [
        ({"type": "acme"}, {"certificates_acme_email": ""}, "type acme needs certificates_acme_email"),
        ({"domains": ["*.own.test"]}, {}, "'*.own.test' can only be proven through the DNS: certificates_acme_dns"),
        ({"domains": ["192.0.2.7"]}, {}, "'192.0.2.7' is an address, for which type acme has no certificate"),
        ({"domains": ["localhost"]}, {}, "'localhost' is not a name that an authority gives certificates for"),
        ({"challenge": "dns"}, {}, "challenge dns needs certificates_acme_dns"),
        ({"challenge": "tls"}, {}, "challenge: 'tls' is none of http, dns"),
    ],
)
def test_what_an_authority_cannot_be_asked(entry, acme, problem):
    problems = certificate_problems([{"name": "own", "domains": ["own.test"], **entry}], acme=ACME | acme, release="13")
    assert len(problems) == 1 and problem in problems[0], problems


def test_good_words_on_an_authority():
    acme = ACME | {"certificates_acme_profile": "shortlived", "certificates_acme_dns": DNS}
    acme |= {"certificates_acme_eab": {"kid": "k-1", "hmac_key": "aGVsbG8_"}}
    assert certificate_problems([{"name": "own", "domains": ["*.own.test"]}], acme=acme, release="13") == []
