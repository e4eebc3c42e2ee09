# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application is called, and what is called after it: users, units, directories. Applications by their names."""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App, Wrong

# Users, units, databases and directories are named after the application: the narrowest of their rules counts
# (useradd's 32 characters, less the room that names of processes need; a PostgreSQL name without quotes).
NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")
# Names that come to a host with packages, perhaps later, or that PostgreSQL keeps for itself. Of what it has already the host
# itself is asked (asgi_names).
RESERVED = frozenset(
    """
    apache2 asgi avahi bluetooth certbot chrony containerd cron cups dnsmasq docker etcd exim4 fail2ban fwupd haproxy keepalived
    libvirt lighttpd logrotate lxd mariadb memcached mysql nftables nginx nscd ntp ntpsec patroni pgbouncer podman polkit polkitd
    postfix postgres postgresql prometheus public rabbitmq redis root rsync rsyslog smartd snapd ssh sshd sudo sysstat template0
    template1 ufw upower user valkey varnish
    """.split()
)
# The first application's, where none is said.
FIRST_PORT = 8100


def complete(app: App, index: int, wrong: Wrong) -> None:
    """Its name, and the port of its backend site."""
    if not NAME.fullmatch(app["name"]) or app["name"] in RESERVED:
        wrong(
            "name must be 1 to 24 lower-case letters, digits and underscores, begin with a letter, and be no system name"
        )
    app["port"] = app["port"] if app["port"] is not None else FIRST_PORT + index
    if not 1 <= app["port"] <= 65535:
        wrong("port must be between 1 and 65535")


def add_names(app: App) -> None:
    """What is named after it on a host."""
    app["units"] = [
        f"{app['name']}.service",
        f"{app['name']}@.socket",
        *(f"{app['name']}{kind}@.service" for kind in ("", "-drain", *(f"-{process}" for process in app["processes"]))),
        *(f"{app['name']}-{timer}.{kind}" for timer in app["timers"] for kind in ("service", "timer")),
    ]
    app["timer_units"] = [f"{app['name']}-{timer}.timer" for timer in app["timers"]]
    app["user"] = app["name"]
    # Who makes releases: no name of an application has a '-'.
    app["build_user"] = f"{app['name']}-build"
    app["build_home"] = f"/var/cache/asgi-{app['name']}-build"
    app["root"] = f"/srv/{app['name']}"
    app["runtime"] = f"/run/asgi-{app['name']}"


def asgi_only(apps: list[App], names: str | list[str]) -> list[App]:
    """Those of the applications that are named, in a list or with commas between them; without names, all."""
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    unknown = sorted({name for name in names if name} - {app["name"] for app in apps})
    if unknown:
        raise AnsibleFilterError(f"asgi_only names {', '.join(unknown)}, which is no application of asgi_apps")
    return [app for app in apps if app["name"] in names] if any(names) else apps


def asgi_removable(names: Any, apps: Any, variable: str = "asgi_remove") -> list[str]:
    """The names of applications that are to go, given in a list or with commas between them; never one that is in asgi_apps."""
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    names = list(dict.fromkeys(name for name in names if name != ""))
    bad = [name for name in names if not isinstance(name, str) or not NAME.fullmatch(name)]
    if bad:
        raise AnsibleFilterError(f"{variable}: {bad[0]!r} is not the name of an application")
    listed = [entry.get("name") for entry in apps or [] if isinstance(entry, dict)]
    wanted = [name for name in names if name in listed]
    if wanted:
        raise AnsibleFilterError(
            f"{variable}: {', '.join(wanted)} is in asgi_apps; take it out there first. Nothing was changed"
        )
    return names
