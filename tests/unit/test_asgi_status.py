"""What the playbook `status` tells of a host."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._asgi import releases as asgi
from ansible_collections.vivarium.server.plugins.module_utils._asgi import status as asgi_status
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ENDS = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(asgi, "ROOT", tmp_path)
    monkeypatch.setattr(asgi_status, "ROOT", tmp_path)
    monkeypatch.setattr(asgi_status, "units_of", lambda _name: [])
    return tmp_path


def add(root, name, **record):
    release = asgi.Application(name).release("r1")
    release.path.mkdir(parents=True)
    release.note(**record)
    return release


def test_applications_are_those_with_a_release(root):
    add(root, "shop", state="good")
    (root / "backups").mkdir()
    (root / "ftp/releases/x").mkdir(parents=True)
    (root / "note.txt").write_text("")
    assert list(asgi_status.applications_here()) == ["shop"]


def test_nothing_there_is_no_error(root, monkeypatch):
    monkeypatch.setattr(asgi_status, "ROOT", root / "none")
    assert list(asgi_status.applications_here()) == []


def test_what_never_went_live_is_told(root):
    add(root, "shop", state="built")
    status = asgi_status.status_of("shop", 5)
    assert status["live"] is None and next(asgi_status.text_of("shop", status)) == "shop: no live release"


def test_a_live_release_is_told_with_its_last_deploys(root):
    release = add(root, "shop", state="good", version="v1", live_since=1800000000.0)
    release.application.point_live_at(release)
    entry = {
        "at": "2027-01-15T08:00:00Z",
        "by": "ann",
        "action": "deploy",
        "version": "v1",
        "outcome": "failed",
        "step": "check",
    }
    lines = [json.dumps(entry | {"version": f"v{number}"}) for number in range(9)]
    (root / "shop/deploys.log").write_text("\n".join(lines) + '\n{"at": "half')
    status = asgi_status.status_of("shop", 3)
    assert (status["live"], status["version"]) == ("r1", "v1")
    assert [each["version"] for each in status["deploys"]] == ["v7", "v8"], "the last line is half written"
    text = "\n".join(asgi_status.text_of("shop", status))
    assert "shop: v1, release r1, live since 2027-01-15 08:00 UTC" in text
    assert "2027-01-15T08:00:00  deploy v8 by ann: failed at check" in text
    assert "no report" in text


NOW = datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize(
    ("issuer", "begins", "ends", "trouble"),
    [
        ("shop.example.com", NOW, ENDS, "signed by itself"),
        ("authority", NOW, ENDS, None),
        ("authority", NOW - datetime.timedelta(days=60), NOW + datetime.timedelta(days=29), None),
        ("authority", NOW - datetime.timedelta(days=70), NOW + datetime.timedelta(days=19), "should have been renewed"),
    ],
)
def test_the_end_of_the_certificate_is_what_a_visitor_gets(tmp_path, issuer, begins, ends, trouble):
    key = ec.generate_private_key(ec.SECP256R1())
    subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("shop.example.com", issuer))
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key()).serial_number(1)
    )
    signed = builder.not_valid_before(begins).not_valid_after(ends).sign(key, hashes.SHA256())
    private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "both.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*private))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _address = server.accept()
            context.wrap_socket(connection, server_side=True).close()

        threading.Thread(target=answer, daemon=True).start()
        verify = {"port": server.getsockname()[1], "domain": "shop.example.com"}
        found = asgi_status.certificate_of(verify)
    assert found["certificate_ends"] == int(ends.timestamp())
    assert (trouble in found["certificate_trouble"]) if trouble else found["certificate_trouble"] is None
    assert asgi_status.certificate_of(verify) == {}, "nobody answers"
