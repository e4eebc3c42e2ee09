"""What stands in front of an application: limits, protected paths, headers, locations, proxies before it; from another host."""

from __future__ import annotations

import base64
import itertools
import json
import posixpath
import re
import shlex
import time
from urllib.parse import unquote

import pytest
from test_nginx import Target, everywhere

ANN, BOB = ("--user", "ann:geheim"), ("--user", "bob:geheim")


@pytest.fixture
def target(request, host, hosts, addresses) -> Target:
    return Target(request.node.callspec.params["host"], hosts, addresses)


def statuses(target: Target, domain: str, paths, *options: str) -> list[int]:
    """What becomes of each path, asked one after the other on one connection, as it is written here."""
    urls = [f"https://{domain}:{target.https}{path}" for path in paths]
    resolve = f"{domain}:{target.https}:{target.address}"
    command = [
        "curl",
        "--silent",
        "--insecure",
        "--path-as-is",
        "--globoff",
        "--resolve",
        resolve,
        "--write-out",
        "%{http_code}\\n",
    ]
    text = target.asker.check_output(
        shlex.join([*command, *options, *itertools.chain(*(("--output", "/dev/null", url) for url in urls))])
    )
    return [int(line) for line in text.split()]


def plain(target: Target, url: str, *options: str, asker=None):
    return target.curl(url, "--http1.1", *options, asker=asker)


def test_a_protected_path_is_for_some(target):
    for path, options, status in (
        ("/inside/", [], 403), ("/inside", [], 403), ("/inside/x?y", [], 403), ("/insidelane/", [], 200),
        ("/users/", [], 401), ("/users/", ANN, 200), ("/users/", ("--user", "ann:wrong"), 401), ("/users/", BOB, 401),
        ("/users/", ("--user", "ANN:geheim"), 401), ("/users/", ("--user", ":geheim"), 401),
        ("/users/", ("--header", "Authorization: Basic"), 401), ("/users/", ("--header", "Authorization: Bearer x"), 401),
        ("/users/of/bob/", ANN, 401), ("/users/of/bob/", BOB, 200), ("/users/of/bobby/", ANN, 200),
        ("/both/", [], 401), ("/both/", ANN, 200), ("/neither/", ANN, 403), ("/neither/", [], 403),
        ("/either/", [], 401), ("/either/", ANN, 200), ("/open/", [], 200), ("/open/", BOB, 200),
        ("/static/css/base.css", [], 401), ("/static/css/base.css", ANN, 200), ("/static/none", [], 404),
        ("/media/photos/cat.png", ANN, 403), ("/media/page.html", [], 200), ("/users/none", ("--request", "TRACE"), 405),
        ("/users/old/", [], 301),  # where a redirect leads is no secret, what lies there may be
        # A server error before it was asked who asks tells nothing, and what the application says passes.
        ("/users/health/", [], 200), ("/users/health/?a", [], 200), ("/users/health", [], 401), ("/users/health/x", [], 401),
        ("//users/health/", [], 401), ("/users/%68ealth/", [], 401), ("/USERS/health/", [], 401),
    ):  # fmt: skip
        answer = plain(target, f"https://edge.test{path}", *options)
        assert answer.status == status, (path, options, answer)
        assert ("www-authenticate" in answer.headers) == (status == 401), (path, answer)


def test_a_password_for_nginx_is_not_for_the_application(target):
    seen = dict(target.upstream("https://edge.test/users/", *ANN)["headers"])
    assert "authorization" not in seen
    for path in ("/", "/open/"):
        seen = dict(target.upstream(f"https://edge.test{path}", *ANN)["headers"])
        assert seen["authorization"].startswith("Basic "), path


def readings(target_line: str):
    """What servers and frameworks may take a request line for: decoded or not, put in order before, after or not at all."""
    path = re.split("[?]", target_line)[0]
    for decoded in (path, unquote(path), unquote(unquote(path))[: len(path)]):
        for cut in (decoded, decoded.split("#")[0], re.sub(";[^/]*", "", decoded)):
            yield cut
            yield re.sub("/+", "/", cut)
            yield posixpath.normpath("/" + cut.lstrip("/"))


