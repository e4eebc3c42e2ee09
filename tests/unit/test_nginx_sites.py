"""What the nginx role refuses before anything changes, and that every form of site renders."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.complete import (
    DEFAULTS,
    nginx_site_files,
    nginx_sites,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.inputs import nginx_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.site import nginx_site_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.there import nginx_used
from nginx_forms import (
    BACKEND,
    CASES,
    CERTIFICATE,
    EDGE,
    FULL,
    HASH,
    INPUTS,
    MEDIA,
    SETS,
    SITE,
    STATIC,
    render,
)


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
        ({"domains": ["bücher.test"]}, "which is written 'xn--bcher-kva.test' here"),
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
        ({"listen": "10.0.0.3:8100"}, "listen needs trusted_proxies"),
        ({"trusted_proxies": ["10.0.0.0/0"]}, "trusted_proxies: '10.0.0.0/0' is everybody"),
        ({"trusted_proxies": ["cdn.test"]}, "trusted_proxies: 'cdn.test' is neither an address nor a network"),
        (
            {"listen": "10.0.0.3:1", "trusted_proxies": ["10.0.0.1"], "rate_limits": {"/a/": "5r/m"}},
            "rate_limits belongs to the public site",
        ),
        (
            {"listen": "10.0.0.3:1", "trusted_proxies": ["10.0.0.1"], "protect": {"/a/": {"addresses": ["::1"]}}},
            "protect belongs to the public site",
        ),
        ({"rate_limits": {"/a/": 5}}, "rate_limits./a/: 5 is not a rate with a unit, such as 10r/s"),
        ({"rate_limits": {"/a/": "5"}}, "rate_limits./a/: '5' is not a rate with a unit"),
        ({"rate_limits": {"/a/": "5/m"}}, "rate_limits./a/: '5/m' is not a rate with a unit"),
        ({"rate_limits": {"/a/": "0r/s"}}, "rate_limits./a/: '0r/s' is not a rate with a unit"),
        ({"rate_limits": {"/a/": {"burst": 5}}}, "rate_limits./a/: rate is missing"),
        (
            {"rate_limits": {"/a/": {"rate": "1r/s", "brust": 5}}},
            "rate_limits./a/: unknown key 'brust' (known: rate, burst,",
        ),
        ({"rate_limits": {"/a/": {"rate": "1r/s", "burst": "5r"}}}, "rate_limits./a/: burst '5r' is not a number"),
        ({"rate_limits": {"/a/": {"rate": "1r/s", "methods": "POST"}}}, "rate_limits./a/: methods must be a list of"),
        ({"rate_limits": {"a/": "1r/s"}}, "rate_limits: 'a/' must be a path"),
        ({"rate_limits": {"/a/../b/": "1r/s"}}, "rate_limits: '/a/../b/' must be a path"),
        ({"rate_limits": {"/a/": "1r/s", "/a": "2r/s"}}, "rate_limits: '/a' is there more than once"),
        ({"rate_limits": ["/a/"]}, "rate_limits must be a dictionary of paths and rates"),
        ({"connection_limit": "many"}, "connection_limit: 'many' is not a number from 0"),
        ({"protect": {"/a/": {}}}, "protect./a/: needs addresses, users or both"),
        (
            {"protect": {"/a/": {"address": ["::1"]}}},
            "protect./a/: unknown key 'address' (known: addresses, users, satisfy)",
        ),
        (
            {"protect": {"/a/": {"addresses": ["office"]}}},
            "protect./a/: addresses: 'office' is neither an address nor a network",
        ),
        ({"protect": {"/a/": {"addresses": ["::/0"]}}}, "protect./a/: addresses: '::/0' is everybody"),
        ({"protect": {"/a/": {"users": {"ann": "hunter2"}}}}, "protect./a/: users.ann is not a hash of a password"),
        ({"protect": {"/a/": {"users": {"ann": "{PLAIN}hunter2"}}}}, "users.ann is not a hash of a password"),
        ({"protect": {"/a/": {"users": {"ann": "$2y$15$" + "a" * 53}}}}, "users.ann is not a hash of a password"),
        ({"protect": {"/a/": {"users": {"ann:x": HASH}}}}, "users: 'ann:x' is not a name"),
        (
            {"protect": {"/a/": {"users": {"ann": HASH}, "satisfy": "any"}}},
            "satisfy is for addresses together with users",
        ),
        (
            {"protect": {"/a/": {"users": {"ann": HASH}}, "/b/": {"users": {"Ann": HASH}}}},
            "protect: the users 'ann' and 'Ann' differ in nothing but case",
        ),
        (
            {"protect": {"/a/": {"users": {"ann": HASH}}, "/b/": {"users": {"ann": HASH.replace("z", "y")}}}},
            "protect: the user 'ann' has two passwords",
        ),
        (
            {"protect": {"/a": {"addresses": ["::1"]}}, "health_path": "/a/"},
            "protect./a: is the path by which a deploy and others see",
        ),
        ({"health_path": "/a b"}, "health_path must be a path"),
        ({"headers": {"strict-transport-security": "max-age=1"}}, "is decided by hsts"),
        ({"headers": {"Content-Length": "1"}}, "headers: Content-Length is nginx's own"),
        ({"headers": {"X-A": 'a "b"'}}, "headers.X-A must be a text"),
        ({"headers": {"X-A": "b", "x-a": None}}, "headers: 'x-a' is there more than once"),
        ({"locations": {"/": {"return": 404}}}, "locations./: is the application itself"),
        (
            {"static": STATIC, "locations": {"/static/x": {"return": 404}}},
            "locations./static/x: files lie there (/static/)",
        ),
        ({"media": MEDIA, "locations": {"/media": {"return": 404}}}, "locations./media: files lie there (/media/)"),
        (
            {"locations": {"/.well-known/acme-challenge/": {"return": 404}}},
            "locations./.well-known/acme-challenge/: is answered by nginx itself",
        ),
        ({"locations": {"/a/": {"redirect": "/a/b/"}}}, "leads back to where it came from"),
        (
            {"locations": {"/a/": {"redirect": "/b/;x"}}},
            "locations./a/: redirect must be a path or an http or https URL",
        ),
        ({"locations": {"/a/": {"redirect": "//b"}}}, "redirect must be a path or an http or https URL"),
        ({"locations": {"/a/": {"redirect": "/b", "code": 200}}}, "code is for redirect, and one of 301"),
        ({"locations": {"/a/": {"return": 200}}}, "return must be one of 204"),
        ({"locations": {"/a/": {"return": 404, "raw": "x;"}}}, "needs one of redirect, return, directory, raw"),
        ({"locations": {"/a/": {"directory": "/root/a"}}}, "the sandbox of nginx"),
        ({"locations": {"/a": {"directory": "/srv/a"}}}, "a directory needs a path that ends with '/'"),
        ({"locations": {"/a/": {"retrun": 404}}}, "unknown key 'retrun'"),
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
        ({"static": [{"url": "/s/", "path": "/a", "fallback": "/a;"}]}, "fallback: path '/a;' must be absolute"),
        ({"static": [{"url": "/s/", "fallback": "/a"}]}, "path '' must be absolute"),
        ({"static": [{"url": "/s/"}]}, "path '' must be absolute"),
        ({"static": [{"url": "/s/", "ask_upstream": False}]}, "path '' must be absolute"),
        ({"static": [{"url": "/s/", "ask_upstream": "maybe"}]}, "ask_upstream 'maybe' is neither true nor false"),
        (
            {"static": [{"url": "/s/", "ask_upstream": True}], "upstream": [], "media": MEDIA},
            "ask_upstream is for a site with",
        ),
        (
            {"static": [{"url": "/s/", "path": "/a", "fallback": "/m"}], "media": [{"url": "/m/", "path": "/m"}]},
            "lie in each other",
        ),
        ({"static": STATIC, "media": [{"url": "/static/", "path": "/m"}]}, "use the url '/static/' more than once"),
        ({"static": STATIC, "media": [{"url": "/m/", "path": "/srv/shop/static/m"}]}, "lie in each other"),
        ({"static": STATIC, "media": [{"url": "/m/", "path": "/srv/shop"}]}, "lie in each other"),
        ({"client_max_body_size": "10 MB"}, "'10 MB' is not a size"),
        ({"read_timeout": "60s"}, "'60s' is not a number of seconds"),
        ({"read_timeout": 0}, "'0' is not a number of seconds"),
        ({"hsts": {"max_age": "1y"}}, "max_age '1y' is not a number of seconds"),
        ({"hsts": {"max-age": 60}}, "unknown key 'max-age'"),
        ({"hsts": {"preload": True}}, "preload needs include_subdomains: true"),
        ({"hsts": "no"}, "hsts must be true, false, or a dictionary"),
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
        (None, "max-age=63072000"),
        (True, "max-age=63072000"),
        ({}, "max-age=63072000"),
        (False, ""),
        ({"max_age": "60", "include_subdomains": "false"}, "max-age=60"),
        ({"max_age": 0}, "max-age=0"),
        ({"include_subdomains": True, "preload": True}, "max-age=63072000; includeSubDomains; preload"),
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
        if re.search(r"\.(conf|under-[a-z]+)$", path) and path.startswith("/etc/nginx"):
            code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
            assert re.sub(r'"[^"]*"', "", code).count("{") == re.sub(r'"[^"]*"', "", code).count("}"), path
            assert "\n\n\n" not in text, f"{path} has a hole"
    names = {pathlib.Path(path).name for path in files if "/sites.d/" in path}
    secure = [site for site in SETS[sites] if site.get("certificate")]
    assert names == {
        "_default.conf",
        *(f"{site['name']}.conf" for site in SETS[sites]),
        *(f"{site['name']}.names" for site in secure),
        *(f"{site['name']}.under-{site.get('under', site['name'])}" for site in SETS[sites] if "path" in site),
    }


def entries(text, variable):
    """The entries of the map for a variable."""
    block = re.search(rf"(?m)^ *map .* \${variable} \{{\n((?:.*\n)*?) *\}}$", text)[1]
    return [line.strip().rstrip(";").rsplit(" ", 1) for line in block.splitlines() if line.strip() != "volatile;"]


def matched(text, variable, source):
    """What a map makes of a value, as nginx does: the texts come before the expressions."""
    found, default = {}, None
    for key, value in entries(text, variable):
        key = key.strip('"')
        if key == "default":
            default = value
        else:
            found[key] = value
    for key in sorted(found, key=lambda key: key.startswith("~")):
        insensitive = key.startswith("~*")
        expression = key.lstrip("~").removeprefix("*") if key.startswith("~") else f"^{re.escape(key)}$"
        if re.search(expression, source, re.IGNORECASE if insensitive or not key.startswith("~") else 0):
            return found[key]
    return default


def site_of(site, release="13"):
    return render(release, [site])[f"/etc/nginx/sites.d/{site['name']}.conf"]


@pytest.mark.parametrize(
    ("request_line", "path", "passes"),
    [
        ("/health/", "/health/", True),
        ("/health/?a=/../b", "/health/", True),
        ("/orders/x/../../health/", "/health/", False),
        ("/orders/%2e%2E/health/", "/health/", False),
        ("/.well-known/acme-challenge/x", "/.well-known/acme-challenge/x", True),
        ("/orders/x/../../.well-known/acme-challenge/x", "/.well-known/acme-challenge/x", False),
        ("/.well-known/acme-challenge/../../orders/", "/orders/", False),
        # On the way to the page itself.
        ("/orders/../x", "/.vivarium/maintenance.html", True),
        ("/orders/", "/.vivarium/maintenance.html", True),
        ("/orders/", "/orders/", False),
    ],
)
def test_nothing_gets_past_maintenance_in_another_spelling(request_line, path, passes):
    files = render("13", [{**SITE, "health_path": "/health/"}])
    common, site = files["/etc/nginx/nginx.conf"], files["/etc/nginx/sites.d/shop.conf"]
    assert "map $vivarium_mounted$vivarium_probe$vivarium_crooked$uri $vivarium_switch_shop {" in site
    crooked = matched(common, "vivarium_crooked_path", request_line).strip('"')
    place = matched(site, "vivarium_switch_shop", f"{crooked}{path}")
    assert place == ('""' if passes else "/var/lib/vivarium/maintenance/shop")
    # A deploy on the host itself asks as it likes.
    assert matched(site, "vivarium_switch_shop", f"1{crooked}{path}") == '""'


def test_maintenance_of_a_site_below_a_path_closes_what_lies_there():
    site = render("13", [SITE, {**BELOW, "health_path": "/api/health/"}])["/etc/nginx/sites.d/api.conf"]
    closed = "/var/lib/vivarium/maintenance/api"
    for asked, place in (
        ("/api/x", closed), ("!/api/x", closed), ("!/api/health/", closed), ("/api/health/", '""'), ("/apix", '""'),
        ("/", '""'), ("1/api/x", '""'),
    ):  # fmt: skip
        assert matched(site, "vivarium_switch_api", asked) == place, asked


def test_a_site_by_the_name_of_off_is_protected():
    for rule in ({"users": {"ann": HASH}}, {"users": {"ann": HASH}, "addresses": ["::1"], "satisfy": "any"}):
        text = site_of({**SITE, "name": "off", "protect": {"/a/": rule}})
        # nginx takes this word for no question at all.
        assert len(re.findall(r'(?m)^ *1 "?off"?;$', text)) == 0
        assert '1 "Sign in to off";' in text


def test_no_two_things_have_one_name():
    """Whatever sites are called: numbers, words that stand in names, one name within another."""
    names = "shop 1_shop 1-2_shop 2_shop in_shop a_1_shop page path_shop probe https_port https".split()
    either = {"addresses": ["192.0.2.1"], "users": {"ann": HASH}, "satisfy": "any"}
    sites = [
        {**FULL, **EDGE, "name": name, "domains": [f"d{number}.test"], "redirect_domains": [f"e{number}.test"]}
        | {"protect": {"/a/": either, "/bcd/": either}}
        for number, name in enumerate(names)
    ]
    assert nginx_site_problems(sites) == []
    text = "\n".join(render("13", sites).values())
    found = re.findall(r"(?m)^ *((?:map|geo) .*?\$\w+|upstream \S+) \{$", text) + re.findall(r"zone=([^ :;]+:)", text)
    found = [name.split()[-1] if name[:3] in ("map", "geo") else name for name in found]
    assert len(found) > 200 and sorted({name for name in found if found.count(name) > 1}) == []


def test_a_location_for_all_is_the_only_one_where_nothing_else_answers():
    site = {"name": "files", "domains": ["files.test"], "static": STATIC}
    for locations, count in (({}, 1), ({"/a/": {"return": 404}}, 1), ({"/": {"redirect": "https://a.test/"}}, 1)):
        assert nginx_site_problems([{**site, "locations": locations}]) == []
        text = site_of({**site, "locations": locations})
        assert len(re.findall(r"(?m)^    location (?:\^~ )?/ \{$", text)) == count, locations


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("", "http"), ("http", "http"), ("https", "https"), ("HTTPS", "https"), ("http, https", "https"),
        ("https,https", "https"), ("https, http", "http"), ("xhttps", "http"), ("https,", "http"),
    ],
)  # fmt: skip
def test_the_last_that_a_proxy_says_of_the_scheme_counts(said, scheme):
    text = site_of({**SITE, "trusted_proxies": ["10.0.0.1"]})
    assert matched(text, "vivarium_scheme_shop", f" 1 {said}") == scheme
    assert matched(text, "vivarium_scheme_shop", f" 0 {said}") == "http"
    assert matched(text, "vivarium_scheme_shop", f"on 0 {said}") == "https"


def test_a_rule_for_a_file_is_one_for_its_compressed_copies():
    (site,) = nginx_sites([{**SITE, "protect": {"/static/a.css": {"addresses": ["192.0.2.1"]}}}])
    pattern = re.compile(site["rules"][0]["pattern"], re.IGNORECASE)
    for ending in ("", ".gz", ".br", "%2Ebr", ".g%7a?b", "/c", ";d"):
        assert pattern.match(f"/static/a.css{ending}"), ending
    for ending in (".txt", ".gzip", "gz"):
        assert not pattern.match(f"/static/a.css{ending}"), ending


def test_http3_is_for_sites_that_visitors_reach_themselves():
    sites = [
        {**SITE, "certificate": CERTIFICATE},
        {**SITE, "name": "behind", "certificate": CERTIFICATE, "trusted_proxies": ["192.0.2.1"]},
        {**SITE, "name": "plain"},
        {**SITE, "name": "own", "certificate": CERTIFICATE, "headers": {"alt-svc": "clear"}},
        BACKEND,
    ]
    for release in ("12", "13"):
        files = {pathlib.Path(path).name: text for path, text in render(release, sites, nginx_http3=True).items()}
        quic = [name for name, text in sorted(files.items()) if re.search(r"listen .* quic\b", text)]
        assert quic == (["_default.conf", "own.conf", "shop.conf"] if release == "13" else [])
        said = [name for name, text in sorted(files.items()) if 'Alt-Svc \'h3=":443"' in text]
        assert said == (["shop.conf"] if release == "13" else [])
        # Once for each address.
        assert files["_default.conf"].count("quic default_server reuseport;") == (2 if release == "13" else 0)
    assert not re.search(r"listen .* quic\b", "".join(render("13", sites).values()))


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


GOOD = {
    "nginx_sites": [SITE],
    "nginx_http_port": 80,
    "nginx_https_port": 443,
    "nginx_ipv6": True,
    "nginx_http3": False,
    "nginx_security_headers": {"X-A": "b"},
    "nginx_acme_directory": "/var/lib/vivarium/acme",
    "nginx_worker_connections": 4096,
    "nginx_worker_shutdown_timeout": "1h",
    "nginx_client_header_timeout": "15s",
    "nginx_client_body_timeout": "60s",
    "nginx_send_timeout": "60s",
    "nginx_keepalive_timeout": "65s",
    "nginx_connection_limit": 500,
    "nginx_include": ["/etc/nginx/sites-enabled/blog"],
    "nginx_take_over": False,
    "nginx_extra": "",
}


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
        ({"nginx_security_headers": {"X-A": "b", "x-a": "c"}}, "nginx_security_headers"),
        ({"nginx_security_headers": ["X-A"]}, "nginx_security_headers"),
        ({"nginx_sites": [{**SITE, "domains": []}]}, "nginx_sites"),
        ({"nginx_acme_directory": "/acme; autoindex on"}, "nginx_acme_directory"),
        ({"nginx_acme_directory": "/"}, "nginx_acme_directory"),
        ({"nginx_acme_directory": "/home/acme"}, "nginx_acme_directory"),
        ({"nginx_acme_directory": "/var/../home/acme"}, "nginx_acme_directory"),
        ({"nginx_worker_shutdown_timeout": "1h; env SEC=1"}, "nginx_worker_shutdown_timeout"),
        ({"nginx_worker_shutdown_timeout": "an hour"}, "nginx_worker_shutdown_timeout"),
        ({"nginx_keepalive_timeout": "a minute"}, "nginx_keepalive_timeout"),
        ({"nginx_client_header_timeout": -1}, "nginx_client_header_timeout"),
        ({"nginx_connection_limit": "many"}, "nginx_connection_limit"),
        ({"nginx_worker_connections": "many"}, "nginx_worker_connections"),
        ({"nginx_worker_connections": 1}, "nginx_worker_connections"),
        ({"nginx_ipv6": "maybe"}, "nginx_ipv6"),
        ({"nginx_http3": "13"}, "nginx_http3"),
        ({"nginx_brotli": "maybe"}, "nginx_brotli"),
        ({"nginx_extra": ["a"]}, "nginx_extra"),
        ({"nginx_take_over": "maybe"}, "nginx_take_over"),
        ({"nginx_include": "/etc/nginx/a"}, "nginx_include"),
        ({"nginx_include": ["sites-enabled/a"]}, "nginx_include"),
        ({"nginx_include": ["/etc/nginx/sites-enabled/*"]}, "nginx_include"),
        ({"nginx_include": ["/a", "/a"]}, "nginx_include: '/a' is listed twice"),
        ({"nginx_include": ["/etc/nginx/sites.d/a.conf"]}, "nginx_include"),
    ],
)
def test_an_unusable_input_is_named(changes, problem):
    (found,) = nginx_problems({**GOOD, **changes})
    assert problem in found


@pytest.mark.parametrize("timeout", ["1h", "90s", "1h30m", "500ms", "60", 60])
def test_times_as_nginx_writes_them(timeout):
    assert nginx_problems({**GOOD, "nginx_worker_shutdown_timeout": timeout}) == []


# What nginx, a shell or Python would take for something else.
HOSTILE = [
    "a; autoindex on", "a} b {", "a\nb", "a\r\nX-Evil: 1", "a\0b", "a\x1b[2J", "$host", "${host}", "a b", "a#b", "'a'", '"a"',
    "`id`", "a\\nb", "../../etc", "/../etc/", "/a/../../etc", "\u0661", "\u00b2", "1e3", "-1", "9" * 30, "", " ", True, None,
    [], ["a"], {}, {"a": "b"}, 1.5, "fe80::1%a; return 200 x", "10.0.0.0/255.0.0.0",
]  # fmt: skip
NUMBERS = ("client_max_body_size", "read_timeout", "websocket_timeout", "connection_limit")
PUBLIC = {**SITE, "certificate": CERTIFICATE, "static": STATIC, "media": MEDIA, "redirect_domains": ["www.shop.test"]}


def places():
    """Every place of every input in which a value can stand, but for those that are raw directives by purpose."""
    for name in GOOD:
        if name not in ("nginx_sites", "nginx_extra", "nginx_security_headers"):
            yield name, lambda value, name=name: {name: value}
    yield "nginx_include[]", lambda value: {"nginx_include": [value]}
    yield "header", lambda value: {"nginx_security_headers": {value if isinstance(value, str) else "X A": "b"}}
    yield "header's value", lambda value: {"nginx_security_headers": {"X-A": value}}
    for base, keys in (
        (
            PUBLIC,
            [
                "name",
                "domains",
                "redirect_domains",
                "upstream",
                "enabled_by",
                "pass_headers",
                "pages",
                "path",
                *NUMBERS,
            ],
        ),
        (BACKEND, ["listen", "trusted_proxies"]),
    ):
        for key in keys:
            yield key, lambda value, base=base, key=key: {"nginx_sites": [{**base, key: value}]}
            if isinstance(base.get(key, []), list):
                yield f"{key}[]", lambda value, base=base, key=key: {"nginx_sites": [{**base, key: [value]}]}
    for key in ("path", "under"):
        below = {**SITE, "name": "below", "path": "/below/", "under": "shop"}
        yield (
            f"{key} of a site below",
            lambda value, key=key, below=below: {"nginx_sites": [SITE, {**below, key: value}]},
        )
    for key in ("headers", "rate_limits", "protect", "locations"):
        yield (
            f"{key}'s name",
            lambda value, key=key: {
                "nginx_sites": [
                    {**PUBLIC, key: {str(value): dict(EDGE[key])["/" if key == "protect" else next(iter(EDGE[key]))]}}
                ]
            },
        )
    for place, key, value_in in (
        ("rate", "rate_limits", lambda value: {"/a/": value}),
        ("rate", "rate_limits", lambda value: {"/a/": {"rate": value}}),
        ("burst", "rate_limits", lambda value: {"/a/": {"rate": "1r/s", "burst": value}}),
        ("methods", "rate_limits", lambda value: {"/a/": {"rate": "1r/s", "methods": value}}),
        ("methods[]", "rate_limits", lambda value: {"/a/": {"rate": "1r/s", "methods": [value]}}),
        ("rule", "protect", lambda value: {"/a/": value}),
        ("addresses", "protect", lambda value: {"/a/": {"addresses": value, "users": {"ann": HASH}}}),
        ("addresses[]", "protect", lambda value: {"/a/": {"addresses": [value]}}),
        ("users", "protect", lambda value: {"/a/": {"users": value, "addresses": ["::1"]}}),
        ("user's name", "protect", lambda value: {"/a/": {"users": {str(value): HASH}}}),
        ("user's hash", "protect", lambda value: {"/a/": {"users": {"ann": value}}}),
        ("satisfy", "protect", lambda value: {"/a/": {"users": {"ann": HASH}, "addresses": ["::1"], "satisfy": value}}),
        ("answer", "locations", lambda value: {"/a/": value}),
        ("redirect", "locations", lambda value: {"/a/": {"redirect": value}}),
        ("code", "locations", lambda value: {"/a/": {"redirect": "/b/", "code": value}}),
        ("return", "locations", lambda value: {"/a/": {"return": value}}),
        ("directory", "locations", lambda value: {"/a/": {"directory": value}}),
        ("health", "health_path", lambda value: value),
    ):
        yield (
            f"{key}: {place}",
            lambda value, key=key, value_in=value_in: {"nginx_sites": [{**PUBLIC, key: value_in(value)}]},
        )
    yield "headers' value", lambda value: {"nginx_sites": [{**PUBLIC, "headers": {"X-A": value}}]}
    for key in (
        "certificate",
        "hsts",
        "static",
        "media",
        "headers",
        "rate_limits",
        "protect",
        "locations",
        "health_path",
    ):
        yield key, lambda value, key=key: {"nginx_sites": [{**PUBLIC, key: value}]}
    for key in ("certificate", "key"):
        yield (
            f"certificate.{key}",
            lambda value, key=key: {"nginx_sites": [{**PUBLIC, "certificate": {**CERTIFICATE, key: value}}]},
        )
    for key in ("max_age", "include_subdomains", "preload"):
        yield f"hsts.{key}", lambda value, key=key: {"nginx_sites": [{**PUBLIC, "hsts": {key: value}}]}
    for part in ("fallback", "ask_upstream"):
        yield (
            f"static[].{part}",
            lambda value, part=part: {
                "nginx_sites": [{**PUBLIC, "static": [{"url": "/x/", "path": "/srv/x", part: value}]}]
            },
        )
    for key in ("static", "media"):
        yield f"{key}[]", lambda value, key=key: {"nginx_sites": [{**PUBLIC, key: [value]}]}
        for part in ("url", "path"):
            yield (
                f"{key}[].{part}",
                lambda value, key=key, part=part: {
                    "nginx_sites": [{**PUBLIC, key: [{"url": "/x/", "path": "/srv/x", part: value}]}]
                },
            )


PLACES = dict(places())


@pytest.mark.parametrize("place", PLACES)
def test_no_input_says_more_than_its_directive(place):
    passed = []
    for value in HOSTILE:
        inputs = PLACES[place](value)
        if nginx_problems({**GOOD, **inputs}):
            continue
        passed.append(value)
        # Between quotation marks, blanks and semicolons are part of the value.
        special = r"[$\"\\\x00-\x1f\x7f]" if "value" in place else r"[\s;{}#$'\"\\\x00-\x1f\x7f]"
        for text in value if isinstance(value, list) else [value]:
            assert not (isinstance(text, str) and re.search(special, text)), value
        # And the templates can write it.
        assert render("13", **{"sites": inputs.pop("nginx_sites", [PUBLIC]), **inputs})
    assert len(passed) < len(HOSTILE) / 2 or place == "header's value", "nobody checks it"


def test_each_key_of_a_site_is_among_the_places():
    keys = {re.split(r"[\[. ]", place)[0] for place in PLACES}
    # Raw directives, and what reaches no configuration but a page.
    assert set(DEFAULTS) - keys == {"extra", "title"}


def test_a_site_knows_which_others_share_its_certificate():
    other = {"certificate": "/c.pem", "key": "/k.pem"}
    sites = [
        {**SITE, "name": "a-1", "certificate": CERTIFICATE},
        {**SITE, "name": "b", "certificate": other},
        {**SITE, "name": "c", "certificate": CERTIFICATE},
        SITE,
    ]
    assert [site["certificate_id"] for site in nginx_sites(sites)] == ["a_1", "b", "a_1", None]


@pytest.mark.parametrize("name", ["default", "hostnames", "include", "volatile"])
def test_a_name_that_is_a_word_of_nginx_is_escaped(name):
    text = render("13", [{**PUBLIC, "domains": [name]}])["/etc/nginx/sites.d/shop.names"]
    assert f"\n\\{name} shop;\n" in text


def test_headers_that_pass_are_not_cleared():
    text = render("13", [{**SITE, "pass_headers": ["cf-connecting-IP"]}])["/etc/nginx/sites.d/shop.conf"]
    assert "CF-Connecting-IP " not in text
    assert 'proxy_set_header True-Client-IP "";' in text


def test_no_header_is_cleared_twice():
    """nginx would send it twice."""
    text = render("13", [SITE])["/etc/nginx/sites.d/shop.conf"]
    names = [name.lower() for name in re.findall(r"proxy_set_header (\S+) ", text)]
    assert len(names) == len(set(names))


USED = """
 /etc/nginx/nginx.conf 11
 /etc/nginx/sites-available/default 22
 /etc/nginx/old 33 obsolete
