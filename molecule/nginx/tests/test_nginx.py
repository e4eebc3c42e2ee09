"""What nginx lets through, what it refuses and what it survives, seen from another host."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from play import wait_until

SCENARIO = Path(__file__).resolve().parent.parent
ROOT = SCENARIO.parent.parent
sys.path.append(str(ROOT / "tests" / "unit"))
init_plugin_loader([str(ROOT / ".collections")])

import nginx_forms  # noqa: E402  (found by the lines above)

INVENTORY = os.environ["MOLECULE_INVENTORY_FILE"]
CLIENT = "python3 /opt/vivarium-test/client.py"
PORTS = {"debian12": (80, 443), "debian13": (8080, 8443)}
BACKEND_PORT = 8100
EMPTY_REPLY = 52  # curl's exit status


@dataclass
class Answer:
    """What curl got."""

    rc: int
    status: int
    headers: dict[str, list[str]]
    body: str

    def header(self, name: str) -> str:
        """The one value of a header."""
        (value,) = self.headers[name]
        return value


class Target:
    """A host under test, asked from the outside: by the other host of the scenario."""

    def __init__(self, name, hosts, addresses):
        self.name = name
        self.host = hosts[name]
        self.asker = next(each for other, each in hosts.items() if other != name)
        self.address = addresses[name]
        self.http, self.https = PORTS[name]
        self.suffix = "" if self.https == 443 else f":{self.https}"

    def curl(self, url: str, *options: str, asker=None) -> Answer:
        scheme, _, rest = url.partition("://")
        domain = re.split("[:/?]", rest)[0]
        if ":" not in rest.split("/")[0]:
            port = self.https if scheme == "https" else self.http
            url = f"{scheme}://{domain}:{port}{rest[len(domain) :]}"
        port = url.split("://")[1].split("/")[0].rpartition(":")[2]
        run = (asker or self.asker).run(
            "curl --silent --include --insecure --path-as-is --max-time 20 "
            + shlex.join(["--resolve", f"{domain}:{port}:{self.address}", *options, url])
        )
        head, _, body = run.stdout.replace("\r\n", "\n").partition("\n\n")
        while re.match(r"HTTP/[\d.]+ 1\d\d", head):  # 100 Continue
            head, _, body = body.partition("\n\n")
        headers: dict[str, list[str]] = {}
        for line in head.splitlines()[1:]:
            key, _, value = line.partition(":")
            headers.setdefault(key.lower(), []).append(value.strip())
        status = int(head.split()[1]) if head else 0
        return Answer(run.rc, status, headers, body)

    def upstream(self, url: str, *options: str, **kwargs) -> dict:
        """What reached the application."""
        answer = self.curl(url, *options, **kwargs)
        assert answer.status == 200, answer
        seen = json.loads(answer.body)
        seen["headers"] = [(name.lower(), value) for name, value in seen["headers"]]
        return seen

    def client(self, action: str, *arguments: str, asker=None) -> dict:
        run = (asker or self.asker).run(f"{CLIENT} {action} {self.address} {self.https} {' '.join(arguments)}")
        assert run.rc == 0, run.stderr
        return json.loads(run.stdout)

    def main_pid(self) -> int:
        return int(self.host.check_output("systemctl show --property MainPID --value nginx"))

    def workers(self) -> set[str]:
        return set(self.host.check_output(f"pgrep --parent {self.main_pid()}").split())

    def serves(self) -> bool:
        return self.curl("https://shop.test/").status == 200

    def wait_until_serving(self, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not self.serves():
            assert time.monotonic() < deadline, f"nginx does not serve after {seconds} s"
            time.sleep(0.2)

    def play(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "ansible-playbook",
                "--inventory",
                INVENTORY,
                "--limit",
                self.name,
                *options,
                str(SCENARIO / "converge.yml"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def configuration(self) -> str:
        return self.host.check_output("cat /etc/nginx/nginx.conf /etc/nginx/sites.d/* | sha256sum")


@pytest.fixture
def target(request, host, hosts, addresses) -> Target:
    return Target(request.node.callspec.params["host"], hosts, addresses)


def test_an_unknown_host_gets_nothing(target):
    for options in ([], ["--header", "Host: elsewhere.test"], ["--http1.0", "--header", "Host:"]):
        answer = target.curl(f"http://{target.address}:{target.http}/", *options)
        assert (answer.rc, answer.status) == (EMPTY_REPLY, 0), answer
    assert target.curl("http://elsewhere.test/").rc == EMPTY_REPLY


@pytest.mark.parametrize("name", ["elsewhere.test", "sub.shop.test", "-"])
def test_tls_for_an_unknown_or_missing_name_is_refused(target, name):
    result = target.client("handshake", name, "TLSv1_3")
    assert result == {"refused": "TLSV1_UNRECOGNIZED_NAME"}


def test_a_known_name_does_not_open_the_door_for_an_unknown_one(target):
    assert target.client("misdirect", "shop.test", "elsewhere.test") == {"received": ""}


def test_one_certificate_opens_the_sites_that_it_belongs_to(target):
    """Walls' test_visitor.py has the many ways to ask; here are the names that share a certificate, and those that do not."""
    for name, host, status in (
        ("shop.test", "shop.test", "200"), ("www.shop.test", "shop.test", "200"), ("shop.test", "www.shop.test", "301"),
        ("shop.test", "down.test", "421"), ("down.test", "shop.test", "421"), ("down.test", "www.shop.test", "421"),
        ("a.wild.test", "b.wild.test", "200"), ("twin.test", "a.wild.test", "200"), ("a.wild.test", "twin.test", "200"),
        ("a.wild.test", "shop.test", "421"), ("shop.test", "a.wild.test", "421"),
    ):  # fmt: skip
        received = target.client("misdirect", name, host)["received"]
        assert received.startswith(f"HTTP/1.1 {status} "), (name, host, received)


def test_http_leads_to_https_under_the_same_name(target):
    for name in ("shop.test", "www.shop.test"):
        answer = target.curl(f"http://{name}/a%20b/?c=d&e=%2F")
        assert answer.status == 301
        assert answer.header("location") == f"https://{name}{target.suffix}/a%20b/?c=d&e=%2F"
        assert "strict-transport-security" not in answer.headers