SPELLINGS = [
    "/inside/", "/inside", "//inside/", "///inside//x", "/./inside/", "/x/../inside/", "/%69nside/", "/%49nside/", "/insid%65",
    "/INSIDE/", "/Inside", "/inside;a=b/", "/inside;/x", "/inside%3b/", "/inside%2fx", "/%2finside/", "%2finside/", "/inside%2F",
    "/x/%2e%2e/inside/", "/x/%2E./inside/", "/x/.%2e/inside", "/x%2f..%2finside/", "/x%2f%2e%2e%2finside/", "/%2e/inside/",
    "/inside/../x", "/inside/%2e%2e/x", "/inside/..%2fx", "/inside%2f..%2fx", "/x/..;/inside/", "/x/..;a=b/inside/",
    "/inside/..;/x",
    "/inside?x", "/inside/?/../x", "/inside%23", "/inside%3fx",
    "/x?/../inside/", "//x/../inside/", "/x//../inside/", "/x//../../inside/", "/inside//../x", "/inside//..//x",
    "/..//inside/", "/static/../inside/", "/static/%2e%2e/inside/", "/static//../inside/",
    "/media/..%2finside/", "/inside/.", "/inside/..", "/inside/%2e",
    "/inside%20", "/inside%00/", "/inside\\", "/x\\..\\inside",
    "/inside%5c", "/%2569nside/", "/%252549nside/", "/x/%252e%252e%252finside/", "/inside%252fx",
    "/%5cinside", "/inside/./x", "/inside.", "/x/....//inside",
]  # fmt: skip


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_no_other_spelling_gets_past_what_protects_a_path(target, version):
    """Whatever a request is, either nginx refuses it, or nobody could take it for one of the protected path."""
    paths = [spelling.replace("inside", name) for spelling in SPELLINGS for name in ("inside", "users", "neither")]
    found = statuses(target, "edge.test", [path if path.startswith("/") else f"/{path}" for path in paths], version)
    assert len(found) == len(paths)
    passed = [path for path, status in zip(paths, found, strict=True) if status not in (400, 401, 403)]
    for path in passed:
        assert not [
            reading for reading in readings(path) if re.match("/(inside|users|neither)(/|$)", reading.lower())
        ], path
    assert passed, "nothing passes at all"


def test_no_request_line_of_another_form_gets_past_it_either(target):
    """With the whole URL, and with a fragment, which no client sends."""
    for line, status in (
        (f"https://edge.test:{target.https}/inside/", 403),
        ("https://edge.test//inside/", 403), ("HTTPS://EDGE.test/%69nside/", 403),
        ("/inside#x", 400), ("/inside/#/../x", 400), ("/x#/../inside/", 400),
        ("/x/..#/inside", 400), ("/inside\xff", 200), ("/%C0%AFinside", 200),
    ):  # fmt: skip
        text = f"GET {line} HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n"
        received = target.client("raw", "edge.test", base64.b64encode(text.encode("latin-1")).decode())["received"]
        assert received.startswith(f"HTTP/1.1 {status} "), (line, received)


def test_files_are_behind_their_rules_in_every_spelling(target):
    for path in (
        "/static//css/base.css", "//static/css/base.css",
        "/static/%63ss/base.css", "/static%2fcss/base.css", "/static/x/../css/base.css",
        "/static/./css/base.css", "/static/css;/base.css",
        "/static/css%2fbase.css", "/x/../static/css/base.css", "/static/css/../css/base.css",
    ):  # fmt: skip
        answer = target.curl(f"https://edge.test{path}")
        assert answer.status in (400, 401, 404) and "#123456" not in answer.body, (path, answer)


def test_a_websocket_is_behind_the_same_rules(target):
    upgrade = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5vcA==",
    ]
    options = [*itertools.chain(*(("--header", line) for line in upgrade)), "--max-time", "1"]
    # After 101 there is no other answer.
    for path, more, status in (
        ("/inside/", (), 403),
        ("/users/", (), 401),
        ("/users/", ANN, 0),
        ("/ws/", (), 0),
        ("/ws/", (), 429),
    ):
        answer = plain(target, f"https://edge.test{path}", *options, *more)
        assert (answer.status, answer.rc) == (status, 28 if status == 0 else 0), (path, answer)


def test_what_an_application_hands_out_is_what_was_asked_for(target):
    """By X-Accel-Redirect: the path of the request decides, not where the file lies."""
    answer = target.curl("https://edge.test/accel?/protected/bill.html")
    assert answer.status == 200 and "for one visitor" in answer.body


