# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application meets nginx: the public site of web servers, the backend site that other hosts' web servers ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.headers import CLIENT_HEADERS
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.paths import same
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.protect import health_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring import certificates
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.topology import Topology

# Where Django asks for a password, and how often one client may answer: an office is one client.
LOGINS = ("accounts/login/", "admin/login/")
LOGIN_RATE = {"rate": "20r/m", "methods": ["POST"]}
# What of an application's site is the web server's in front, and what goes for the sites of both.
FRONT = ("connection_limit", "protect", "locations", "trusted_proxies", "extra")
BOTH = ("websocket_timeout", "headers", "pass_headers")

BOOT = "/etc/systemd/system/multi-user.target.wants"  # what systemd starts at boot


def origins(topology: Topology, app: App) -> dict[str, str]:
    """What the environment of a Django application says of its public addresses."""
    if app["framework"] != "django" or not topology.web:
        return {}
    port = "" if topology.https_port == 443 else f":{topology.https_port}"
    return {"CSRF_TRUSTED_ORIGINS": ",".join(f"https://{domain}{port}" for domain in app["domains"])}


def way(topology: Topology, app: App) -> dict[str, Any]:
    """The way to an application through nginx on its own host, by which a deploy asks for it."""
    if not (topology.is_web and topology.is_app):
        return {}
    return {"port": topology.https_port, "http_port": topology.http_port, "domain": app["domains"][0]}


def peers(topology: Topology) -> list[str]:
    """The other web servers, one of which may be asked for what an authority wants to see of this one."""
    return [topology.endpoint(host, topology.http_port) for host in topology.remote_webs] if topology.is_web else []


def sites(topology: Topology, app: App) -> list[dict[str, Any]]:
    """The public site where this is a web server; the backend site where other hosts are the web servers."""
    files = {
        "static": [_static(topology, app)] if app["static_url"] else [],
        "media": _media(app),
    }
    common = {
        "domains": app["domains"],
        "client_max_body_size": app["client_max_body_size"],
        "read_timeout": app["site"]["read_timeout"],
        **_said(app, BOTH),
        "title": app["site"]["title"],
        # Of the live release, sealed as its code is.
        "pages": f"{app['root']}/live/public/errors/" if topology.is_app and app["static_url"] else None,
    }
    local = [f"unix:{app['root']}/live/socket"]
    # It is gone while the application is stopped (state).
    here = {"enabled_by": f"{BOOT}/{app['name']}.service"} if topology.is_app else {}
    found = []
    if topology.is_web:
        found.append(
            {
                "name": app["name"],
                **common,
                **_front(app),
                **_place(app),
                "upstream": [
                    *(local if topology.is_app else []),
                    *(topology.endpoint(host, app["port"]) for host in topology.remote_apps),
                ],
                **here,
                # Without the application here, its files are served by the backend sites.
                **(files if topology.is_app else _static_of_backends(topology, app)),
            }
        )
    if topology.is_app and topology.remote_webs:
        found.append(
            {
                "name": f"{app['name']}_backend",
                **common,
                "listen": topology.endpoint(topology.host, app["port"]),
                "trusted_proxies": [str(topology.address(host)) for host in topology.remote_webs],
                "upstream": local,
                **here,
                **files,
                "static": [_static(topology, app, backend=True)] if app["static_url"] else [],
            }
        )
    return found


def _place(app: App) -> dict[str, Any]:
    """Whether it has its domains for itself: their certificate and HSTS are for one site to say."""
    path = {"path": app["path"]} if app["root_path"] else {}
    if app["under"]:
        return {**path, "under": app["under"]}
    return {**path, "certificate": certificates.files(app), "hsts": app["hsts_decision"] or False}


def _front(app: App) -> dict[str, Any]:
    """What stands between visitors and the application."""
    front = _said(app, FRONT)
    if app["redirect_domains"]:
        front["redirect_domains"] = app["redirect_domains"]
    # What a monitor asks, where the application has a path for that.
    path = app["health_path"].partition("?")[0]
    if app["health_strict"] and ("protect" in front or not health_problems(path)):
        front["health_path"] = path
    said = {same(path): path for path in app["site"]["rate_limits"]}
    asks = app["framework"] == "django" and not _behind_unknown(app)
    logins = [f"{app['path']}{login}" for login in LOGINS] if asks else []
    limits: dict[str, Any] = {path: LOGIN_RATE for path in logins if same(path) not in said}
    limits |= {path: limit for path, limit in app["site"]["rate_limits"].items() if limit is not None}
    return front | ({"rate_limits": limits} if limits else {})


def _behind_unknown(app: App) -> bool:
    """Whether visitors come through a proxy that nginx does not know of: it would take them all for one client."""
    passed = {name.lower() for name in app["site"]["pass_headers"]}
    return not app["proxies"] and not passed.isdisjoint(CLIENT_HEADERS)


def _said(app: App, keys: Iterable[str]) -> dict[str, Any]:
    """What an application says of its site; the rest is as the role nginx has it."""
    return {key: app["site"][key] for key in keys if app["site"][key] not in (None, "", [], {})}


def _media(app: App) -> list[dict[str, Any]]:
    """Uploads, but for those that the application alone hands out, under their own URL and below that of the others."""
    root, url = f"{app['root']}/media/", app["media_url"]
    inner = {place: f"{directory.rstrip('/')}/" for place, directory in app["site"]["internal"].items()}
    internal = inner | ({f"{url}{directory}": directory for directory in inner.values()} if url else {})
    return ([{"url": url, "path": root}] if url else []) + [
        {"url": place, "path": f"{root}{directory}", "internal": True} for place, directory in internal.items()
    ]


def _static(topology: Topology, app: App, backend: bool = False) -> dict[str, Any]:
    """The live release's files, those of older ones behind them, then those of a host that has switched before this one."""
    ask = {} if backend or not topology.remote_apps else {"ask_upstream": True}
    return {
        "url": app["static_url"], "path": f"{app['root']}/live/public/", "fallback": f"{app['root']}/static/", **ask
    }  # fmt: skip


def _static_of_backends(topology: Topology, app: App) -> dict[str, Any]:
    """Where there are several, each is asked for a file that another one lacks: they switch one after the other."""
    several = app["static_url"] and len(topology.remote_apps) > 1
    return {"static": [{"url": app["static_url"], "ask_upstream": True}]} if several else {}
