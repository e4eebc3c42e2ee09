# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nginx is told of an application: its domains, its paths, its certificate, what it does otherwise than for others."""

from __future__ import annotations

import re
from urllib.parse import quote

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS, App, Wrong, filled
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx import headers, limits, locations, protect, reach
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.pages import MOST, is_title
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import domain_problem
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_form

SIZE = re.compile(r"[0-9]{1,12}[kKmMgG]?")
URL = re.compile(r"/(?:(?!\.\.?/)[A-Za-z0-9._~-]{1,255}/)+")
# A directory of uploads.
DIRECTORY = re.compile(
    r"(?!\.\.?(/|\Z))[A-Za-z0-9_.][A-Za-z0-9._-]{0,99}(/(?!\.\.?(/|\Z))[A-Za-z0-9._-]{1,100}){0,9}/?"
)
HEALTH_PATH = re.compile(r"/[!-~]{0,1023}")
# What of a path and a query stays as it is when the rest is percent-encoded.
SAFE = "/?&=%:@!$'()*+,;~#[]"
# Types of certificates that roles will know; those there are have checks of their own.
KIND = re.compile(r"[a-z][a-z_]{0,31}")
# Seconds.
READ = 60
DRAIN = 30


def complete(app: App, wrong: Wrong) -> None:
    """Domains, paths and times, and what becomes of them for the deploy."""
    _check_domains(app, wrong)
    if not SIZE.fullmatch(app["client_max_body_size"]):
        wrong("client_max_body_size must be a size in nginx's notation, such as 10m")
    for key, default in (("static_url", "/static/"), ("media_url", "/media/")):
        app[key] = app[key] if app[key] is not None else (default if app["framework"] == "django" else "")
        if app[key] and not URL.fullmatch(app[key]):
            wrong(f"{key} must be a path that begins and ends with '/', and more than that{_url_hint(app[key])}")
    _complete_options(app, wrong)
    _complete_health(app, wrong)
    _complete_certificate(app, wrong)


def _check_domains(app: App, wrong: Wrong) -> None:
    if not app["domains"]:
        wrong("domains needs at least one name")
    for domain in app["domains"]:
        if problem := domain_problem(domain):
            wrong(f"domains: {problem}")
    if app["domains"] and str(app["domains"][0]).startswith("*."):
        wrong(
            f"domains: '{app['domains'][0]}' comes first; the first is a full name, under which a deploy and the report ask for"
            f" the site, such as www.{app['domains'][0][2:]}"
        )
    app["domains"] = [str(domain) for domain in app["domains"]]
    for domain in app["redirect_domains"]:
        if problem := domain_problem(domain):
            wrong(f"redirect_domains: {problem}")
        elif domain in app["domains"]:
            wrong(f"redirect_domains: '{domain}' is one of its domains, and would lead to itself")
    app["redirect_domains"] = [str(domain) for domain in app["redirect_domains"]]


def _url_hint(url: str) -> str:
    """What is wrong with a path that looks like one."""
    if not url.startswith("/") or not url.endswith("/"):
        return ""
    return (
        "; of letters, digits and . _ ~ - of ASCII: a browser asks for others percent-encoded, and nginx decodes them"
    )


def _complete_options(app: App, wrong: Wrong) -> None:
    """What nginx does for it otherwise than for others."""
    app["site"], sound = filled(app["site"], OPTIONS["site"]["options"], wrong, "site")
    longest = app["site"].get("read_timeout") if sound else None
    for key in ("read_timeout", "websocket_timeout") if sound else ():
        if app["site"][key] is not None and not 1 <= app["site"][key] <= 86400:
            wrong(f"site.{key} must be between 1 and 86400")
    if sound:
        _check_edge(app, wrong)
    if app["drain_timeout"] is None:
        # An answer that may take long outlives a deploy.
        app["drain_timeout"] = max(DRAIN, longest or 0)
    app["site"]["read_timeout"] = longest or READ
    title = app["site"].get("title") if sound else None
    if title is not None and not is_title(title):
        wrong(f"site.title must be a line of at most {MOST} characters")
    app["site"]["title"] = title or app["name"]
    internal = app["site"]["internal"] if sound else {}
    # Where the uploads of each would be found by visitors; nobody finds them there either.
    public = {
        f"{app['media_url']}{str(directory).rstrip('/')}/": str(directory).rstrip("/")
        for directory in internal.values()
    }
    for url, directory in internal.items():
        where = "site.internal"
        if not is_form(URL, url):
            wrong(f"{where}: '{url}' must be a path that begins and ends with '/', and more than that")
        elif url in (app["static_url"], app["media_url"]):
            wrong(f"{where}: '{url}' is where visitors find files that are for all")
        elif app["media_url"] and public.get(url, str(directory).rstrip("/")) != str(directory).rstrip("/"):
            wrong(f"{where}: '{url}' is where the uploads in '{public[url]}' lie, which are internal too")
        if not is_form(DIRECTORY, directory):
            wrong(f"{where}.{url} must be a directory of the application's uploads, such as private")


def _check_edge(app: App, wrong: Wrong) -> None:
    """What stands in front of it, as the role nginx has it."""
    site, health = app["site"], (app["health_path"] or "/").partition("?")[0]
    files = [url for url in (app["static_url"], app["media_url"], *site["internal"]) if url]
    problems = limits.limit_problems(site["rate_limits"], "site.rate_limits")
    problems += limits.connection_problems(site["connection_limit"], "site.connection_limit")
    problems += protect.protect_problems(site["protect"], health, "site.protect")
    if site["protect"]:
        problems += [f"site.protect: {problem}" for problem in protect.health_problems(health)]
    problems += headers.site_header_problems(site["headers"], "site.headers")
    problems += headers.pass_problems(site["pass_headers"], "site.pass_headers")
    problems += reach.proxy_problems(site["trusted_proxies"], "site.trusted_proxies")
    problems += locations.location_problems(site["locations"], [str(url) for url in files], where="site.locations")
    problems += [
        f"site.locations.{path}: is where a deploy asks whether the application answers (health_path)"
        for path in site["locations"]
        if path == health or (str(path).endswith("/") and path != "/" and health.startswith(path))
    ]
    for problem in problems:
        wrong(problem)


def _complete_health(app: App, wrong: Wrong) -> None:
    # A path of the user's own must answer 2xx or 3xx; without one, any answer but a server error counts.
    app["health_strict"] = app["health_path"] is not None
    app["health_path"] = app["health_path"] or "/"
    if not HEALTH_PATH.fullmatch(app["health_path"]):
        written = (
            "" if app["health_path"].isascii() else f": {quote(app['health_path'], SAFE, errors='replace')} is the same"
        )
        wrong(f"health_path must begin with '/' and hold no white space and no characters but those of ASCII{written}")


def _complete_certificate(app: App, wrong: Wrong) -> None:
    app["certificate"], sound = filled(app["certificate"], OPTIONS["certificate"]["options"], wrong, "certificate")
    if sound and app["certificate"]["type"] and not KIND.fullmatch(app["certificate"]["type"]):
        wrong("certificate.type must be acme, self_signed or provided")
    if sound and app["certificate"]["type"] == "provided":
        for key in ("certificate", "key"):
            if not app["certificate"][key]:
                wrong(f"certificate.{key} is required for certificate.type provided")