def test_a_rate_is_kept_and_others_are_not_counted(target):
    login = "/accounts/login/"
    data = ("--data", "x")
    assert statuses(target, "edge.test", [login] * 10) == [200] * 10, "reading the form is free"
    spellings = [login, "/accounts/%6cogin/", "//accounts/login", login, "/%41CCOUNTS/login/?next=/"]
    assert statuses(target, "edge.test", spellings, *data) == [200] * 3 + [429] * 2
    # Where nothing is protected, a path that may lead anywhere counts for each.
    crooked = [
        target.curl(f"http://proxied-plain.test{path}", *claims("192.0.2.99")).status
        for path in ("/x/../few/", "/y/%2e%2e/z/", "/")
    ]
    assert crooked == [200, 429, 200]
    # The host itself, where a deploy asks from, is no client.
    for _ in range(4):
        assert local(target, f"https://edge.test{login}", *data)[0] == 200
    # Each path has a rate of its own, of files as well.
    module = "/static/app.0123456789ab.mjs"
    assert statuses(target, "edge.test", [module, module, "/static/none", "/"]) == [200, 429, 404, 200]


def test_connections_of_one_client_are_counted_while_they_last(target):
    """Three at once at this site, and HTTP/2 counts its streams."""
    slow = shlex.join(
        [
            "curl",
            "--silent",
            "--insecure",
            "--parallel",
            "--resolve",
            f"edge.test:{target.https}:{target.address}",
            "--write-out",
            "%{http_code}\\n",
        ]
    )
    urls = " ".join(f"--output /dev/null https://edge.test:{target.https}/slow?1" for _ in range(6))
    for version in ("--http1.1", "--http2"):
        found = sorted(target.asker.check_output(f"{slow} {version} {urls}").split())
        assert found == ["200"] * 3 + ["429"] * 3, version
    assert target.curl("https://edge.test/").status == 200


def test_a_page_with_a_hundred_files_meets_no_limit(target):
    files = " ".join(
        f"--output /dev/null https://shop.test:{target.https}/static/css/base.css?{number}" for number in range(100)
    )
    for version, connections in (("--http1.1", 6), ("--http2", 100)):
        command = f"curl -sk --parallel --parallel-max {connections} {version} -w '%{{http_code}}\\n'"
        command += f" --resolve shop.test:{target.https}:{target.address} {files}"
        assert target.asker.check_output(command).split() == ["200"] * 100


def test_headers_of_a_site(target):
    own = {
        "content-security-policy": "default-src 'self'",
        "permissions-policy": "camera=()",
        "x-content-type-options": "nosniff",
    }
    for path, status in (
        ("/", 200),
        ("/static/app.0123456789ab.mjs?", None),
        ("/users/", 401),
        ("/inside/", 403),
        ("/static/none", 404),
        ("/slow?5", 504),
    ):
        answer = target.curl(f"https://edge.test{path}")
        assert answer.status == status or (status is None and answer.status in (200, 429)), answer
        # Our own pages allow nothing but their own style.
        policy = {
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
        }
        for name, value in (own | (policy if answer.status >= 400 else {})).items():
            assert answer.header(name) == value, (path, answer)
        assert answer.header("referrer-policy") == "same-origin" and "x-frame-options" not in answer.headers
    # What the application says itself is there once, and uploads keep their sandbox.
    answer = target.curl("https://edge.test/headers")
    assert answer.header("referrer-policy") == "no-referrer" and answer.header("x-frame-options") == "DENY"
    # Also where nginx hands out a file for it.
    answer = target.curl("https://shop.test/named?/protected/bill.html")
    assert "for one visitor" in answer.body and answer.header("x-frame-options") == "DENY"
    assert answer.header("referrer-policy") == "strict-origin-when-cross-origin"
    assert "sandbox" in target.curl("https://edge.test/media/page.html").header("content-security-policy")


def test_every_answer_carries_the_headers_of_its_site(target):
    """On whatever nginx says of itself: 200, 301, 404, 413, 421, 429, 500, 502, 503, static files and uploads."""
    expected = {
        "shop.test": {"strict-transport-security", "x-content-type-options", "referrer-policy", "x-frame-options"},
        "edge.test": {
            "strict-transport-security",
            "x-content-type-options",
            "referrer-policy",
            "content-security-policy",
        },
    }

    def check(where, headers, names):
        for name in names:
            assert len(headers.get(name, [])) >= 1, (where, name, headers)
            assert len(set(headers[name])) == 1, (where, name, headers)

    target.asker.check_output("head -c 3000000 /dev/zero > /tmp/large")
    for where, answer in everywhere(target, "shop.test"):
        check(where, answer.headers, expected["shop.test"])
    for domain, path, status, *options in (
        ("edge.test", "/", 200), ("www.edge.test", "/", 301), ("edge.test", "/static/none", 404),
        ("edge.test", "/", 413, "--data-binary", "@/tmp/large"), ("edge.test", "/few/", 429), ("edge.test", "/few/", 429),
        ("edge.test", "/die", 502, "--data", "x"), ("edge.test", "/slow?5", 504), ("edge.test", "/fail?500", 500),
        ("edge.test", "/media/page.html", 200), ("edge.test", "/old/", 301),
        ("edge.test", "/gone/", 410), ("edge.test", "/users/", 401),
    ):  # fmt: skip
        answer = plain(target, f"https://{domain}{path}", *options)
        if (path, answer.status) == ("/few/", 200):
            continue
        assert answer.status == status, (path, answer)
        check(path, answer.headers, expected["edge.test"])
    answer = target.curl("https://down.test/")
    assert answer.status == 503
    check("503", answer.headers, expected["shop.test"])
    received = target.client("misdirect", "down.test", "shop.test")["received"]
    assert received.startswith("HTTP/1.1 421 ")
    for name in expected["shop.test"]:
        assert received.lower().count(f"\n{name}: ") == 1, received


