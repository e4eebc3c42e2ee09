"""The nginx role's files as its task would write them, for many forms of sites: for unit tests, and for nginx in the scenario."""

from __future__ import annotations

import copy
import itertools
import pathlib

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

COLLECTION = pathlib.Path(__file__).resolve().parents[2]
ROLE = COLLECTION / "roles/nginx"
CERTIFICATE = {"certificate": "/etc/ssl/vivarium/shop/fullchain.pem", "key": "/etc/ssl/vivarium/shop/privkey.pem"}
SITE = {"name": "shop", "domains": ["shop.test"], "upstream": ["unix:/srv/shop/live/socket"]}
BACKEND = {**SITE, "name": "shop_backend", "listen": "10.0.0.3:8100", "trusted_proxies": ["10.0.0.1"]}
STATIC = [{"url": "/static/", "path": "/srv/shop/static/"}]
MEDIA = [{"url": "/media/", "path": "/srv/shop/media"}]


def render(release: str, sites: list[dict], **inputs) -> dict[str, str]:
    """The role's configuration files by path, as its task writes them."""
    variables = {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
        **yaml.safe_load((ROLE / "vars/main.yml").read_text()),
        "nginx_sites": copy.deepcopy(sites),
        **inputs,
    }

    def trusted(value):
        if isinstance(value, dict):
            return {key: trusted(each) for key, each in value.items()}
        if isinstance(value, list):
            return [trusted(each) for each in value]
        return trust_as_template(value) if isinstance(value, str) else value

    variables = {key: trusted(value) for key, value in variables.items()}
    variables |= {"ansible_facts": {"distribution_major_version": release}, "ansible_managed": "Ansible managed"}
    templar = Templar(loader=DataLoader(), variables=variables)
    files = templar.template(trust_as_template("{{ __nginx_common_files + __nginx_site_files }}"))
    templar = templar.copy_with_new_env(searchpath=[str(ROLE / "templates"), str(COLLECTION / "templates")])
    rendered = {}
    for file in files:
        if "template" in file:
            templar.available_variables = {**variables, **file.get("vars", {})}
            text = trust_as_template((ROLE / "templates" / file["template"]).read_text())
            rendered[file["path"]] = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})
    return rendered


