"""HTTP/3, where Debian's nginx has it: the same sites, and the same walls between them.

What speaks it is a library that Debian 12 lacks, so the host asks itself, at the address that others have for it.
"""

from __future__ import annotations

import json
import shlex

import pytest
from test_nginx import Target

speaks_http3 = pytest.mark.on("debian13")
ALT_SVC = 'h3=":8443"; ma=86400'


@pytest.fixture
def target(request, host, hosts, addresses) -> Target:
    return Target(request.node.callspec.params["host"], hosts, addresses)


@pytest.fixture
def ask(target):
    def ask(domain: str, *questions: dict, meanwhile: str = "") -> list[dict]:
        """Answers to questions on one connection, whose handshake is for a name."""
        said = "".join(json.dumps(question) + "\n" for question in questions)
        run = target.host.run(
            f"(printf %s {shlex.quote(said)}; {meanwhile or 'true'}) |"
            f" python3 /opt/vivarium-test/http3.py {target.address} {target.https} {domain}"
        )
        assert run.rc == 0, run.stderr
        return [json.loads(line) for line in run.stdout.splitlines()]

    return ask


@speaks_http3
def test_a_site_answers_and_its_application_sees_what_it_sees_otherwise(ask, target):
    (page,) = ask("shop.test", {"path": "/cart?a=b", "x-forwarded-for": "203.0.113.1", "x-real-ip": "203.0.113.1"})
    seen = json.loads(page["body"])
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert (page["status"], seen["target"], headers["host"]) == (200, "/cart?a=b", "shop.test:8443")
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == target.address
    posted, file, large = ask(
        "shop.test",
        {"path": "/", ":method": "POST", "size": 100_000},
        {"path": "/static/css/copies.27e20196a850.css", "accept-encoding": "br"},
        {"path": "/", ":method": "POST", "size": 2_000_000},
    )
    assert (posted["status"], json.loads(posted["body"])["body"]) == (200, 100_000)
    assert (file["status"], file["body"]) == (200, "br, as it lies there")
    assert large["status"] == 413


@speaks_http3
def test_a_handshake_for_an_unknown_name_is_refused(ask):
    # Behind a proxy, what is spoken is the proxy's to say; a name without a certificate has none to show.
    for name in ("elsewhere.test", "proxied.test", "plain.test"):
        assert [list(answer) for answer in ask(name, {"path": "/"})] == [["refused"]], name
    assert ask("shop.test", {"path": "/"})[0]["status"] == 200


@speaks_http3
def test_a_connection_for_one_name_opens_no_other_site(ask):
    other, wild, unknown, crossed, nothing, host = ask(
        "shop.test",
        {"path": "/", ":authority": "down.test"},
        {"path": "/", ":authority": "a.wild.test"},
        {"path": "/", ":authority": "elsewhere.test"},
        {"path": "/", ":authority": "shop.test", "host": "down.test"},
        {"path": "/", ":authority": None},
        {"path": "/", ":authority": None, "host": "down.test"},
    )
    assert [answer.get("status") for answer in (other, wild, crossed, nothing, host)] == [421, 421, 400, 400, 421]
    assert list(unknown) == ["refused"]
    # One certificate for both.
    assert [answer["status"] for answer in ask("a.wild.test", {"path": "/", ":authority": "twin.test"})] == [200]


@speaks_http3
def test_every_answer_of_a_site_says_that_it_speaks_http3(ask, target):
    for path in ("/", "/headers", "/static/css/base.css", "/static/none", "/media/page.html", "/media/none"):
        over_tcp = target.curl(f"https://shop.test{path}")
        (over_udp,) = ask("shop.test", {"path": path})
        assert over_tcp.header("alt-svc") == over_udp["headers"]["alt-svc"] == ALT_SVC, path
        assert over_tcp.status == over_udp["status"]
    for url in ("https://www.shop.test/", "https://down.test/"):
        assert target.curl(url).header("alt-svc") == ALT_SVC, url
    for url in ("http://shop.test/", "http://plain.test/", "https://proxied.test/"):
        assert "alt-svc" not in target.curl(url).headers, url
    assert "alt-svc" not in target.curl("http://shop.test:8100/static/css/base.css", asker=target.host).headers


@speaks_http3
def test_a_reload_loses_no_request_of_a_connection(ask):
    answers = ask("shop.test", {"path": "/slow?1"}, meanwhile="sleep 0.3; systemctl reload nginx")
    assert [answer.get("status") for answer in answers] == [200]
    assert ask("shop.test", {"path": "/"})[0]["status"] == 200


@pytest.mark.on("debian12")
def test_where_nginx_has_none_the_run_stops(target):
    before = target.configuration()
    run = target.play("--extra-vars", '{"nginx_http3": true}')
    assert run.returncode != 0
    assert "nginx_http3: the nginx of Debian 12 has no HTTP/3" in " ".join(run.stdout.split())
    assert target.configuration() == before
