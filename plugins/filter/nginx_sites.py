# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks the sites of the nginx role and completes them, so that the templates only have to write them down."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Container, Iterable
from typing import Any, TypeVar

from ansible_collections.vivarium.server.plugins.plugin_utils.domains import domain_problem
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import extra_problems, is_switch, is_true
from ansible_collections.vivarium.server.plugins.plugin_utils.hsts import decided, header, hsts_problems

T = TypeVar("T")

# The documentation of these filters lies beside this file, a .yml file for each.

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
NUMBER = re.compile(r"[0-9]{1,9}\Z")
SIZE = re.compile(r"[0-9]{1,9}[kKmMgG]?\Z")
DURATION = re.compile(r"(?:[0-9]{1,6}(?:ms|[smhdwMy]))+\Z|[0-9]{1,9}\Z")
URL = re.compile(r"/(?:[A-Za-z0-9._~-]+/)+\Z")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}\Z")
# What can be printed, but for " $ and the backslash; nginx takes no word of its configuration that is much longer.
HEADER_VALUE = re.compile(r"[ !#%-\[\]-~]{1,3000}\Z")
PATH = re.compile(r"/[A-Za-z0-9._~/@+:,=-]*\Z")
NETWORK = re.compile(r"[0-9a-fA-F.:]+(?:/[0-9]{1,3})?\Z")

# What the sandbox of nginx's unit hides from it.
HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108, nothing is written there

# URLs that the role itself answers.
RESERVED = ("/.well-known/acme-challenge/", "/.vivarium/")