FULL = {
    **SITE,
    "certificate": CERTIFICATE,
    "redirect_domains": ["www.shop.test"],
    "static": STATIC,
    "media": [*MEDIA, {"url": "/media/private/", "path": "/srv/shop/media/private", "internal": True}],
    "enabled_by": "/etc/systemd/system/multi-user.target.wants/shop.service",
    "pass_headers": ["CF-Connecting-IP", "Remote-User"],
    "title": "Shop & <more>",
    "pages": "/srv/shop/live/public/errors",
    "extra": "add_header X-Extra 1;\nlocation = /extra {\n    return 204;\n}",
}
# Of "geheim".
HASH = "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1"
EDGE = {
    "trusted_proxies": ["10.0.0.0/8", "10.1.2.3/16", "10.0.0.0/8", "fd00::1"],
    "headers": {
        "Content-Security-Policy": "default-src 'self'; img-src * data:",
        "Permissions-Policy": "camera=(), geolocation=(self)",
        "x-frame-options": None,
    },
    "rate_limits": {
        "/accounts/login/": "20r/m",
        "/": {"rate": "50r/s", "burst": 0},
        "/api/v1.0/token": {"rate": "1r/s", "burst": 5, "methods": ["POST", "PUT"]},
    },
    "connection_limit": 20,
    "protect": {
        "/": {"users": {"ann": HASH, "bob@shop.test": HASH}},
        "/admin/": {"addresses": ["10.0.0.1/8", "::1"], "users": {"ann": HASH}},
        "/either": {"addresses": ["192.0.2.1"], "users": {"bob@shop.test": HASH}, "satisfy": "any"},
        "/inside/" + "long/" * 22: {"addresses": ["fd00::/8"]},
    },
    "health_path": "/health/%20+x.y",
    "locations": {
        "/old/": {"redirect": "/new/?a=b&c=#d", "code": 308},
        "/docs": {"redirect": "https://docs.test:8443"},
        "/robots.txt": {"return": 404},
        "/files/": {"directory": "/srv/files"},
        "/raw/": {"raw": "default_type text/plain;\nreturn 200 raw;"},
    },
}
SETS = {
    "none": [],
    "plain": [SITE],
    "full": [FULL],
    "all": [FULL, {**SITE, "name": "b", "domains": ["b.test"], "redirect_domains": ["c.test"]}, BACKEND],
    "backend": [BACKEND, {**BACKEND, "name": "v6", "listen": "[::1]:8100", "trusted_proxies": ["::1", "fd00::/64"]}],
    "files": [{"name": "files", "domains": ["files.test"], "static": STATIC}],
    "fleet": [
        {
            **FULL,
            "static": [
                {**STATIC[0], "fallback": "/srv/shop/older", "ask_upstream": True},
                {"url": "/a/b.c/", "path": "/srv/a"},
            ],
        },
        {**BACKEND, "static": [{**STATIC[0], "fallback": "/srv/shop/older"}, {"url": "/more/", "ask_upstream": True}]},
    ],
    "many": [
        {
            **SITE,
            "upstream": ["10.0.0.3:8100", "[fd00::1]:8100"],
            "domains": [".".join([letter * 62 for letter in "abcd"])],
            "certificate": CERTIFICATE,
        }
    ],
    "edge": [
        {**FULL, **EDGE},
        {**SITE, **EDGE, "name": "b-c", "domains": ["b.test"], "redirect_domains": ["c.test"], "connection_limit": 0},
    ],
    "front": [
        {
            **FULL,
            "protect": {"/a": {"users": {"ann": HASH}}},
            "connection_limit": 5,
            "rate_limits": {"/x": None},
            "headers": {"Referrer-Policy": None},
        },
        {**SITE, "name": "b", "domains": ["b.test"], "trusted_proxies": ["::1", "fd00::1/64"]},
    ],
    "mounts": [
        {**FULL, **EDGE, "extra": ""},
        {
            **SITE,
            **EDGE,
            "name": "api-1",
            "path": "/api/v1.0/",
            "under": "shop",
            "trusted_proxies": [],
            "pages": "/srv/api/e",
            "static": [{"url": "/api/v1.0/static/", "path": "/srv/a", "fallback": "/srv/b", "ask_upstream": True}],
            "media": [
                {"url": "/api/v1.0/m/", "path": "/srv/c"},
                {"url": "/api/v1.0/m/p/", "path": "/srv/c/p", "internal": True},
            ],
            "enabled_by": "/etc/systemd/system/multi-user.target.wants/api.service",
            "health_path": "/api/v1.0/health",
            "protect": {"/api/v1.0": {"users": {"ann": HASH}}, "/api/v1.0/in/": {"addresses": ["192.0.2.1"]}},
            "rate_limits": {"/api/v1.0/": "5r/s"},
            "connection_limit": 0,
            "locations": {"/api/v1.0/old/": {"redirect": "/api/v1.0/"}, "/api/v1.0/raw": {"raw": "return 200 raw;"}},
            "extra": "location = /api/v1.0/extra {\n    return 204;\n}",
        },
        {
            **SITE,
            "name": "files",
            "path": "/shelf/",
            "under": "shop",
            "upstream": [],
            "static": [{"url": "/shelf/s/", "path": "/srv/f", "fallback": "/srv/g"}],
        },
        {
            **FULL,
            "name": "first",
            "domains": ["b.test"],
            "redirect_domains": ["www.b.test"],
            "path": "/first/",
            "static": [],
            "media": [],
            "extra": "",
            "trusted_proxies": ["192.0.2.0/24"],
        },
        {**SITE, "name": "second", "domains": ["b.test"], "path": "/second/", "under": "first"},
        {**SITE, "name": "plain", "domains": ["c.test"], "path": "/plain/"},
    ],
    "words": [
        {
            **SITE,
            "name": "a" * 63,
            "domains": ["default", "hostnames", "include", "volatile", "*.shop.test"],
            "certificate": CERTIFICATE,
        },
        {**SITE, "certificate": CERTIFICATE},
    ],
}
INPUTS = {
    "defaults": {},
    "other": {
        "nginx_https_port": 8443,
        "nginx_http_port": 8080,
        "nginx_ipv6": False,
        "nginx_http3": True,
        "nginx_brotli": False,
        "nginx_security_headers": {"X-" + "long-" * 19: "a; b"},
        "nginx_extra": "map $host $extra {\n    default 1;\n}",
    },
}
CASES = list(itertools.product(("12", "13"), SETS, INPUTS))