=\t99\t/etc/nginx/conf.d/a.conf\t/etc/nginx/conf.d/a.conf
=\t{}\t/etc/nginx/nginx.conf\t/etc/nginx/nginx.conf
=\t22\t/etc/nginx/sites-available/default\t/etc/nginx/sites-enabled/default
=\t44\t/etc/nginx/mime.types\t/etc/nginx/mime.types
=\t55\t/etc/nginx/sites.d/shop.conf\t/etc/nginx/sites.d/shop.conf
=\t33\t/etc/nginx/old\t/etc/nginx/old
=\t66\t/etc/nginx/b\x1b[2J\t/etc/nginx/b\x1b[2J
"""


def test_what_an_nginx_would_lose():
    """Not what is as Debian brought it, nor what goes on."""
    odd = "/etc/nginx/b?[2J"
    assert nginx_used(USED.format("11")) == ["/etc/nginx/conf.d/a.conf", odd]
    assert nginx_used(USED.format("12")) == ["/etc/nginx/conf.d/a.conf", "/etc/nginx/nginx.conf", odd]
    assert nginx_used(USED.format("12"), ["/etc/nginx/conf.d/a.conf"]) == ["/etc/nginx/nginx.conf", odd]
    assert nginx_used("") == nginx_used("words") == ["/etc/nginx/nginx.conf"]


def test_an_nginx_of_which_no_package_knows_would_lose_all():
    assert nginx_used("=\t11\t/etc/nginx/nginx.conf\t/etc/nginx/nginx.conf\n") == ["/etc/nginx/nginx.conf"]


@pytest.mark.parametrize("sites", ["x", 1, {"a": 1}])
def test_an_addition_to_what_is_no_list_is_a_sentence(sites):
    inputs = {**GOOD, "nginx_sites": sites, "nginx_sites_extra": [{"name": "x"}]}
    assert "nginx_sites must be a list of sites" in nginx_problems(inputs)


BELOW = {**SITE, "name": "api", "path": "/api/", "under": "shop"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"path": "api"}, "path: 'api' must begin and end with '/'"),
        ({"path": "/api"}, "path: '/api' must begin and end with '/'"),
        ({"path": "/"}, "path: '/' must begin and end with '/' and be more than that"),
        ({"path": "/a/../b/"}, "path: '/a/../b/' must begin and end"),
        ({"path": "/.vivarium/x/"}, "path: '/.vivarium/x/' is answered by nginx itself"),
        ({"path": "/.well-known/"}, "path: '/.well-known/' is answered by nginx itself"),
        ({"path": None}, "under is for a site with a path"),
        ({"under": "gone"}, "'api' is under 'gone', which is no public site with domains of its own"),
        ({"under": "api"}, "'api' is under 'api', which is no public site"),
        ({"domains": ["other.test"]}, "'api' has not the same domains as 'shop', which it is under"),
        ({"certificate": CERTIFICATE}, "certificate is said by the site that it is under, 'shop'"),
        ({"redirect_domains": ["www.shop.test"]}, "redirect_domains is said by the site that it is under, 'shop'"),
        ({"trusted_proxies": ["10.0.0.1"]}, "trusted_proxies is said by the site that it is under, 'shop'"),
        ({"hsts": False}, "hsts is said by the site that it is under, 'shop'"),
        ({"static": STATIC}, "static: '/static/' must lie below the site's path, /api/"),
        ({"media": [{"url": "/api/", "path": "/srv/m"}]}, "media: '/api/' must lie below the site's path, /api/"),
        ({"locations": {"/old/": {"return": 404}}}, "locations: '/old/' must lie below the site's path, /api/"),
        ({"path": "/static/api/"}, "static '/static/' of 'shop' and the path '/static/api/' lie in each other"),
        ({"path": "/docs/"}, "locations '/docs/x' of 'shop' and the path '/docs/' lie in each other"),
        ({"path": "/other/"}, "the path '/other/' is used more than once under 'shop'"),
        ({"path": "/other/api/"}, "the paths '/other/' and '/other/api/' under 'shop' lie in each other"),
    ],
)
def test_sites_below_a_path_that_do_not_go_together(changes, problem):
    owner = {**SITE, "static": STATIC, "locations": {"/docs/x": {"return": 404}}}
    other = {**BELOW, "name": "other", "path": "/other/"}
    assert nginx_site_problems([owner, BELOW, other]) == []
    problems = nginx_site_problems([owner, {**BELOW, **changes}, other])
    assert any(problem in found for found in problems), problems


def test_a_backend_site_has_no_path():
    assert any(
        "path belongs to the public site" in found for found in nginx_site_problems([{**BACKEND, "path": "/a/"}])
    )


def test_what_lies_in_a_server_block_is_told_by_the_names_of_files():
    """So what is no longer listed goes on being served, until it is removed; and what has moved is served at one place."""

    def files(sites, *remove):
        entries = nginx_site_files(nginx_sites(sites, {}), "/s", "/p", "/m", remove)
        found = {entry["path"]: entry.get("state", "there") for entry in entries if ".under-" in entry["path"]}
        return {path.removeprefix("/s/"): state for path, state in found.items()}

    blog = {**SITE, "name": "blog", "domains": ["blog.test"]}
    here = files([SITE, BELOW, blog])
    assert here["api.under-shop"] == "there" and here["api.under-blog"] == "absent"
    assert "there" not in {state for name, state in here.items() if name != "api.under-shop"}
    assert files([SITE, {**BELOW, "under": None, "path": None, "domains": ["api.test"]}])["api.under-shop"] == "absent"
    assert files([SITE], "api")["api.under-shop"] == "absent"
    # The one that had the domain goes, and the other has it now.
    alone = files([{**BELOW, "under": None}], "shop")
    assert (alone["api.under-api"], alone["api.under-shop"]) == ("there", "absent")
    assert not any(name.startswith("shop_backend") for name in files([SITE, BACKEND]))


def test_while_nginx_runs_a_zone_keeps_its_key():
    """It refuses a configuration in which the zone of a name has another key than before."""

    def zones(limits, **site):
        text = render("13", [{**SITE, **site, "rate_limits": limits}])["/etc/nginx/sites.d/shop.conf"]
        return {zone: key for key, zone in re.findall(r"limit_\w+_zone (\S+) zone=(\S+):", text)}

    before = zones({"/a/": "5r/m", "/b/": "5r/m"})
    after = zones({"/c/": "1r/s", "/b": {"rate": "5r/m", "burst": 0}, "/a/": {"rate": "1r/s", "methods": ["POST"]}})
    assert len(before) == 3 and len(after) == 4 and {zone: after[zone] for zone in before} == before
    assert zones({}, connection_limit=0) == {}