# What nginx itself tells an application.
OWN_HEADERS = ("host", "connection", "upgrade", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x-request-id")

CONFIGURATION = "/etc/nginx/nginx.conf"
# What the role's nginx.conf reads, whoever put it there.
OWN = ("/etc/nginx/sites.d/", "/etc/nginx/modules-enabled/", "/etc/nginx/mime.types", "/run/vivarium-nginx/")

DEFAULTS: dict[str, Any] = {
    "upstream": [],
    "enabled_by": None,
    "certificate": None,
    "static": [],
    "media": [],
    "hsts": True,
    "client_max_body_size": "10m",
    "read_timeout": 60,
    "websocket_timeout": 3600,
    "redirect_domains": [],
    "listen": None,
    "trusted_proxies": [],
    "pass_headers": [],
    "extra": "",
}


def nginx_problems(inputs: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that is wrong with the role's inputs; none when they are usable."""
    problems = extra_problems(inputs, ["nginx_sites"]) + nginx_site_problems(inputs["nginx_sites"])
    ports = [inputs["nginx_http_port"], inputs["nginx_https_port"]]
    if not all(_number(port, 1, 65535) for port in ports) or int(ports[0]) == int(ports[1]):
        problems.append(f"nginx_http_port ({ports[0]}) and nginx_https_port ({ports[1]}) must be two different ports")
    problems += _headers_problems(inputs["nginx_security_headers"])
    if not is_switch(inputs.get("nginx_ipv6", True)):
        problems.append(f"nginx_ipv6: '{inputs['nginx_ipv6']}' is neither true nor false")
    directory = inputs.get("nginx_acme_directory", "/var/lib/vivarium/acme")
    problems += [f"nginx_acme_directory: {problem}" for problem in _path_problems(directory)]
    if not _number(inputs.get("nginx_worker_connections", 4096), 16, 1_000_000):
        problems.append(
            f"nginx_worker_connections: '{inputs['nginx_worker_connections']}' is not a number from 16 to 1000000"
        )
    timeout = inputs.get("nginx_worker_shutdown_timeout", "1h")
    if isinstance(timeout, bool) or not DURATION.match(str(timeout)):
        problems.append(f"nginx_worker_shutdown_timeout: '{timeout}' is not a time such as 90s or 1h30m")
    remove, sites = inputs.get("nginx_remove_sites", []), inputs["nginx_sites"]
    if not isinstance(remove, list):
        problems.append("nginx_remove_sites must be a list of names")
    else:
        listed = [site.get("name") for site in sites if isinstance(site, dict)] if isinstance(sites, list) else []
        for name in remove:
            if not isinstance(name, str) or not NAME.match(name):
                problems.append(f"nginx_remove_sites: '{name}' is not the name of a site")
            elif name in listed:
                problems.append(f"nginx_remove_sites: '{name}' is in nginx_sites; take it out there first")
    if not is_switch(inputs.get("nginx_take_over", False)):
        problems.append(f"nginx_take_over: '{inputs['nginx_take_over']}' is neither true nor false")
    include = inputs.get("nginx_include", [])
    if not isinstance(include, list):
        problems.append("nginx_include must be a list of paths")
    else:
        problems += [
            f"nginx_include: '{path}' must be the absolute path of a file, without blanks or special characters"
            for path in include
            if not isinstance(path, str) or not PATH.match(path) or path.endswith("/") or "/../" in path
        ]
        problems += [f"nginx_include: '{path}' is listed twice" for path in _repeated(map(str, include))]
        problems += [f"nginx_include: '{path}' is read anyway" for path in map(str, include) if path.startswith(OWN)]
    if not isinstance(inputs.get("nginx_extra", ""), str):
        problems.append("nginx_extra must be a text")
    return problems


def _headers_problems(headers: Any) -> list[str]:
    if (
        not isinstance(headers, dict)
        or not all(HEADER.match(str(name)) and HEADER_VALUE.match(str(value)) for name, value in headers.items())
        or _repeated(str(name).lower() for name in headers)
    ):
        return [
            "nginx_security_headers is a dictionary of header names and values; a value has no quotation marks, dollar signs,"
            " backslashes or line breaks"
        ]
    if "strict-transport-security" in {str(name).lower() for name in headers}:
        return ["nginx_security_headers: what Strict-Transport-Security says is decided for each site, by its hsts"]
    return []


def nginx_site_problems(sites: Any, variable: str = "nginx_sites") -> list[str]:
    """Return a sentence for everything that is wrong with the sites; none when they are usable."""
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        return [f"{variable} must be a list of sites"]
    problems = []
    for index, site in enumerate(sites):
        label = f"{variable}[{index}] ({site.get('name', 'without a name')})"
        problems += [f"{label}: {problem}" for problem in _site_problems(_complete(site))]
    return problems + _conflicts([_complete(site) for site in sites if not _texts(_complete(site))], variable)


def nginx_sites(sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sites with every default filled in and with what the templates derive from them."""
    sites = [_complete(site) for site in sites]
    first: dict[str, str] = {}
    for site in sites:
        if site["certificate"] and not site["listen"]:
            first.setdefault(site["certificate"]["certificate"], _identifier(site["name"]))
    return [
        {**_derive(site), "certificate_id": first.get((site["certificate"] or {}).get("certificate", ""))}
        for site in sites
    ]


def nginx_site_files(sites: list[dict[str, Any]], directory: str, remove: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return what vivarium.server.files writes for completed sites, and removes of those that are to go."""
    files = []
    for site in sites:
        # The names that its certificate is shown for; a file without a purpose goes.
        secure = site["certificate"] and not site["backend"]
        parts = {"conf": "site.conf.j2", "names": "site.names.j2" if secure else None}
        for part, template in parts.items():
            entry = {"template": template, "vars": {"site": site}} if template else {"state": "absent"}
            files.append({"path": f"{directory}/{site['name']}.{part}", **entry})
    return files + [
        {"path": f"{directory}/{name}.{part}", "state": "absent"} for name in remove for part in ("conf", "names")
    ]


def nginx_used(answer: str, include: Container[str] = ()) -> list[str]:
    """Return the files that nginx would read no more if the role's nginx.conf took the place of the one that is there."""
    untouched, read, lost = set(), set(), []
    for line in answer.splitlines():
        if line.startswith("=\t"):
            _sign, digest, real, path = [*line.split("\t"), "", "", ""][:4]
            read.add(path)
            if (real, digest) not in untouched and path not in include and not path.startswith(OWN):
                lost.append(re.sub("[^ -~]", "?", path)[:200])
        elif line.startswith(" /"):
            untouched.add(tuple(line.split()[:2]))
    # Of a file that is a link to nowhere there is no line.
    return lost if CONFIGURATION in read else [CONFIGURATION, *lost]


def _complete(site: dict[str, Any]) -> dict[str, Any]:
    # A null is what a wiring writes where a site does not have the thing.
    return {**DEFAULTS, **{key: value for key, value in site.items() if value is not None}}


def _derive(site: dict[str, Any]) -> dict[str, Any]:
    return {
        **site,
        "id": _identifier(site["name"]),
        "backend": bool(site["listen"]),
        "hsts_value": header(decided(site["hsts"])),
        "pass_headers": [name.lower() for name in site["pass_headers"]],
        "static": [_location(entry) for entry in site["static"]],
        "media": [_location(entry) for entry in site["media"]],
    }


def _identifier(name: object) -> str:
    """The name as part of an nginx variable."""
    return str(name).replace("-", "_")


def _location(entry: dict[str, Any]) -> dict[str, Any]:
    paths = {key: entry[key].rstrip("/") + "/" for key in ("path", "fallback") if entry.get(key)}
    return {
        "path": None,
        "fallback": None,
        **entry,
        **paths,
        "ask_upstream": is_true(entry.get("ask_upstream") or False),
        "internal": is_true(entry.get("internal") or False),
    }


def _texts(site: dict[str, Any]) -> list[str]:
    """The keys whose value is one text: a specification takes it for a list of one, a template for a list of letters."""
    lists = ["domains", *(key for key, default in DEFAULTS.items() if default == [])]
    return [key for key in lists if not isinstance(site.get(key, []), list)]


def _number(value: Any, least: int, most: int) -> bool:
    return not isinstance(value, bool) and bool(NUMBER.match(str(value))) and least <= int(value) <= most


def _path_problems(path: object) -> list[str]:
    path = str(path)
    if not PATH.match(path) or path.strip("/") == "" or "/../" in f"{path}/":
        return [f"path '{path}' must be absolute, without blanks or special characters"]
    if f"{path}/".startswith(HIDDEN):
        return [f"path '{path}' lies where the sandbox of nginx sees nothing: {', '.join(HIDDEN)}"]
    return []


def _site_problems(site: dict[str, Any]) -> list[str]:
    problems = []
    if not NAME.match(str(site.get("name", ""))):
        problems.append("name must be lower-case letters, digits, - and _, and begin with a letter or a digit")
    if texts := _texts(site):
        return [f"{key} must be a list" for key in texts]
    if not site.get("domains"):
        problems.append("domains needs at least one name")
    for key in ("domains", "redirect_domains"):
        for position, domain in enumerate(site.get(key) or []):
            # The first domain is where redirects go: it must be a name that a browser can ask for.
            target = key == "domains" and position == 0 and site["redirect_domains"]
            problem = domain_problem(domain, wildcard=not target)
            problems += [f"{key}: {problem}"] if problem else []
    problems += _upstream_problems(site)
    problems += _certificate_problems(site)
    problems += _backend_problems(site)
    problems += _location_problems(site)
    problems += hsts_problems(site["hsts"])
    for name in site["pass_headers"]:
        if not isinstance(name, str) or not HEADER.match(name):
            problems.append(f"pass_headers: '{name}' is not a header of letters, digits and hyphens")
        elif name.lower() in OWN_HEADERS:
            problems.append(f"pass_headers: nginx itself says {name}, a client's own never passes")
    if not SIZE.match(str(site["client_max_body_size"])):
        problems.append(f"client_max_body_size: '{site['client_max_body_size']}' is not a size such as 10m")
    for key in ("read_timeout", "websocket_timeout"):
        if not _number(site[key], 1, 999_999_999):
            problems.append(f"{key}: '{site[key]}' is not a number of seconds")
    if not isinstance(site["extra"], str):
        problems.append("extra must be a text")
    return problems


def _upstream_problems(site: dict[str, Any]) -> list[str]:
    problems = []
    for upstream in site["upstream"]:
        if str(upstream).startswith("unix:"):
            path = str(upstream)[len("unix:") :]
            if not PATH.match(path) or ":" in path or "/../" in f"{path}/":
                problems.append(f"upstream: '{upstream}' needs an absolute path after unix:")
            elif path.startswith(HIDDEN):
                problems.append(
                    f"upstream: '{upstream}' lies where the sandbox of nginx sees nothing: {', '.join(HIDDEN)}"
                )
        elif not _address_and_port(upstream):
            problems.append(
                f"upstream: '{upstream}' is neither unix:/path nor ADDRESS:PORT (an address, not a host name:"
                " nginx does not start when it cannot look one up)"
            )
    if site["enabled_by"] is not None:
        problems += [f"enabled_by: {problem}" for problem in _path_problems(site["enabled_by"])]
    if not site["upstream"] and not site["static"] and not site["media"]:
        problems.append("has neither an upstream nor static or media files to serve")
    return problems


def _certificate_problems(site: dict[str, Any]) -> list[str]:
    certificate = site["certificate"]
    if not certificate:
        return []
    if not isinstance(certificate, dict):
        return ["certificate is a dictionary of a certificate and its key"]
    problems = []
    for key in ("certificate", "key"):
        path = certificate.get(key)
        if not path:
            problems.append(f"certificate: {key} is missing: a certificate and its key come together")
        elif not PATH.match(str(path)) or "/../" in f"{path}/":
            problems.append(f"certificate: {key} must be an absolute path without blanks or special characters")
        elif str(path).startswith(HIDDEN):
            problems.append(f"certificate: {key} lies where the sandbox of nginx sees nothing: {', '.join(HIDDEN)}")
    return problems


def _backend_problems(site: dict[str, Any]) -> list[str]:
    problems = []
    if bool(site["listen"]) != bool(site["trusted_proxies"]):
        problems.append(
            "listen and trusted_proxies come together: a backend site answers nobody but its trusted proxies"
        )
    if site["listen"]:
        if not _address_and_port(site["listen"]):
            problems.append(f"listen: '{site['listen']}' is not ADDRESS:PORT")
        for key in ("certificate", "redirect_domains"):
            if site[key]:
                problems.append(f"{key} belongs to the public site, not to a backend site (listen)")
    for proxy in site["trusted_proxies"]:
        try:
            # Python takes anything for the zone of an address (fe80::1%anything), nginx takes none.
            network = NETWORK.match(str(proxy)) and ipaddress.ip_network(str(proxy), strict=False)
        except ValueError:
            network = None
        if not network:
            problems.append(f"trusted_proxies: '{proxy}' is neither an address nor a network")
    return problems


def _location_problems(site: dict[str, Any]) -> list[str]:
    problems = []
    urls = []
    for key in ("static", "media"):
        for entry in site[key]:
            if not _is_entry(entry):
                problems.append(f"{key} is a list of a url and a path each")
                continue
            url = str(entry.get("url", ""))
            urls.append(url)
            if not URL.match(url) or {".", ".."} & set(url.split("/")):
                problems.append(f"{key}: url '{url}' must begin and end with / and be more than that")
            elif any(url.startswith(reserved) for reserved in RESERVED):
                problems.append(f"{key}: url '{url}' is answered by the role itself")
            problems += [f"{key}: {problem}" for problem in _files_problems(key, entry, site)]
            if not is_switch(entry.get("internal") or False):
                problems.append(f"{key}: internal '{entry['internal']}' is neither true nor false")
    problems += [f"static and media use the url '{url}' more than once" for url in _repeated(urls)]
    # Whoever may upload could otherwise replace what a browser runs: Django's deployment documentation asks for this.
    for media in filter(_is_entry, site["media"]):
        for static in filter(_is_entry, site["static"]):
            for path in filter(None, (static.get("path"), static.get("fallback"))):
                inner, outer = (f"{str(each).rstrip('/')}/" for each in (media.get("path", ""), path))
                if inner.startswith(outer) or outer.startswith(inner):
                    problems.append(f"media: path '{media.get('path')}' and static path '{path}' lie in each other")
    return problems


def _files_problems(key: str, entry: dict[str, Any], site: dict[str, Any]) -> list[str]:
    """What is wrong with where files come from: a directory; for static files one behind it, and other hosts."""
    ask = entry.get("ask_upstream")
    if key == "media" or (ask is None and entry.get("fallback") is None):
        return _path_problems(entry.get("path", ""))
    if ask is not None and not is_switch(ask):
        return [f"ask_upstream '{ask}' is neither true nor false"]
    problems = []
    if is_true(ask or False) and not site["upstream"]:
        problems.append("ask_upstream is for a site with an upstream")
    if not (is_true(ask or False) and entry.get("path") is None and entry.get("fallback") is None):
        problems += _path_problems(entry.get("path", ""))
    if entry.get("fallback") is not None:
        problems += [f"fallback: {problem}" for problem in _path_problems(entry["fallback"])]
    return problems


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict)


def _conflicts(sites: list[dict[str, Any]], variable: str) -> list[str]:
    """What is wrong between sites: two of a name, or two that want to answer for one domain at one place."""
    problems = [
        f"{variable}: the name '{name}' is used more than once"
        for name in _repeated([str(site.get("name")) for site in sites])
    ]
    names = {str(site.get("name")) for site in sites}
    problems += [
        f"{variable}: two names differ only in - and _: '{name}'" for name in _repeated(map(_identifier, names))
    ]
    for place in {str(site["listen"] or "") for site in sites}:
        domains = [
            domain
            for site in sites
            if str(site["listen"] or "") == place
            for domain in [*(site.get("domains") or []), *site["redirect_domains"]]
        ]
        where = f" on {place}" if place else ""
        problems += [
            f"{variable}: the domain '{domain}' is used more than once{where}" for domain in _repeated(domains)
        ]
    return sorted(problems)


def _repeated(values: Iterable[T]) -> list[T]:
    values = list(values)
    return sorted({value for value in values if values.count(value) > 1}, key=str)


def _address_and_port(text: object) -> tuple[str, int] | None:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):([0-9]{1,5})", str(text))
    if not match or not 0 < int(match[3]) < 65536:
        return None
    try:
        return str(ipaddress.ip_address(match[1] or match[2])), int(match[3])
    except ValueError:
        return None


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "nginx_sites": nginx_sites,
            "nginx_problems": nginx_problems,
            "nginx_site_files": nginx_site_files,
            "nginx_used": nginx_used,
        }
