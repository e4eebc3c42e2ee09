"""What the nginx role refuses before anything changes, and that every form of site renders."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.vivarium.server.plugins.filter.nginx_sites import (
    nginx_problems,
    nginx_site_problems,
    nginx_sites,
)
from nginx_forms import BACKEND, CASES, CERTIFICATE, FULL, INPUTS, MEDIA, SETS, SITE, STATIC, render


@pytest.mark.parametrize(
    "sites",
    [
        [],
        [SITE],
        [{**SITE, "certificate": CERTIFICATE, "static": STATIC, "media": MEDIA, "redirect_domains": ["www.shop.test"]}],
        [{**SITE, "domains": ["xn--bcher-kva.example", "*.shop.test", "localhost"], "certificate": None, "hsts": None}],
        [
            {
                **SITE,
                "upstream": ["127.0.0.1:8000", "[fd00::1]:8000"],
                "client_max_body_size": "2G",
                "read_timeout": "300",
            }
        ],
        [SITE, BACKEND],
        [BACKEND, {**BACKEND, "name": "again", "listen": "10.0.0.3:8101"}],
        [{**BACKEND, "listen": "[fd00::3]:8100", "trusted_proxies": ["fd00::/64", "10.0.0.0/24"]}],
        [{"name": "files", "domains": ["files.test"], "static": STATIC}],
    ],
)
def test_good_sites(sites):
    assert nginx_site_problems(sites) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"domains": "shop.test"}, "domains must be a list"),
        ({"upstream": "unix:/srv/shop/live/socket"}, "upstream must be a list"),
        ({"domains": []}, "domains needs at least one name"),
        ({"domains": ["exa mple.test"]}, "'exa mple.test' is not a lower-case domain name"),
        ({"domains": ["-a.test"]}, "is not a lower-case domain name"),
        ({"domains": ["a_b.test"]}, "is not a lower-case domain name"),
        ({"domains": ["bücher.test"]}, "written in its xn-- form"),
        ({"domains": ["shop.test:8443"]}, "is not a lower-case domain name"),
        ({"domains": ["https://shop.test"]}, "is not a lower-case domain name"),
        ({"domains": ["shop.test;"]}, "is not a lower-case domain name"),
        ({"domains": ["shop.test\n"]}, "is not a lower-case domain name"),
        ({"domains": ["a" * 64 + ".test"]}, "is not a lower-case domain name"),
        ({"domains": ["10.0.0.1"]}, "'10.0.0.1' is an address, not a domain name"),
        ({"domains": ["10.0.0.256"]}, "is not a lower-case domain name"),
        ({"domains": [7]}, "7 is not a domain name"),
        ({"domains": ["*.shop.test"], "redirect_domains": ["shop.test"]}, "'*.shop.test' is a wildcard"),
        ({"redirect_domains": ["shop.test"]}, "the domain 'shop.test' is used more than once"),
        ({"name": "Shop"}, "name must be lower-case"),
        ({"name": "../shop"}, "name must be lower-case"),
        ({"name": ""}, "name must be lower-case"),
        ({"upstream": ["app.internal:8000"]}, "not a host name"),
        ({"upstream": ["localhost:8000"]}, "not a host name"),
        ({"upstream": ["10.0.0.1"]}, "neither unix:/path nor ADDRESS:PORT"),
        ({"upstream": ["10.0.0.1:70000"]}, "neither unix:/path nor ADDRESS:PORT"),
        ({"upstream": ["unix:socket"]}, "needs an absolute path"),
        ({"upstream": ["unix:/srv/a b;"]}, "needs an absolute path"),
        ({"upstream": ["unix:/tmp/socket"]}, "the sandbox of nginx"),
        ({"upstream": []}, "neither an upstream nor static or media files"),
        (
            {"certificate": {"certificate": "/c.pem"}},
            "certificate: key is missing: a certificate and its key come together",
        ),
        ({"certificate": {"key": "/k.pem"}}, "certificate: certificate is missing"),
        ({"certificate": {**CERTIFICATE, "key": "key.pem"}}, "certificate: key must be an absolute path"),
        ({"certificate": {**CERTIFICATE, "key": "/root/key.pem"}}, "the sandbox of nginx"),
        ({"listen": "10.0.0.3:8100"}, "listen and trusted_proxies come together"),
        ({"trusted_proxies": ["10.0.0.1"]}, "listen and trusted_proxies come together"),
        ({"listen": "8100", "trusted_proxies": ["10.0.0.1"]}, "'8100' is not ADDRESS:PORT"),
        ({"listen": "10.0.0.3:1", "trusted_proxies": ["web1"]}, "'web1' is neither an address nor a network"),
        (
            {"listen": "10.0.0.3:1", "trusted_proxies": ["10.0.0.1"], "certificate": CERTIFICATE},
            "belongs to the public site",
        ),
        ({"static": [{"url": "static", "path": "/s"}]}, "url 'static' must begin and end with /"),
        ({"static": [{"url": "/", "path": "/s"}]}, "url '/' must begin and end with /"),
        ({"static": [{"url": "/.well-known/acme-challenge/", "path": "/s"}]}, "is answered by the role itself"),
        ({"static": [{"url": "/s/", "path": "s"}]}, "path 's' must be absolute"),
        ({"static": [{"url": "/s/", "path": "/"}]}, "path '/' must be absolute"),
        ({"static": [{"url": "/s/", "path": "/a/../b"}]}, "must be absolute"),
        ({"static": [{"url": "/s/", "path": "/a;}"}]}, "without blanks or special characters"),
        ({"static": [{"url": "/s/", "path": "/home/shop/static"}]}, "the sandbox of nginx"),
        ({"static": STATIC, "media": [{"url": "/static/", "path": "/m"}]}, "use the url '/static/' more than once"),
        ({"static": STATIC, "media": [{"url": "/m/", "path": "/srv/shop/static/m"}]}, "lie in each other"),
        ({"static": STATIC, "media": [{"url": "/m/", "path": "/srv/shop"}]}, "lie in each other"),
        ({"client_max_body_size": "10 MB"}, "'10 MB' is not a size"),
        ({"read_timeout": "60s"}, "'60s' is not a number of seconds"),
        ({"read_timeout": 0}, "'0' is not a number of seconds"),
        ({"hsts": {"max_age": "1y"}}, "max_age '1y' is not a number of seconds"),
    ],
)
def test_bad_sites(changes, problem):
    problems = nginx_site_problems([{**SITE, **changes}])
    assert any(problem in found and found.startswith("nginx_sites") for found in problems), problems


@pytest.mark.parametrize(
    ("sites", "problem"),
    [
        ("sites", "nginx_sites must be a list of sites"),
        (["shop"], "nginx_sites must be a list of sites"),
        ([SITE, {**SITE, "domains": ["b.test"]}], "nginx_sites: the name 'shop' is used more than once"),
        ([SITE, {**SITE, "name": "b"}], "nginx_sites: the domain 'shop.test' is used more than once"),
        (
            [BACKEND, {**BACKEND, "name": "b"}],
            "nginx_sites: the domain 'shop.test' is used more than once on 10.0.0.3:8100",
        ),
        (
            [{**SITE, "name": "a-b", "domains": ["a.test"]}, {**SITE, "name": "a_b"}],
            "nginx_sites: two names differ only in - and _: 'a_b'",
        ),
    ],
)
def test_sites_that_do_not_go_together(sites, problem):
    assert problem in nginx_site_problems(sites)


def test_all_problems_are_told_at_once():
    assert len(nginx_site_problems([{**SITE, "domains": ["a b"], "upstream": ["x"]}, {**SITE, "name": "B"}])) == 3


@pytest.mark.parametrize(
    ("hsts", "value"),
    [
        ({}, "max-age=63072000; includeSubDomains"),
        ({"max_age": "60", "include_subdomains": "false"}, "max-age=60"),
        ({"preload": True}, "max-age=63072000; includeSubDomains; preload"),
    ],
)
def test_hsts(hsts, value):
    (site,) = nginx_sites([{**SITE, "hsts": hsts}])
    assert site["hsts_value"] == value


@pytest.mark.parametrize(("release", "sites", "inputs"), CASES)
def test_every_form_of_site_renders(release, sites, inputs):
    files = render(release, SETS[sites], **INPUTS[inputs])
    for path, text in files.items():
        assert "{{" not in text and "None" not in text, path
        if path.endswith(".conf") and path.startswith("/etc/nginx"):
            code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
            assert re.sub(r'"[^"]*"', "", code).count("{") == re.sub(r'"[^"]*"', "", code).count("}"), path
            assert "\n\n\n" not in text, f"{path} has a hole"
    names = {pathlib.Path(path).name for path in files if "/sites.d/" in path}
    assert names == {"_default.conf", *(f"{site['name']}.conf" for site in SETS[sites])}


def test_what_differs_between_releases():
    old, new = (" ".join(render(release, [FULL]).values()) for release in ("12", "13"))
    assert "http2 on;" not in old
    assert "ssl http2" in old
    assert "http2 on;" in new
    assert "ssl http2" not in new
    assert "MLKEM" not in old
    assert "X25519MLKEM768:" in new


def test_a_host_with_backend_sites_alone_does_not_open_the_public_ports():
    files = render("13", [BACKEND])
    assert set(re.findall(r"listen ([^;]+);", " ".join(files.values()))) == {
        "10.0.0.3:8100 default_server",
        "10.0.0.3:8100",
    }


GOOD = {"nginx_sites": [SITE], "nginx_http_port": 80, "nginx_https_port": 443, "nginx_security_headers": {"X-A": "b"}}


def test_usable_inputs_have_no_problems():
    assert nginx_problems(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"nginx_http_port": 443}, "nginx_http_port (443) and nginx_https_port (443)"),
        ({"nginx_https_port": 70000}, "nginx_https_port (70000)"),
        ({"nginx_http_port": "http"}, "nginx_http_port (http)"),
        ({"nginx_security_headers": {"X A": "b"}}, "nginx_security_headers"),
        ({"nginx_security_headers": {"X-A": 'a "b"'}}, "nginx_security_headers"),
        ({"nginx_security_headers": {"X-A": "$host"}}, "nginx_security_headers"),
        ({"nginx_sites": [{**SITE, "domains": []}]}, "nginx_sites"),
    ],
)
def test_an_unusable_input_is_named(changes, problem):
    (found,) = nginx_problems({**GOOD, **changes})
    assert problem in found