def test_locations_answer_in_the_place_of_the_application(target):
    answer = target.curl("https://edge.test/old/x")
    assert (answer.status, answer.header("location")) == (301, f"https://edge.test{target.suffix}/new/?a=b")
    answer = target.curl("https://edge.test/moved")
    assert (answer.status, answer.header("location")) == (308, "https://elsewhere.test/")
    assert target.upstream("https://edge.test/moved/x")["target"] == "/moved/x"
    assert target.curl("https://edge.test/gone/").status == 410
    assert target.curl("https://edge.test/files/css/note.txt").body == "older\n"
    assert target.curl("https://edge.test/raw/").body == "raw"


def claims(address: str, scheme: str | None = None) -> list[str]:
    lines = [f"X-Forwarded-For: {address}", *([f"X-Forwarded-Proto: {scheme}"] if scheme else [])]
    return [part for line in lines for part in ("--header", line)]


def local(target: Target, url: str, *options: str):
    """From an address that is no proxy's: the host's own loopback."""
    scheme, _, rest = url.partition("://")
    domain, port = rest.split("/")[0], target.https if scheme == "https" else target.http
    url = f"{scheme}://{domain}:{port}{rest[len(domain) :]}"
    text = target.host.check_output(
        shlex.join(["curl", "-sik", "--resolve", f"{domain}:{port}:127.0.0.1", *options, url])
    ).replace("\r\n", "\n")
    head, _, body = text.partition("\n\n")
    return int(head.split()[1]), dict(line.lower().split(": ", 1) for line in head.splitlines()[1:]), body


def test_a_proxy_says_who_asks_and_how(target, addresses):
    for url, scheme in (
        ("https://proxied.test/a", None),
        ("http://proxied.test/a", "https"),
        ("http://proxied-plain.test/a", "https"),
    ):
        for said, address in (
            ("192.0.2.7", "192.0.2.7"),
            ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
            (f"192.0.2.7, {addresses['debian12']}", "192.0.2.7"),
        ):
            headers = dict(target.upstream(url, *claims(said, scheme))["headers"])
            assert (headers["x-forwarded-for"], headers["x-real-ip"], headers["x-forwarded-proto"]) == (
                address,
                address,
                "https",
            )
    # Its name and its port are what the client asked for, whatever the port is here.
    for said in ("proxied.test", "proxied.test:9443"):
        headers = dict(
            target.upstream("http://proxied.test/", *claims("192.0.2.7", "https"), "--header", f"Host: {said}")[
                "headers"
            ]
        )
        assert headers["host"] == said
    assert (
        dict(target.upstream("http://proxied-plain.test/", *claims("192.0.2.7"))["headers"])["x-forwarded-proto"]
        == "http"
    )