def test_other_names_lead_to_the_first(target):
    answer = target.curl("https://www.shop.test/a?b")
    assert answer.status == 301
    assert answer.header("location") == f"https://shop.test{target.suffix}/a?b"
    answer = target.curl("http://old-plain.test/a?b")
    suffix = "" if target.http == 80 else f":{target.http}"
    assert (answer.status, answer.header("location")) == (301, f"http://plain.test{suffix}/a?b")


def test_plain_http_on_the_https_port_is_led_to_https(target):
    answer = target.curl(f"http://shop.test:{target.https}/a")
    assert (answer.status, answer.header("location")) == (301, f"https://shop.test{target.suffix}/a")


def test_a_challenge_is_answered_over_http_on_every_public_name(target):
    directory = "/var/lib/vivarium/acme/.well-known/acme-challenge"
    target.host.check_output(f"mkdir -p {directory} && echo token > {directory}/abc")
    try:
        for name in ("shop.test", "www.shop.test", "plain.test", "old-plain.test", "down.test"):
            answer = target.curl(f"http://{name}/.well-known/acme-challenge/abc")
            assert (answer.status, answer.body, answer.header("content-type")) == (200, "token\n", "text/plain"), name
        assert target.curl("http://shop.test/.well-known/acme-challenge/other").status == 404
    finally:
        target.host.check_output("rm -r /var/lib/vivarium/acme/.well-known")


def test_tls_versions(target):
    for version in ("TLSv1", "TLSv1_1"):
        assert "refused" in target.client("handshake", "shop.test", version)
    assert target.client("handshake", "shop.test", "TLSv1_2")["version"] == "TLSv1.2"
    assert target.client("handshake", "shop.test", "TLSv1_3")["version"] == "TLSv1.3"


@pytest.mark.on("debian13")
def test_a_handshake_that_quantum_computers_do_not_break(host):
    command = "openssl s_client -connect 127.0.0.1:8443 -servername shop.test -groups X25519MLKEM768 -brief </dev/null"
    run = host.run(command)
    assert "X25519MLKEM768" in run.stdout + run.stderr


def test_http2(target):
    run = target.asker.run(
        f"curl -sk --resolve shop.test:{target.https}:{target.address} -o /dev/null -w '%{{http_version}} %{{http_code}}' "
        f"-d x=y https://shop.test:{target.https}/"
    )
    assert run.stdout == "2 200"


def test_a_websocket_passes_and_may_be_silent_for_longer_than_a_request(target):
    result = target.client("websocket", "shop.test", "4")  # the site's read_timeout is 2
    assert result == {"status": "HTTP/1.1 101 Switching Protocols", "replies": ["one:one", "one:two"]}


def test_no_other_protocol_is_upgraded(target):
    options = ["--http1.1", "--header", "Connection: Upgrade, HTTP2-Settings", "--header", "Upgrade: h2c"]
    seen = dict(target.upstream("https://shop.test/", *options)["headers"])
    assert "upgrade" not in seen
    assert "connection" not in seen


SPOOFED = {
    "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "evil.test", "X-Forwarded-Port": "666",
    "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6;host=evil.test;proto=gopher", "Daphne-Root-Path": "/evil",
    "X-Forwarded-Prefix": "/evil", "X-Forwarded-Server": "evil.test", "X-Request-ID": "evil", "Proxy": "http://evil.test",
    "X_Forwarded_Proto": "gopher",
}  # fmt: skip


@pytest.mark.parametrize(("url", "scheme"), [("https://shop.test/a?b", "https"), ("http://plain.test/a?b", "http")])
def test_a_client_cannot_say_who_it_is(target, url, scheme, addresses):
    seen = target.upstream(url, *[part for name, value in SPOOFED.items() for part in ("--header", f"{name}: {value}")])
    other = next(address for name, address in addresses.items() if name != target.name)
    headers = dict(seen["headers"])
    assert len(headers) == len(seen["headers"]), "a header arrived twice"
    assert (headers["x-forwarded-for"], headers["x-real-ip"], headers["x-forwarded-proto"]) == (other, other, scheme)
    port = {"https": target.https, "http": target.http}[scheme]
    assert headers["host"] == url.split("/")[2] + ("" if port in (80, 443) else f":{port}")
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
    assert not {name for name, value in headers.items() if "evil" in value or "gopher" in value}
    assert not {"forwarded", "x-forwarded-host", "daphne-root-path", "x-forwarded-prefix", "proxy"} & set(headers)
    assert seen["target"] == "/a?b"


# What servers, frameworks and their extensions believe of a proxy.
BELIEVED = """
    True-Client-IP X-Client-IP Client-IP CF-Connecting-IP Fastly-Client-IP X-Cluster-Client-IP X-Original-Forwarded-For
    Forwarded-For X-Forwarded X-Remote-Addr X-Remote-IP X-Originating-IP WL-Proxy-Client-IP Fly-Client-IP X-Azure-ClientIP Via
    X-Forwarded-Host X-Forwarded-Port X-Forwarded-Server X-Forwarded-Protocol X-Forwarded-Scheme X-Forwarded-Ssl X-Scheme
    X-Url-Scheme Front-End-Https CloudFront-Forwarded-Proto X-Host X-HTTP-Host-Override X-Original-Host
    X-Original-URL X-Original-URI X-Rewrite-URL X-Forwarded-Prefix X-Forwarded-Uri X-Script-Name Script-Name Path-Info
    Daphne-Root-Path X-HTTP-Method X-HTTP-Method-Override X-Method-Override X-Sendfile-Type X-Accel-Mapping
    Remote-User X-Remote-User X-Forwarded-User X-Forwarded-Email X-Auth-Request-User X-Authenticated-User X-Webauth-User
    X-Goog-Authenticated-User-Email X-Authentik-Username Tailscale-User-Login Remote-Groups
    X-SSL-Client-Verify X-SSL-Client-Cert X-SSL-Client-S-DN X-Client-Cert X-Client-Verify Client-Cert X-Forwarded-Client-Cert
    X-Forwarded-Tls-Client-Cert SSL-Client-Cert SSL-Client-Verify Forwarded Proxy
""".split()
# Read as REMOTE_USER, HTTP_X_FORWARDED_FOR and their like by what makes an environment of headers.
DISGUISED = (
    "REMOTE_USER X_FORWARDED_FOR X-Forwarded_Proto X_Remote_User SCRIPT_NAME REMOTE_ADDR HTTP_HOST X.Real.IP".split()
)


