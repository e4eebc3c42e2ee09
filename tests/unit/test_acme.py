"""Asking an authority for certificates: what is made of its answers, and of what a run that was killed has left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._certificates import acme
from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import RECORD, look

STAGING, PRODUCTION = "https://staging.test/directory", "https://production.test/directory"
REQUEST = {"name": "shop", "domains": ["shop.test"], "authenticator": "webroot"}
FAILED = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
Requesting a certificate for shop.test and www.shop.test

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: shop.test
  Type:   unauthorized
  Detail: 192.0.2.7: Invalid response (got "<h1>This account has been deactivated</h1>")

  Domain: www.shop.test
  Type:   dns
  Detail: DNS problem: NXDOMAIN looking up A

Hint: The Certificate Authority failed to download the temporary challenge files.
Some challenges have failed.
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host's directories, with a certificate that another authority has signed."""
    monkeypatch.setattr(acme, "CERTBOT", tmp_path / "letsencrypt")
    monkeypatch.setattr(acme, "LOG", tmp_path / "letsencrypt.log")
    monkeypatch.setattr(acme, "SECRETS", tmp_path / "secrets")
    monkeypatch.setattr(acme, "leads", lambda domain: f" [{domain}]")
    monkeypatch.setattr(acme, "next_try", lambda: "Then")
    home = tmp_path / "ssl/shop"
    home.mkdir(parents=True)
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split()
    for words in (
        ["req", "-x509", *key, "-days", "90", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.pem"],
        ["req", *key, "-subj", "/CN=shop.test", "-keyout", "privkey.pem", "-out", "shop.csr"],
        "x509 -req -in shop.csr -CA root.pem -CAkey root.key -CAcreateserial -days 90 -extfile names -out fullchain.pem".split(),
    ):
        (home / "names").write_text("subjectAltName=DNS:shop.test")
        subprocess.run([shutil.which("openssl"), *words], cwd=home, capture_output=True, check=True)
    (tmp_path / "letsencrypt/renewal").mkdir(parents=True)
    return tmp_path


def parameters(host, **changes):
    return {
        "requests": [REQUEST],
        "authority": PRODUCTION,
        "email": "admin@shop.test",
        "install": ["true"],
        "directory": str(host / "ssl"),
        "webroot": str(host / "webroot"),
        "port": 80,
        "profile": "",
        "eab_kid": "",
        "eab_hmac_key": "",
        "dns_credentials": "",
        "propagation_seconds": 0,
        **changes,
    }


def issued_by(host, authority):
    serial = subprocess.run(
        ["openssl", "x509", "-noout", "-serial", "-in", host / "ssl/shop/fullchain.pem"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    issued = {"serial": serial.partition("=")[2], "authority": authority, "authenticator": "webroot"}
    (host / "ssl/shop" / RECORD).write_text(json.dumps({"issued": issued}))


def test_a_good_certificate_is_asked_for_by_nobody(host, monkeypatch):
    issued_by(host, PRODUCTION)
    monkeypatch.setattr(acme, "ask_for", lambda *_: pytest.fail("asked"))
    assert acme.main(parameters(host), False, False)["changed"] is False


def test_a_change_of_authority_that_was_refused_is_not_done_and_is_tried_again(host, monkeypatch):
    """From the staging authority to the real one, which is down."""
    issued_by(host, STAGING)
    monkeypatch.setattr(acme, "authority_problem", lambda _url: "it is down")
    for _run in range(2):
        result = acme.main(parameters(host), False, False)
        assert (result["changed"], result["made"]) == (False, [])
        assert len(result["refused"]) == 1 and result["refused"][0].startswith(
            "shop: it is down. The site goes on with"
        )
    assert look(str(host / "ssl/shop"))["acme"]["authority"] == STAGING


def test_what_is_good_for_a_while_can_wait(host, monkeypatch):
    issued_by(host, PRODUCTION)
    found = look(str(host / "ssl/shop"))
    kind, said = acme.sentence(REQUEST, found, acme.Trouble("it is down"), PRODUCTION)
    assert kind == "late" and "good until" in said and said.endswith("Then")
    # A provided one, until now: no timer knows it.
    kind, said = acme.sentence(REQUEST, found | {"acme": {}}, acme.Trouble("it is down"), PRODUCTION)
    assert kind == "late" and said.endswith("asks again")
    for worse in ({"self_signed": True}, {"left": 0}, {"names": ["other.test"]}):
        assert acme.sentence(REQUEST, found | worse, acme.Trouble("it is down"), PRODUCTION)[0] == "refused"
    assert acme.sentence(REQUEST, {}, acme.Unanswered("nobody"), PRODUCTION)[0] == "unanswered"


def test_each_name_that_was_refused_is_told_with_where_it_leads():
    said = acme.explained(FAILED, "")
    assert said.startswith("shop.test (unauthorized): 192.0.2.7: Invalid response")
    assert "www.shop.test (dns): DNS problem: NXDOMAIN looking up A" in said
    assert "\n" not in said


def test_other_errors_are_told_in_the_words_of_the_authority():
    assert (
        acme.explained("An unexpected error occurred:\nAttributeError: x", "rateLimited :: too many")
        == "rateLimited :: too many"
    )
    assert acme.explained("Saving debug log to x\nSome trouble.\nAsk for help", "") == "Some trouble"


@pytest.fixture
def certbot(host, monkeypatch):
    """A certbot that answers what it is told to; what it was given is written down."""
    answers, given = [], []

    def run(command, **_options):
        with open(command[-1]) as file:
            given.append(dict(line.strip().split(" = ", 1) for line in file))
        code, said, log = answers.pop(0)
        with open(acme.LOG, "a") as file:
            file.write(log)
        return subprocess.CompletedProcess(command, code, said)

    monkeypatch.setattr(acme.subprocess, "run", run)
    return answers, given


def account(host, name):
    home = host / "letsencrypt/accounts/production.test/directory" / name
    home.mkdir(parents=True)
    (home / "regr.json").write_text("{}")


def error(text):
    return f"Traceback\nacme.messages.Error: urn:ietf:params:acme:error:{text}\n"


def test_an_unknown_account_is_put_aside_and_the_others_renew_with_the_new_one(host, certbot):
    answers, given = certbot
    account(host, "old")
    other = host / "letsencrypt/renewal/vivarium-other.conf"
    other.write_text("version = 4\n[renewalparams]\naccount = old\n")
    foreign = host / "letsencrypt/renewal/mail.conf"
    foreign.write_text("[renewalparams]\naccount = old\n")
    answers += [(1, "An unexpected error occurred", error("accountDoesNotExist :: gone")), (0, "", "")]
    acme.ask(parameters(host), REQUEST)
    assert given[0]["account"] == "old" and "account" not in given[1]
    assert not list((host / "letsencrypt/accounts/production.test/directory").iterdir())
    assert "account = old" in other.read_text()  # this certbot made no new one
    account(host, "new")
    acme.renew_with(PRODUCTION, "old")
    assert other.read_text() == "version = 4\n[renewalparams]\naccount = new\n"
    assert "account = old" in foreign.read_text()


def test_what_a_site_says_is_no_word_of_the_authority_on_the_account(host, certbot):
    answers, _given = certbot
    account(host, "old")
    answers.append((1, FAILED, '  "detail": "account is not valid, has status deactivated"\n'))
    with pytest.raises(acme.Trouble, match="shop"):
        acme.ask(parameters(host), REQUEST)
    assert [each.name for each in (host / "letsencrypt/accounts/production.test/directory").iterdir()] == ["old"]


def test_a_nonce_that_is_too_old_is_tried_again(host, certbot):
    answers, given = certbot
    answers += [(1, "x", error("badNonce :: old"))] * 3 + [(0, "", "")]
    acme.ask(parameters(host), REQUEST)
    assert len(given) == 4


def test_secrets_are_in_a_file_that_goes(host, certbot):
    answers, given = certbot
    answers.append((0, "", ""))
    acme.ask(parameters(host, eab_kid="kid", eab_hmac_key="hunter2"), REQUEST)
    assert given[0]["eab-hmac-key"] == "hunter2" and list(acme.SECRETS.iterdir()) == []
    assert acme.SECRETS.stat().st_mode & 0o077 == 0


def test_what_a_killed_certbot_left_half_made_is_out_of_the_way(host):
    name = "vivarium-shop"
    for part in ("live", "archive"):
        (host / "letsencrypt" / part / name).mkdir(parents=True)
    configuration = host / f"letsencrypt/renewal/{name}.conf"
    configuration.write_text("[renewalparams]\n")
    acme.remove_half_made(name)
    assert configuration.exists() and (host / "letsencrypt/live" / name).exists()
    configuration.write_text("")
    acme.remove_half_made(name)
    assert not configuration.exists()
    assert os.listdir(host / "letsencrypt/live") == os.listdir(host / "letsencrypt/archive") == []