def test_behind_a_proxy_nobody_is_led_in_circles(target):
    answer = target.curl("http://proxied.test/a?b", *claims("192.0.2.7", "https"))
    assert answer.status == 200 and answer.header("strict-transport-security")
    for scheme in ("http", None, "https,http", "HTTPS ", "http, https", "ftp"):
        answer = target.curl("http://proxied.test/a?b", *claims("192.0.2.7", scheme), "--header", "Host: proxied.test")
        if answer.status == 200:
            assert scheme in ("HTTPS ", "http, https")
            continue
        assert (answer.status, answer.header("location")) == (301, "https://proxied.test/a?b"), scheme
        assert "strict-transport-security" not in answer.headers
    answer = target.curl(
        "http://www.proxied.test/a?b", *claims("192.0.2.7", "https"), "--header", "Host: www.proxied.test"
    )
    assert (answer.status, answer.header("location")) == (301, "https://proxied.test/a?b")
    assert answer.header("strict-transport-security")
    answer = target.curl(
        "http://www.proxied.test/a?b", *claims("192.0.2.7", "http"), "--header", "Host: www.proxied.test"
    )
    assert (answer.status, answer.header("location")) == (301, "https://www.proxied.test/a?b")
    answer = target.curl("http://proxied.test/static/css", *claims("192.0.2.7", "https"))
    assert (answer.status, answer.header("location")) == (301, "/static/css/")
    directory = "/var/lib/vivarium/acme/.well-known/acme-challenge"
    target.host.check_output(f"mkdir -p {directory} && echo token > {directory}/abc")
    try:
        for name in ("proxied.test", "www.proxied.test", "proxied-plain.test", "edge.test"):
            assert target.curl(f"http://{name}/.well-known/acme-challenge/abc").body == "token\n"
    finally:
        target.host.check_output("rm -r /var/lib/vivarium/acme/.well-known")


def test_who_is_no_proxy_is_not_believed(target):
    status, headers, _ = local(target, "http://proxied.test/a", *claims("192.0.2.7", "https"))
    assert (status, headers["location"]) == (301, f"https://proxied.test{target.suffix}/a")
    status, _, body = local(target, "https://proxied.test/a", *claims("192.0.2.7", "http"))
    headers = {name.lower(): value for name, value in json.loads(body)["headers"]}
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert headers["host"] == f"proxied.test{target.suffix}"
    assert local(target, "https://proxied.test/inside/", *claims("192.0.2.7"))[0] == 403
    status, _, body = local(target, "http://proxied-plain.test/a", *claims("192.0.2.7", "https"))
    assert ["X-Forwarded-Proto", "http"] in json.loads(body)["headers"]


def test_behind_a_proxy_the_client_counts(target):
    def ask(path, *address):
        return target.curl(f"https://proxied.test{path}", *claims(*address)).status

    assert [
        ask("/inside/", address)
        for address in ("192.0.2.7", "6.6.6.6", "192.0.2.7, 6.6.6.6", "2001:db8::7", "2001:db9::7")
    ] == [200, 403, 403, 200, 403]
    # Who has one address of IPv6 has 2 ** 64 of them.
    few = [
        "192.0.2.1",
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8:1:2::1",
        "2001:db8:1:2:3:4:5:6",
        "2001:db8:1:3::1",
        "2001:db8::1",
        "2001:db8::f:1",
        "127.0.0.1",
        "127.0.0.1",
    ]
    assert [ask("/few/", address) for address in few] == [200, 429, 200, 200, 429, 200, 200, 429, 200, 429]


def test_hashes_are_for_the_workers_of_nginx_alone(target):
    file = target.host.file("/etc/nginx/sites.d/edge.users")
    assert (file.user, file.group, file.mode) == ("root", "www-data", 0o640)
    target.host.run("sleep 2")  # the log's lines are written within a second
    for path in ("/etc/nginx/sites.d/edge.conf", "/var/log/nginx/access.log", "/var/log/nginx/error.log"):
        assert target.host.run(f"grep -F '$6$' {path}").rc == 1, path


@pytest.mark.on("debian12")
def test_a_password_changes_without_being_shown_and_mistakes_are_told_by_name(target):
    file = "/etc/nginx/sites.d/edge.users"
    before = target.configuration()
    target.host.check_output(f"sed -i s/ann/amy/ {file}")
    run = target.play("--diff", "--check", "-vvv")
    assert run.returncode == 0, run.stdout
    assert file in run.stdout and "$6$" not in run.stdout + run.stderr
    site = {"name": "one", "domains": ["one.test"], "upstream": ["unix:/srv/shop/live/socket"]}
    wrong = {"protect": {"/a/": {"users": {"ann": "hunter2"}}}, "rate_limits": {"/b/": 5}}
    run = target.play("--extra-vars", json.dumps({"nginx_sites": [site | wrong]}))
    assert run.returncode != 0 and "hunter2" not in run.stdout + run.stderr
    told = " ".join(run.stdout.split())
    assert "nginx_sites[0] (one): protect./a/: users.ann is not a hash" in told
    assert "nginx_sites[0] (one): rate_limits./b/: 5 is not a rate with a unit" in told
    run = target.play()
    assert run.returncode == 0 and target.configuration() == before
    deadline = time.monotonic() + 10
    while plain(target, "https://edge.test/users/", *ANN).status != 200:
        assert time.monotonic() < deadline