def evil(names):
    return [part for name in names for part in ("--header", f"{name}: evil")]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("write", [str, str.lower, str.upper])
def test_what_a_proxy_says_is_not_taken_from_a_client(target, version, write):
    options = [version, *evil(map(write, BELIEVED + DISGUISED)), "--header", "X-Of-The-Client: passes"]
    for url, asker in (("https://shop.test/", None), (f"http://shop.test:{BACKEND_PORT}/", target.host)):
        headers = dict(target.upstream(url, *options, asker=asker)["headers"])
        assert not {name: value for name, value in headers.items() if value == "evil"}
        assert headers["x-of-the-client"] == "passes"


def test_a_site_passes_what_it_is_told_to_pass(target):
    headers = dict(target.upstream("http://plain.test/", *evil([*BELIEVED, "X-Forwarded-For"]))["headers"])
    passed = {name for name, value in headers.items() if value == "evil"}
    assert passed == {"cf-connecting-ip", "x-http-method-override"}


@pytest.mark.parametrize(
    "destination",
    ["/.vivarium/../../secret.txt", "/.vivarium/..%2f..%2fsecret.txt", "/srv/shop/secret.txt", "/static/../secret.txt",
     "/media/link.txt", "@websocket", "file:///srv/shop/secret.txt", "http://down.test/", "/static%00/../secret.txt"],
)  # fmt: skip
def test_an_application_gets_nothing_out_of_nginx_that_its_site_does_not_serve(target, destination):
    answer = target.curl(f"https://shop.test/accel?{destination}", "--max-time", "5")
    assert "not to be served" not in answer.body
    served = target.curl("https://shop.test/accel?/static/css/base.css")
    assert (served.status, "#123456" in served.body) == (200, True), "nginx does not follow X-Accel-Redirect at all"


REQUEST = "POST / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n"
INNER = "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
SMUGGLED = {
    "both lengths": f"{REQUEST}Content-Length: {len(INNER) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}",
    "two lengths": f"{REQUEST}Content-Length: 0\r\nContent-Length: {len(INNER)}\r\n\r\n{INNER}",
    "a list of lengths": f"{REQUEST}Content-Length: 0, {len(INNER)}\r\n\r\n{INNER}",
    "a length with a sign": f"{REQUEST}Content-Length: +0\r\n\r\n{INNER}",
    "a folded header": f"{REQUEST}X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\nX-Y:\r\n\tz\r\n\r\n",
    "a blank before the colon": f"{REQUEST}Transfer-Encoding : chunked\r\nContent-Length: {len(INNER)}\r\n\r\n{INNER}",
    "another coding": f"{REQUEST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{INNER}",
    "two codings": f"{REQUEST}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n{INNER}",
    "a zero byte": f"{REQUEST}X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a line feed in the target": "GET /a\nb HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n",
    "two host headers": f"{REQUEST}Host: elsewhere.test\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("form", SMUGGLED)
def test_a_request_is_not_smuggled_past_nginx(target, form):
    """Nginx refuses it, or what arrives is one plain request whose body is a body."""
    text = base64.b64encode(SMUGGLED[form].encode("latin-1")).decode()
    received = target.client("raw", "shop.test", text)["received"]
    status = received.partition(" ")[2][:3]
    assert status in ("400", "501", "200") or not received, received
    if status == "200":
        # Answered by the application: it must not have taken the inner request for one of the outer one's header or length.
        seen = json.loads(received.partition("\r\n\r\n")[2])
        names = [name.lower() for name, _ in seen["headers"]]
        assert "transfer-encoding" not in names and names.count("content-length") <= 1, seen


def everywhere(target, name):
    """An answer of every kind that a site has: of the application, of nginx itself, files, errors and redirects."""
    target.asker.check_output("head -c 3000000 /dev/zero > /tmp/large")
    for status, path, *options in (
        (200, "/"), (200, "/headers"), (413, "/", "--data-binary", "@/tmp/large"), (502, "/die", "--data", "x"),
        (404, "/.vivarium/503.html"), (400, "/", "--header", "Host: a b"),
        (405, "/", "--request", "TRACE"), (414, f"/{'x' * 20000}"),
        (200, "/static/css/base.css"), (404, "/static/none.css"), (403, "/static/css/"), (301, "/static/css"),
        (206, "/static/css/base.css", "--range", "0-3"), (416, "/static/css/base.css", "--range", "9999999-"),
        (405, "/static/css/base.css", "--data", "x"),
        (200, "/media/page.html"), (403, "/media/link.txt"), (404, "/media/none"), (405, "/media/page.html", "--data", "x"),
    ):  # fmt: skip
        answer = target.curl(f"https://{name}{path}", "--http1.1", *options)
        assert answer.status == status, (path, options, answer)
        yield path, answer
    answer = target.curl(f"https://www.{name}/a")
    assert answer.status == 301
    yield "www", answer


def test_every_answer_of_a_site_says_what_was_decided_of_hsts(target):
    """The application of /headers says max-age=60, which goes nowhere."""
    for where, answer in everywhere(target, "shop.test"):
        said = answer.headers.get("strict-transport-security", [])
        # nginx goes through the headers of a 416 twice, and a browser takes the first (RFC 6797, 8.1).
        assert said == ["max-age=63072000"] * (2 if answer.status == 416 else 1), (where, answer)
    assert target.curl("https://down.test/").header("strict-transport-security") == "max-age=60; includeSubDomains"


def test_a_site_without_hsts_sends_none_whatever_the_application_says(target):
    for where, answer in everywhere(target, "free.test"):
        assert "strict-transport-security" not in answer.headers, (where, answer)
    # Without a certificate the site is whatever lies before it: the application's own word passes.
    assert target.curl("http://plain.test/headers").header("strict-transport-security") == "max-age=60"


def test_plain_http_spoken_to_the_https_port_is_not_told_of_hsts(target):
    answer = target.curl(f"http://shop.test:{target.https}/")
    assert answer.status == 301 and answer.header("location").startswith("https://shop.test")
    assert "strict-transport-security" not in answer.headers


def test_security_headers_are_there_once_and_the_application_has_the_last_word(target):
    answer = target.curl("https://shop.test/")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("x-frame-options") == "SAMEORIGIN"
    assert answer.header("server") == "nginx"
    answer = target.curl("https://shop.test/headers")
    assert answer.header("x-frame-options") == "DENY"
    assert answer.header("referrer-policy") == "no-referrer"
    assert answer.header("x-content-type-options") == "nosniff"
    answer = target.curl("https://shop.test/static/none.css")
    assert answer.status == 404
    assert answer.header("strict-transport-security") and answer.header("x-content-type-options")
    assert "strict-transport-security" not in target.curl("http://plain.test/").headers


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_body_that_is_too_large_is_refused_with_a_page(target, version):
    assert target.upstream("https://shop.test/", version, "--data", "x" * 100_000)["body"] == 100_000
    target.asker.check_output("head -c 3000000 /dev/zero > /tmp/large")
    answer = target.curl("https://shop.test/", version, "--data-binary", "@/tmp/large")
    assert answer.status == 413
    assert "larger than this site accepts" in answer.body
    assert answer.header("strict-transport-security")


def test_errors_of_the_way_to_the_application_have_a_page(target):
    # The last one is off on purpose.
    for url, status in (("https://shop.test/slow?5", 504), ("https://shop.test/die", 502), ("https://down.test/", 503)):
        answer = target.curl(url)
        assert answer.status == status
        assert "<h1>Back in a moment</h1>" in answer.body
        assert answer.header("retry-after") == "30"
        assert answer.header("cache-control") == "no-store"
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("strict-transport-security") == (
            "max-age=60; includeSubDomains" if status == 503 else "max-age=63072000"
        )


def test_what_nginx_itself_has_to_say_has_a_page(target):
    """Of the site's own name, with the headers of every answer, and kept by nobody."""
    target.asker.check_output("head -c 3000000 /dev/zero > /tmp/large")
    for status, url, *options in (
        (403, "/static/css/"), (404, "/static/none.css"), (404, "/of/releases/none.css"), (404, "/media/none"),
        (403, "/media/link.txt"), (404, "/.vivarium/404.html"), (404, "/.vivarium/pages/404.html"),
        (413, "/", "--data-binary", "@/tmp/large"), (502, "/die", "--data", "x"), (504, "/slow?5"),
    ):  # fmt: skip
        answer = target.curl(f"https://shop.test{url}", *options)
        assert answer.status == status, answer
        assert answer.header("content-type") == "text/html; charset=utf-8", answer
        assert "Shop &amp; Söhne" in answer.body and f"Error {status}" in answer.body
        assert answer.header("cache-control") == "no-store"
        assert answer.header("x-content-type-options") == "nosniff" and answer.header("strict-transport-security")
        assert answer.header("content-security-policy").startswith("default-src 'none'; style-src 'unsafe-inline'")
        assert answer.headers.get("retry-after") == (["30"] if status > 500 else None)
    for host in ("down.test", "www.shop.test"):
        received = target.client("misdirect", "shop.test" if host == "down.test" else "down.test", host)["received"]
        assert received.startswith("HTTP/1.1 421 ") and "Error 421" in received and "no-store" in received, received


def test_an_error_of_the_application_passes_as_it_is(target):
    for status in (403, 404, 413, 429, 500, 502, 503, 504):
        answer = target.curl(f"https://shop.test/fail?{status}")
        assert (answer.status, json.loads(answer.body)["target"]) == (status, f"/fail?{status}")


def test_a_project_has_pages_of_its_own(target):
    """Of the live release; what it lacks is the role's, and none leads out of the directory."""
    assert target.curl("https://free.test/static/none").body == "<p>not found, by the project\n"
    answer = target.curl("https://free.test/static/css/")
    assert answer.status == 403 and "not to be served" not in answer.body and "Error 403" in answer.body
    assert target.curl("https://free.test/.vivarium/pages/404.html").status == 404
    target.host.check_output("mkdir -p /var/lib/vivarium/maintenance/.free/0-1-5/allow")
    target.host.check_output("ln -s .free/0-1-5 /var/lib/vivarium/maintenance/free")
    try:
        answer = target.curl("https://free.test/static/css/base.css")
        assert (answer.status, answer.header("retry-after")) == (503, "5")
        assert answer.body == "<p>later, by the project\n"
    finally:
        target.host.check_output("rm -r /var/lib/vivarium/maintenance/free /var/lib/vivarium/maintenance/.free")


def maintenance(target, *allowed, seconds=77):
    """Close shop.test; what the playbook does is tested with the playbook (cluster)."""
    directory = f".shop/0-{len(allowed)}-{seconds}"
    target.host.check_output(
        f"cd /var/lib/vivarium/maintenance && mkdir -p {directory}/allow && (cd {directory}/allow && touch . {' '.join(allowed)})"
        f" && ln -s {directory} .new && mv -T .new shop"
    )


@pytest.fixture
def opened(target):
    yield
    target.host.check_output("rm -rf /var/lib/vivarium/maintenance/shop /var/lib/vivarium/maintenance/.shop")


def test_a_site_under_maintenance(target, opened, addresses):
    pid, workers = target.main_pid(), target.workers()
    maintenance(target)
    for url, *options in (
        ("/",), ("/", "--data", "x"), ("/", "--request", "OPTIONS"), ("/static/css/base.css",), ("/media/photos/cat.png",),
        ("/health",), ("/ws", "--http1.1", "--header", "Upgrade: websocket", "--header", "Connection: upgrade"),
        ("/", "--user-agent", "vivarium-probe"), ("/", "--http1.1", "--data-binary", "@/tmp/large"),
        # What passes, but not in a spelling that an application may read otherwise.
        ("/x/../health/", "--path-as-is"), ("/x/%2e%2e/health/", "--path-as-is"),
        ("/x/../.well-known/acme-challenge/x", "--path-as-is", "--data", "x"),
    ):  # fmt: skip
        answer = target.curl(f"https://shop.test{url}", *options)
        assert (answer.status, answer.headers.get("retry-after")) == (503, ["77"]), (url, options, answer)
        assert "We are working on this site" in answer.body and "Shop &amp; Söhne" in answer.body
        assert answer.header("cache-control") == "no-store" and answer.header("strict-transport-security")
    # A monitor, a certificate authority, a deploy on the host itself; other sites, and redirects.
    assert target.upstream("https://shop.test/health/?a=b")["target"] == "/health/?a=b"
    target.host.check_output(
        "d=/var/lib/vivarium/acme/.well-known/acme-challenge; mkdir -p $d; echo yes > $d/maintenance"
    )
    assert target.curl("http://shop.test/.well-known/acme-challenge/maintenance").body == "yes\n"
    own = f"curl --silent --insecure --output /dev/null --write-out %{{http_code}} --resolve shop.test:{target.https}:127.0.0.1"
    own += f" https://shop.test:{target.https}/"
    assert target.host.check_output(f"{own} --user-agent vivarium-probe") == "200"
    assert target.host.check_output(own) == "503"
    assert target.curl("https://free.test/").status == 200
    assert target.curl("https://www.shop.test/").status == 301
    # Who may come in, comes in as ever.
    maintenance(target, target.asker.check_output("hostname -I").split()[0], "2001:db8::1")
    assert target.upstream("https://shop.test/a%2Fb?c")["target"] == "/a%2Fb?c"
    assert target.curl("https://shop.test/static/css/base.css").status == 200
    assert target.client("websocket", "shop.test", "0")["replies"] == ["one:one", "one:two"]
    target.host.check_output("rm /var/lib/vivarium/maintenance/shop")
    assert target.curl("https://shop.test/").status == 200
    assert (target.main_pid(), target.workers()) == (pid, workers)


def test_visitors_of_a_switch_to_maintenance_and_back_get_the_page_or_what_they_asked_for(target, opened):
    result: dict = {}
    thread = threading.Thread(target=lambda: result.update(target.client("load", "shop.test", "4")))
    thread.start()
    # For as long as they come: a busy host may take its time until it lets the first one in.
    while thread.is_alive():
        time.sleep(0.4)
        maintenance(target)
        time.sleep(0.4)
        target.host.check_output("rm /var/lib/vivarium/maintenance/shop")
    thread.join()
    assert set(result["reasons"]) == {"503"}, result
    assert result["reasons"]["503"] > 20 and sum(result["answers"].values()) > 20


def test_a_post_is_never_sent_twice(target):
    before = target.upstream("https://shop.test/")["deaths"]
    assert target.curl("https://shop.test/die", "--data", "x").status == 502
    assert target.upstream("https://shop.test/")["deaths"] == before + 1


def test_static_files_with_a_hash_are_cached_for_good_and_others_are_not(target):
    hashed = target.curl("https://shop.test/static/css/base.27e20196a850.css")
    assert hashed.status == 200
    assert hashed.header("cache-control") == "public, max-age=31536000, immutable"
    assert hashed.header("content-type") == "text/css; charset=utf-8"
    assert hashed.header("x-content-type-options") == "nosniff"
    plain = target.curl("https://shop.test/static/css/base.css")
    assert plain.header("cache-control") == "public, max-age=300"
    missing = target.curl("https://shop.test/static/css/gone.27e20196a850.css")
    assert missing.status == 404
    assert missing.header("cache-control") == "no-store"
    module = target.curl("https://shop.test/static/app.0123456789ab.mjs")
    assert module.header("content-type") == "text/javascript; charset=utf-8"
    assert module.header("cache-control") == "public, max-age=31536000, immutable"
    assert target.curl("https://shop.test/static/css/").status == 403


def test_static_text_is_compressed_and_pages_are_not(target):
    for host, url in (
        (None, "https://shop.test/static/css/base.css"),
        (target.host, f"http://shop.test:{BACKEND_PORT}/static/css/base.css"),
    ):
        answer = target.curl(url, "--header", "Accept-Encoding: gzip", "--head", asker=host)
        assert answer.header("content-encoding") == "gzip"
        assert "Accept-Encoding" in answer.header("vary")
    answer = target.curl("https://shop.test/?" + "x" * 3000, "--header", "Accept-Encoding: gzip", "--head")
    assert "content-encoding" not in answer.headers


def test_copies_that_lie_beside_a_file_are_sent_as_they_are(target):
    url = "https://shop.test/static/css/copies.27e20196a850.css"
    plain, tags = target.curl(url), set()
    for accepted, encoding in (
        ("gzip, deflate, br", "br"),
        ("br", "br"),
        ("gzip", "gzip"),
        ("gzip, br;q=0", "gzip"),
        ("deflate", None),
    ):
        answer = target.curl(url, "--header", f"Accept-Encoding: {accepted}")
        assert answer.headers.get("content-encoding") == (encoding and [encoding]), accepted
        assert answer.body == (f"{encoding}, as it lies there" if encoding else plain.body)
        for name in ("content-type", "cache-control", "vary", "strict-transport-security", "x-content-type-options"):
            assert answer.header(name) == plain.header(name), (accepted, name)
        tags.add(answer.header("etag"))
        old = ("--header", f"If-None-Match: {answer.header('etag')}")
        assert target.curl(url, "--header", f"Accept-Encoding: {accepted}", *old).status == 304
    assert plain.header("content-type") == "text/css; charset=utf-8" and plain.header("vary") == "Accept-Encoding"
    # Each is a thing of its own to caches.
    assert len(tags) == 3
    part = target.curl(url, "--range", "0-3")
    assert (part.status, part.body) == (206, "body")


def test_static_files_follow_the_link_and_older_ones_lie_behind_them(target):
    url = "https://shop.test/of/releases/css"
    move = "ln -sfn releases/{} /srv/shop/next && mv -T /srv/shop/next /srv/shop/live"
    try:
        for release, other in (("two", "one"), ("one", "two")):
            target.host.check_output(move.format(release))
            assert target.curl(f"{url}/note.txt").body == f"of {release}\n"
            # What lies compressed beside an older file is not the live one.
            assert "older" not in target.curl(f"{url}/note.txt", "--header", "Accept-Encoding: gzip").body
            assert target.curl(f"{url}/{release}.0123456789ab.css").body == f"of {release}\n"
            # What nginx knows of a file that never changes counts for a second.
            wait_until(lambda other=other: target.curl(f"{url}/{other}.0123456789ab.css").status == 404)
    finally:
        target.host.check_output(move.format("one"))
    older = target.curl(f"{url}/older.0123456789ab.css")
    assert older.status == 200 and older.header("content-type") == "text/css; charset=utf-8"
    assert older.header("cache-control") == "public, max-age=31536000, immutable"
    assert older.header("strict-transport-security") and older.header("x-content-type-options") == "nosniff"
    compressed = target.curl(f"{url}/older.0123456789ab.css", "--header", "Accept-Encoding: gzip", "--head")
    assert compressed.header("content-encoding") == "gzip"
    missing = target.curl(f"{url}/none.0123456789ab.css")
    assert missing.status == 404 and missing.header("cache-control") == "no-store"
    assert missing.header("strict-transport-security") and missing.header("x-content-type-options")
    assert target.curl("https://shop.test/.vivarium/fallback/of/releases/css/older.0123456789ab.css").status == 404
    for path in (
        "/../../static/css/base.css",
        "/%2e%2e/%2e%2e/static/css/base.css",
        "../note.txt",
        "/a%0Ab.css",
        "/a%3Fb.css",
    ):
        answer = target.curl(url + path)
        assert "of one" not in answer.body and "#123456" not in answer.body and "root:" not in answer.body, path
    target.asker.check_output("head -c 3000000 /dev/zero > /tmp/large")
    large = target.curl(f"{url}/note.txt", "--data-binary", "@/tmp/large")
    assert large.status == 413 and "larger than this site accepts" in large.body


def test_without_a_live_release_static_files_are_still_served(target):
    target.host.check_output("mv -T /srv/shop/live /srv/shop/aside")
    try:
        assert target.curl("https://shop.test/of/releases/css/note.txt").body == "older\n"
    finally:
        target.host.check_output("mv -T /srv/shop/aside /srv/shop/live")


def test_while_hosts_switch_one_after_the_other_each_file_is_found(target):
    """Whichever of them made the page, and whichever is asked first."""
    for _ in range(4):
        for path in ("files", "mixed"):
            for release in ("one", "two"):
                answer = target.curl(f"http://fleet.test/{path}/css/{release}.0123456789ab.css")
                assert answer.body == f"of {release}\n", answer
                assert answer.header("cache-control") == "public, max-age=31536000, immutable"
        assert target.curl("http://fleet.test/files/css/none.css").status == 404
        assert target.curl("http://fleet.test/mixed/css/none.css").status == 404
    assert target.curl("http://fleet.test/mixed/css/note.txt").body == "older\n"
    assert target.curl("http://fleet.test/mixed/css/base.css").status == 200
    one = target.curl("http://fleet.test/files/css/one.0123456789ab.css?a=1%20b")
    assert one.body == "of one\n"


@pytest.mark.parametrize(
    "path",
    [
        "/static../secret.txt",
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/media/..%2fsecret.txt",
        "/media../secret.txt",
    ],
)
def test_nothing_beside_the_directories_is_served(target, path):
    answer = target.curl(f"https://shop.test{path}")
    assert "not to be served" not in answer.body


def test_uploaded_files_cannot_act(target):
    for name, disposition in (
        ("page.html", "attachment"), ("drawing.svg", "attachment"), ("unknown.xyz", "attachment"), ("photos/cat.png", None),
    ):  # fmt: skip
        answer = target.curl(f"https://shop.test/media/{name}")
        assert answer.status == 200
        assert answer.headers.get("content-disposition") == (disposition and [disposition])
        assert answer.header("x-content-type-options") == "nosniff"
        policy = [part.strip() for part in answer.header("content-security-policy").split(";")]
        assert "sandbox" in policy and "default-src 'none'" in policy
        assert answer.header("strict-transport-security")
    assert target.curl("https://shop.test/media/page.html", "--data", "x").status == 405
    link = target.curl("https://shop.test/media/link.txt")
    assert link.status == 403
    assert target.curl("https://shop.test/media/").status == 403


def test_uploads_that_the_application_alone_hands_out(target):
    for path in (
        "/protected/bill.html",
        "/media/private/bill.html",
        "/media/./private/bill.html",
        "/media//private/bill.html",
    ):
        answer = target.curl(f"https://shop.test{path}")
        assert answer.status == 404 and "for one visitor" not in answer.body, path
    answer = target.curl("https://shop.test/accel?/protected/bill.html")
    assert answer.status == 200 and "for one visitor" in answer.body
    assert (
        answer.header("content-disposition") == "attachment" and answer.header("cache-control") == "private, no-store"
    )
    assert "sandbox" in answer.header("content-security-policy")
    # What the application says itself is there once.
    answer = target.curl("https://shop.test/named?/media/private/bill.html")
    assert answer.header("content-disposition") == 'attachment; filename="bill"'
    assert answer.header("cache-control") == "private, max-age=5" and "for one visitor" in answer.body
    for path in ("/protected/../../secret.txt", "/protected/..%2f..%2fsecret.txt"):
        assert "not to be served" not in target.curl(f"https://shop.test/named?{path}").body


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_large_headers_of_an_answer_pass(target, version):
    for size in (15_000, 40_000, 60_000):
        answer = target.curl(f"https://shop.test/big?{size}", version)
        assert (answer.rc, answer.status, len(answer.header("x-big"))) == (0, 200, size)


def test_a_backend_site_answers_its_proxies_alone(target):
    url = f"http://shop.test:{BACKEND_PORT}/a"
    claims = [
        "--header",
        "X-Forwarded-For: 192.0.2.7",
        "--header",
        "X-Forwarded-Proto: https",
        "--header",
        "X-Forwarded-Host: evil.test",
    ]
    request_id = "0123456789abcdef0123456789abcdef"
    claims += ["--header", f"X-Request-ID: {request_id}", "--header", "Host: shop.test:9443"]
    stranger = target.curl(url, *claims)
    assert (stranger.rc, stranger.status) == (EMPTY_REPLY, 0)
    # The host's own address is the proxy that this site trusts.
    headers = dict(target.upstream(url, *claims, asker=target.host)["headers"])
    assert (headers["x-forwarded-for"], headers["x-real-ip"]) == ("192.0.2.7", "192.0.2.7")
    assert (headers["x-forwarded-proto"], headers["x-request-id"]) == ("https", request_id)
    assert headers["host"] == "shop.test:9443"
    # A request line that names another host than the header wins, and is what the application hears.
    claims = ["--request-target", f"http://shop.test:{BACKEND_PORT}/b", "--header", "Host: evil.test:9443"]
    headers = dict(target.upstream(url, *claims, asker=target.host)["headers"])
    assert headers["host"] == "shop.test:9443"
    assert "x-forwarded-host" not in headers
    assert target.curl(f"http://elsewhere.test:{BACKEND_PORT}/", asker=target.host).rc == EMPTY_REPLY
    assert target.curl(f"http://shop.test:{BACKEND_PORT}/static/css/base.css").rc == EMPTY_REPLY


def test_the_log_says_how_long_it_took_and_under_which_id(target):
    headers = dict(target.upstream("https://shop.test/slow?0.3")["headers"])
    # Lines are written together, within a second.
    grep = f"grep {headers['x-request-id']} /var/log/nginx/access.log"
    line = wait_until(lambda: target.host.run(grep).stdout)
    found = re.search(
        r'"GET /slow\?0\.3 HTTP/2\.0" 200 .* host="shop\.test" request_time=(\S+) upstream_time="(\S+)" request_id=',
        line,
    )
    assert found, line
    assert 0.3 <= float(found[2]) <= float(found[1]) + 0.01 < 2
    log = target.host.file("/var/log/nginx/access.log")
    assert (log.mode, log.group) == (0o640, "adm")


def test_logs_are_rotated_and_written_on(target):
    target.upstream("https://shop.test/before-rotation")
    target.host.check_output("logrotate --force /etc/logrotate.d/nginx")
    deadline = time.monotonic() + 60
    while True:
        target.upstream("https://shop.test/after-rotation")
        time.sleep(0.3)
        if "after-rotation" in target.host.check_output("cat /var/log/nginx/access.log"):
            break
        assert time.monotonic() < deadline, "nginx does not write to the new log"
    assert "before-rotation" in target.host.check_output("cat /var/log/nginx/access.log.1")
    assert "before-rotation" not in target.host.check_output("cat /var/log/nginx/access.log")


def test_logs_are_rotated_from_the_first_day_on(target):
    """Not only from the next boot: its package could start nothing."""
    assert target.host.service("logrotate.timer").is_running and target.host.service("logrotate.timer").is_enabled


def test_moving_the_link_moves_the_traffic_without_a_reload_or_a_failure(target):
    workers = target.workers()
    result: dict = {}
    load = threading.Thread(target=lambda: result.update(target.client("load", "shop.test", "16")))
    load.start()
    time.sleep(3)
    switched = float(
        target.host.check_output(
            "ln -sfn releases/two /srv/shop/next && mv -T /srv/shop/next /srv/shop/live && date +%s.%N"
        )
    )
    # What a deploy asks is answered by the new release at once: it takes no connection that is kept to the old one.
    probes = [target.upstream("https://shop.test/", "--user-agent", "vivarium-probe")["upstream"] for _ in range(5)]
    load.join()
    assert probes == ["two"] * 5
    target.host.check_output("ln -sfn releases/one /srv/shop/next && mv -T /srv/shop/next /srv/shop/live")
    assert result["failures"] == []
    assert result["answers"]["one"] > 20 and result["answers"]["two"] > 20, result
    # Kept-alive connections are used for 5 seconds, and a request that begins just before may add 5 of idleness.
    assert result["last"]["one"] - switched < 10.5
    assert target.workers() == workers
    time.sleep(10.5)  # for the tests that expect the first release


def test_a_reload_keeps_connections_and_returns_when_it_is_done(target):
    pid = target.main_pid()
    before = target.workers()
    result: dict = {}
    holder = threading.Thread(target=lambda: result.update(target.client("websocket", "shop.test", "4")))
    holder.start()
    time.sleep(1.5)
    target.host.check_output("systemctl reload nginx")
    assert target.workers() - before, "no worker has the new configuration"
    holder.join()
    assert result["replies"] == ["one:one", "one:two"]
    assert target.main_pid() == pid


def test_a_reload_that_nginx_does_not_take_fails(target):
    pid = target.main_pid()
    # Something else holds the port: the syntax is right and nginx -t is content.
    target.host.check_output("echo 'server { listen 22; }' > /etc/nginx/sites.d/conflict.conf && nginx -t -q")
    try:
        run = target.host.run("systemctl reload nginx")
        assert run.rc != 0
        journal = target.host.check_output("journalctl --unit nginx --lines 20 --output cat")
        assert "goes on with the old one" in journal
        assert ":22 failed" in journal
        assert target.serves()
        assert target.main_pid() == pid
    finally:
        target.host.check_output("rm /etc/nginx/sites.d/conflict.conf")
    target.host.check_output("systemctl reload nginx")


def test_nginx_comes_back_when_it_is_killed(target):
    pid = target.main_pid()
    target.host.check_output(f"kill -9 {pid}")
    target.wait_until_serving()
    assert target.main_pid() != pid
    pid = target.main_pid()
    worker = target.host.check_output(f"pgrep --parent {pid}").split()[0]
    target.host.check_output(f"kill -9 {worker}")
    target.wait_until_serving()
    assert target.main_pid() == pid


def test_a_security_update_replaces_the_program_in_its_sandbox(target):
    pid = target.main_pid()
    target.host.check_output("invoke-rc.d nginx upgrade")  # what the package does: a new program takes the sockets over
    deadline = time.monotonic() + 60
    while target.main_pid() == pid:
        assert time.monotonic() < deadline, "systemd does not know the new process"
        time.sleep(0.2)
    assert target.serves()
    target.host.check_output("systemctl reload nginx")
    assert target.serves()


def test_the_sandbox_holds(target):
    pid = target.main_pid()
    for path, writable in (
        ("/etc/nginx", False),
        ("/usr", False),
        ("/srv/shop", False),
        ("/var/log/nginx", True),
        ("/var/lib/nginx", True),
    ):
        run = target.host.run(f"nsenter --target {pid} --mount touch {path}/.probe && rm {path}/.probe")
        assert (run.rc == 0) == writable, path
    assert target.host.check_output(f"nsenter --target {pid} --mount ls -A /root /home") in (
        "/home:\n\n/root:",
        "/root:\n\n/home:",
        "",
    )
    status = dict(
        line.split(":\t", 1)
        for line in target.host.check_output(f"cat /proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    allowed = {0: "chown", 1: "dac_override", 5: "kill", 6: "setgid", 7: "setuid", 10: "net_bind_service"}
    assert int(status["CapBnd"], 16) == sum(1 << bit for bit in allowed)


def test_nginx_accepts_every_form_of_site(target):
    """What the role does not refuse must not be refused by nginx; not put in use, only read."""
    release = target.name.removeprefix("debian")
    commands = ["set -e", "rm -rf /tmp/forms"]
    for case in (case for case in nginx_forms.CASES if case[0] == release):
        directory = "/tmp/forms/" + "-".join(case)
        commands += [f"mkdir -p {directory}/sites.d"]
        for path, text in nginx_forms.render(release, nginx_forms.SETS[case[1]], **nginx_forms.INPUTS[case[2]]).items():
            if path.startswith("/etc/nginx/"):
                text = text.replace("/etc/nginx/sites.d", f"{directory}/sites.d").replace(
                    "listen 10.0.0.3", "listen 127.0.0.1"
                )
                commands += [f"printf %s {shlex.quote(text)} > {path.replace('/etc/nginx', directory)}"]
        commands += [f"nginx -t -q -c {directory}/nginx.conf || echo {'-'.join(case)}"]
    run = subprocess.run(
        ["podman", "exec", "--interactive", target.host.backend.name, "sh"],
        input="\n".join(commands), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [("no_such_directive on;", 'unknown directive "no_such_directive"'), ("server { listen 22; }", ":22 failed")],
    ids=["refused", "port-taken"],
)
def test_a_configuration_that_nginx_does_not_take_is_taken_back(target, extra, complaint):
    before, workers = target.configuration(), target.workers()
    run = target.play("--extra-vars", json.dumps({"nginx_extra": extra}))
    assert run.returncode != 0
    assert complaint in run.stdout
    assert target.configuration() == before
    assert target.host.run("nginx -t").rc == 0
    assert target.serves()
    assert target.workers() == workers


def test_bad_sites_are_refused_before_anything_changes(target):
    before = target.configuration()
    site = {"name": "one", "domains": ["one.test"], "upstream": ["unix:/srv/shop/live/socket"]}
    bad = [site, {**site, "name": "two"}, {**site, "name": "three", "domains": ["exa_mple.test"]}]
    run = target.play("--extra-vars", json.dumps({"nginx_sites": bad}))
    assert run.returncode != 0
    assert "the domain 'one.test' is used more than once" in run.stdout
    assert "nginx_sites[2] (three): domains: 'exa_mple.test' is not a lower-case domain name" in run.stdout
    run = target.play(
        "--extra-vars", json.dumps({"nginx_sites": [{**site, "domain": "x", "certificate": {"key": "/k.pem"}}]})
    )
    assert run.returncode != 0
    assert "domain. Supported parameters include" in run.stdout
    assert "missing required arguments: certificate found in nginx_sites -> certificate" in run.stdout
    assert target.configuration() == before


def test_a_new_certificate_is_served_after_a_reload(target):
    def fingerprint():
        command = (
            f"openssl s_client -connect {target.address}:{target.https} -servername shop.test </dev/null 2>/dev/null"
        )
        return target.asker.check_output(f"{command} | openssl x509 -noout -fingerprint -sha256")

    pid, before = target.main_pid(), fingerprint()
    target.host.check_output("rm /etc/ssl/vivarium/shop/fullchain.pem")
    run = target.play()
    assert run.returncode == 0, run.stdout
    assert fingerprint() != before
    assert target.main_pid() == pid, "nginx was restarted where a reload is enough"


def test_a_site_that_is_not_listed_stays_and_is_named_until_it_is_removed_by_name(target):
    stray = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8181/"
    target.host.check_output(
        "echo 'server { listen 8181; return 204; }' > /etc/nginx/sites.d/stray.conf && systemctl reload nginx"
    )
    try:
        run = target.play("--extra-vars", '{"nginx_worker_connections": 4097}')
        assert run.returncode == 0, run.stdout
        assert "Not in nginx_sites, and as they were: stray." in " ".join(run.stdout.split())
        assert target.host.check_output(stray) == "204"
        run = target.play("--extra-vars", '{"nginx_remove_sites": ["stray"]}')
        assert run.returncode == 0, run.stdout
        assert "Not in nginx_sites" not in run.stdout
        # Old workers may answer for a moment.
        target.host.check_output(f"for _ in $(seq 50); do [ $({stray}) = 000 ] && exit 0; sleep 0.2; done; exit 1")
    finally:
        target.host.run("rm -f /etc/nginx/sites.d/stray.conf")


def test_a_name_of_a_site_that_is_not_listed_is_not_taken(target):
    """nginx itself would go on with a warning, and ignore one of the two."""
    text = f"server {{ listen {target.http}; server_name shop.test; return 204; }}"
    target.host.check_output("echo %s > /etc/nginx/sites.d/stray.conf", text)
    try:
        run = target.play("--extra-vars", '{"nginx_worker_connections": 4098}')
        assert run.returncode != 0
        assert 'conflicting server name "shop.test"' in " ".join(run.stdout.split())
        assert "worker_connections 4098;" not in target.host.check_output("cat /etc/nginx/nginx.conf")
    finally:
        target.host.check_output("rm /etc/nginx/sites.d/stray.conf && systemctl reload nginx")


def test_a_run_that_changes_nothing_is_short(target):
    # Every module is one start of the interpreter.
    counter = '#!/bin/sh\necho run >> /tmp/module-runs\nexec /usr/bin/python3 "$@"\n'
    target.host.check_output("rm -f /tmp/module-runs; printf %s > /tmp/python; chmod +x /tmp/python", counter)
    run = target.play("--extra-vars", "ansible_python_interpreter=/tmp/python")
    assert run.returncode == 0, run.stdout
    assert re.search(r"changed=0\b", run.stdout)
    # Facts, the certificates role's one and three of nginx's own.
    assert len(target.host.check_output("cat /tmp/module-runs").splitlines()) == 1 + 1 + 3
