# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Derives what each role needs on one host from the applications and the inventory groups."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import ipaddress
import re
from urllib.parse import quote

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.vivarium.server.plugins.filter.asgi_files import asgi_names
from ansible_collections.vivarium.server.plugins.filter.postgresql import RESERVE
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.complete import asgi_apps
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.names import NAME, asgi_removable
from ansible_collections.vivarium.server.plugins.plugin_utils.argument_specs import options_of

SOCKET_DIRECTORY = "/var/run/postgresql"  # where Debian's PostgreSQL and its clients meet
LOOPBACK = "127.0.0.1"
# What libpq reads, and asyncpg; those that say together whose database it is.
LIBPQ = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "name"}
TOGETHER = ("PGHOST", "PGHOSTADDR", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")
CERTIFICATES = "/etc/ssl/vivarium"
BOOT = "/etc/systemd/system/multi-user.target.wants"  # what systemd starts at boot
POOL_SIZE = 4  # of vivarium_settings, and of psycopg's pool itself
COMMANDS = 2  # that run beside the processes of a host: a migration, somebody's manage.py
# What people call a group of web servers; an inventory without any says so with an empty group.
LIKE_WEB_SERVERS = re.compile(r"(web|www|nginx|front|proxy|proxies|lb|load).*")
MOST_NAMES = 20  # of groups or hosts in a message


def wiring(
    apps,
    host,
    groups,
    hostvars,
    https_port=443,
    http_port=80,
    version=None,
    required=False,
    remove="",
    purge="",
    skip="",
):
    """Return the inputs of every role on one host."""
    if required and not apps:
        raise AnsibleFilterError(
            f"asgi_apps has no application on {host}, so there is nothing to do. It belongs into group_vars/all of the inventory"
        )
    if not apps:
        Display().warning("asgi_apps is empty or not set: no application is set up by this run.")
    inputs = _Wiring(host, groups, hostvars, int(https_port), int(http_port), _listed(skip)).derive(apps, version)
    return inputs | _removals(asgi_removable(remove, apps), asgi_removable(purge, apps, "asgi_purge"))


def _removals(remove, purge):
    """What goes with the applications of -e asgi_remove and -e asgi_purge."""
    return {
        "certificates_remove": remove,
        "nginx_remove_sites": [name + kind for name in remove for kind in ("", "_backend")],
        "postgresql_remove_databases": remove,
        "postgresql_purge_databases": purge,
        "postgresql_backup_purge": purge,
    }


def _speaks_postgresql(app):
    """Whether an application has a database of the inventory's, or one elsewhere."""
    environment = {**app["public_env"], **app["secret_env"]}
    return app["database"] or str(environment.get("DATABASE_URL", "")).startswith("postgres")


def _listed(value):
    """The words of a list that a command line may give as one text."""
    words = value if isinstance(value, list) else str(value or "").split(",")
    return [word for word in (str(each).strip() for each in words) if word]


def wiring_without(pattern, skip="", groups=None):
    """Return the pattern for the hosts of a play without those of -e skip_unreachable."""
    # An inventory may do without a group; Ansible would warn of its name.
    names = [name for name in pattern.split(":") if groups is None or name in groups]
    return ":".join([*(names or ["all", "!all"]), *(f"!{host}" for host in _listed(skip))])


def wiring_skipped(skip):
    """What is said at the end of the hosts that were left out."""
    return [
        f"{host} was left out (skip_unreachable) and is as it was. Once it is back, the same run without that brings it along"
        for host in _listed(skip)
    ]


def _check_skipped(skipped, groups):
    unknown = [host for host in skipped if host not in groups.get("all", [])]
    if unknown:
        raise AnsibleFilterError(
            f"Nothing was done: skip_unreachable names {_some(unknown)}, and the inventory has no such host. It takes names of"
            " hosts, with commas between them"
        )
    databases = [host for host in skipped if host in groups.get("db_servers", [])]
    if databases:
        raise AnsibleFilterError(
            f"Nothing was done: skip_unreachable names {_some(databases)}, a database server, and no application goes live"
            " without its database. What is live goes on as it is; bring that host back first"
        )


def wiring_hosts(names, groups, reached, also="", skip=""):
    """Return the pattern for the hosts of a play; an error where it would match none, which Ansible takes for a success."""
    names, others = names.split(":"), also.split(":") if also else []
    pattern = wiring_without(":".join([*names, *others]), skip, groups)
    # Nobody runs anything then, often without an inventory.
    if any(context.CLIARGS.get(each) for each in ("syntax", "listhosts", "listtasks", "listtags")):
        return pattern
    ours = {host for name in names for host in groups.get(name, [])}
    if not ours:
        raise AnsibleFilterError(
            f"Nothing was done: the inventory has no host in {_either(names)}, and this playbook is for no other."
            f" {_found(groups)} Name the hosts there, or put a group of yours into it:"
            f" {names[0]}: {{children: {{YOUR_GROUP: {{}}}}}}"
        )
    skipped = _listed(skip)
    _check_skipped(skipped, groups)
    if ours and not ours - set(skipped):
        raise AnsibleFilterError(
            f"Nothing was done: skip_unreachable leaves no host of {_either(names)}, and this playbook is for no other"
        )
    if not ours & set(reached) - set(skipped):
        raise AnsibleFilterError(
            f"Nothing was done: of the hosts of --limit '{context.CLIARGS.get('subset')}' none is in {_either(names)}, and this"
            f" playbook is for no other. Those that are: {_some(sorted(ours))}"
        )
    return pattern


def _found(groups):
    """The groups of an inventory, for people."""
    own = [f"{name} ({_count(hosts)})" for name, hosts in groups.items() if name not in ("all", "ungrouped")]
    loose = groups.get("ungrouped", [])
    own += [f"{_count(loose)} in no group"] if loose else []
    return f"It has {_some(own)}." if own else "It has no hosts at all (-i names it)."


def _count(hosts):
    return "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"


def _some(names):
    names = [str(name) for name in names]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _either(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _raw(hostvars, host):
    """A host's variables without their templates resolved, which would cost as much as everything else here."""
    return (hostvars.raw_get(host) if hasattr(hostvars, "raw_get") else hostvars.get(host)) or {}


@functools.cache
def database_login(application, password):
    """The role that an application logs in as: one for each password, so that a new one locks nobody out who has the one before.

    Whoever may log in to the server sees its name. It is made slowly, and gives away sixteen bits of the password at most.
    """
    name = hashlib.pbkdf2_hmac("sha256", password.encode(errors="replace"), application.encode(), 20_000).hex()
    return f"{application}-{name[:4]}"


def wiring_names(apps):
    """Return the names of the applications for people to read, whatever else is wrong with them."""
    entries = apps if isinstance(apps, list) else []
    # Said before the first task, in the process that Ansible forks for each task. Otherwise every one of those looks for garbage
    # in all that was loaded until now: a tenth of a run without changes.
    gc.freeze()
    return ", ".join(str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry)


def wiring_argument_spec(roles):
    """Return the options of the roles of this collection, as validate_argument_spec takes them."""
    options = {}
    for role in roles:
        options |= options_of(role)
    return options


def wiring_applications(apps, groups, version=None):
    """Return what the applications are called on a host of these groups; nothing of a description with mistakes."""
    try:
        names = asgi_names(asgi_apps(apps, version=version))
    except AnsibleFilterError:
        return {}
    return {
        name: {
            **(wanted if "app_servers" in groups else {}),
            "sites": [name, f"{name}_backend"] if {"web_servers", "app_servers"} & set(groups) else [],
        }
        for name, wanted in names.items()
    }


def wiring_left(applications, sites, databases, kept=()):
    """Sentences on what is on a host and not in the inventory: applications, files of sites, databases, data put aside."""
    found = {}
    for name in applications:
        found.setdefault(name, []).append("application")
    for path in sites:
        site = path.rpartition("/")[2].removesuffix(".conf")
        application = site.removesuffix("_backend")
        found.setdefault(application if application in found else site, []).append(f"site {site}")
    for name in databases:
        found.setdefault(name, []).append("database")
    return [
        f"{name} is not in the inventory and goes on as it is ({', '.join(things)}). "
        + (
            f"To take it away and keep its data: -e asgi_remove={name} with the playbook site"
            if NAME.fullmatch(name)
            else f"To take it away: nginx_remove_sites: [{name}]"
        )
        for name, things in found.items()
    ] + [f"Kept of what was taken away, until -e asgi_purge=NAME: {', '.join(kept)}"] * bool(kept)


def _identities(apps):
    """What two hosts must agree on: the rest of a description may hold what differs from host to host."""
    return [
        (app.get("name"), list(app.get("domains") or []), app.get("port")) if isinstance(app, dict) else app
        for app in (apps if isinstance(apps, list) else [])
    ]


class _Wiring:
    def __init__(self, host, groups, hostvars, https_port, http_port, skipped=()):
        self.host, self.groups = host, groups
        self.web, self.app, self.db = (list(groups.get(f"{kind}_servers", [])) for kind in ("web", "app", "db"))
        self.hostvars = hostvars
        self.https_port = https_port
        self.http_port = http_port
        self.skipped = skipped

    def derive(self, apps, version):
        self.check_lists(apps)
        self.check_groups(apps)
        plain = asgi_apps(apps, version=version)
        asgi_derived = {app["name"]: self.derived(app) for app in plain}
        apps = asgi_apps(apps, asgi_derived, version)
        with_database = [app for app in apps if app["database"]]
        if with_database and not self.db:
            raise AnsibleFilterError(
                f"asgi_apps: {with_database[0]['name']} has a database, but the inventory group db_servers is empty"
                f" (set the application's 'database: false' if it needs none). {_found(self.groups)}"
            )
        if with_database and len(self.db) > 1:
            raise AnsibleFilterError(
                f"the inventory group db_servers has {len(self.db)} hosts ({', '.join(self.db)}): it must be one, which holds"
                " the databases of all applications. Servers that each hold everything of their own are an inventory each: run"
                " the playbook with -i inventories/one, then with -i inventories/two"
            )
        return {
            "asgi_derived": asgi_derived,
            "nginx_sites": [site for app in apps for site in self.sites(app)],
            "certificates_requests": [self.certificate(app) for app in apps if self.host in self.web],
            "postgresql_users": [user for app in with_database for user in self.users(app)],
            "postgresql_required_users": [name for app in with_database for name in self.required_users(app)],
            "postgresql_max_connections": self.max_connections(with_database),
            "postgresql_databases": [
                {"name": app["name"], "owner": app["name"], "extensions": app["database_extensions"]}
                for app in with_database
            ],
            "postgresql_access": [entry for app in with_database for entry in self.access(app)],
            "postgresql_listen_addresses": self.listen_addresses(with_database),
            # Every database there is, so that none leaves its backups because it left the inventory.
            "postgresql_backup_databases": [],
            "postgresql_backup_port": self.database_port(),
            "python_libraries": ["libpq5"] if any(_speaks_postgresql(app) for app in apps) else [],
        }

    def check_lists(self, apps):
        """Each host derives its part from the whole list: what one has and another has not would be taken for removed there."""
        hosts = list(dict.fromkeys([*self.app, *self.web, *self.db]))
        if not hosts or self.host not in hosts or not self.hostvars:
            return
        own = _raw(self.hostvars, self.host).get("asgi_apps")
        # The first asks all, the others the first: a fleet does not ask each other.
        same = all(
            own is other or own == other
            for other in (
                _raw(self.hostvars, host).get("asgi_apps")
                for host in (hosts[1:] if self.host == hosts[0] else hosts[:1])
            )
        )
        # One text may stand for a list of each host's own.
        if same and isinstance(own, str) and self.host != hosts[0]:
            same = _identities(self.hostvars[hosts[0]]["asgi_apps"]) == _identities(apps)
        if same:
            return
        lists = {host: _raw(self.hostvars, host).get("asgi_apps") for host in hosts}
        said = {
            host: wiring_names(value) or ("a list of its own" if value else "none") for host, value in lists.items()
        }
        raise AnsibleFilterError(
            "asgi_apps is not the same on all hosts of web_servers, app_servers and db_servers ("
            + _some(f"{host}: {value}" for host, value in said.items())
            + "). Each host derives its sites, databases and access from the whole list, so nothing was changed. Put the list"
            " into group_vars/all. Servers with applications of their own are an inventory each"
        )

    def check_groups(self, apps):
        if not apps:
            return
        if not self.app:
            raise AnsibleFilterError(
                "no host would run the applications of asgi_apps: the inventory group app_servers is empty."
                f" {_found(self.groups)}"
            )
        others = [name for name, hosts in self.groups.items() if hosts and LIKE_WEB_SERVERS.fullmatch(name.lower())]
        if "web_servers" not in self.groups and others:
            raise AnsibleFilterError(
                "no host would show the applications of asgi_apps to visitors: the inventory has no group web_servers, but"
                f" {_some(others)}. Put that group into ours (web_servers: {{children: {{{others[0]}: {{}}}}}}), or say with an"
                " empty one that there is none (web_servers: {})"
            )

    @property
    def remote_apps(self):
        return [host for host in self.app if host != self.host]

    @property
    def remote_webs(self):
        return [host for host in self.web if host != self.host]

    def address(self, host):
        """The IP address at which the other hosts of the inventory reach this one."""
        address = self.hostvars[host].get("vivarium_address") or self.own_address(host)
        if not address and host in self.skipped:
            address = self.address_of_skipped(host)
        if not address:
            raise AnsibleFilterError(
                f"the address of host '{host}' is not known: it does not answer, or --limit leaves it out, and the inventory does"
                " not say vivarium_address for it. Say it for every host: runs then go on for the others while one is down, and"
                f" -e skip_unreachable={host} leaves it out of a run until it is back"
            )
        try:
            # What follows a '%' in an IPv6 address may be any text.
            return ipaddress.ip_address(str(address).replace("%", " "))
        except ValueError:
            # nginx and PostgreSQL resolve a name when they start, and nginx refuses to start when it cannot.
            raise AnsibleFilterError(f"vivarium_address of host '{host}' must be an IP address, not a name") from None

    def own_address(self, host):
        """The address that a host which answered has itself."""
        return ((self.hostvars[host].get("ansible_facts") or {}).get("default_ipv4") or {}).get("address")

    def address_of_skipped(self, host):
        """The one that the controller knows it by, where all hosts that answered have no other: it may be a gateway's."""
        known = {each: self.own_address(each) for each in [*self.web, *self.app, *self.db]}
        known = {each: address for each, address in known.items() if address}
        address = str(self.hostvars[host].get("ansible_host") or host)
        if known and all(self.hostvars[each].get("ansible_host", each) == known[each] for each in known):
            with contextlib.suppress(ValueError):
                return str(ipaddress.ip_address(address.replace("%", " ")))
        raise AnsibleFilterError(
            f"the address of host '{host}', which skip_unreachable leaves out, is not known, and the other hosts have to know it:"
            " say vivarium_address for it in the inventory"
        )

    def endpoint(self, host, port):
        address = self.address(host)
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

    def derived(self, app):
        """What the topology adds to an application: its database, its public origins, the way to it through nginx."""
        derived = {"env": {}, "secrets": {}, "verify": {}, "hosts": max(1, len(self.app))}
        port = "" if self.https_port == 443 else f":{self.https_port}"
        if app["framework"] == "django" and self.web:
            derived["env"] = {
                "CSRF_TRUSTED_ORIGINS": ",".join(f"https://{domain}{port}" for domain in app["domains"]),
            }
        if app["database"] and self.host in self.app and self.db:
            for name, value, secret in self.database_variables(app):
                derived["secrets" if secret else "env"][name] = value
        if self.host in self.web and self.host in self.app:
            derived["verify"] = {"port": self.https_port, "http_port": self.http_port, "domain": app["domains"][0]}
        return derived

    def database_variables(self, app):
        """What the environment says of an application's database: name, value, whether it is secret; the inventory's own win."""
        place = self.database_place(app)
        parts = {
            **{key: (place[key], key == "password") for key in ("host", "port", "user", "password", "name")},
            "url": (self.database_url(place, "postgresql"), True),
        }
        variables = {"DATABASE_URL": parts["url"]}
        own = app["env"].keys() | (app["secrets"].keys() - {"DATABASE_PASSWORD"})
        # They say together where something is: beside another server's, ours would send it our password.
        if not own & set(TOGETHER):
            variables |= {name: parts[part] for name, part in LIBPQ.items()}
        if place["sslmode"]:
            variables["PGSSLMODE"] = (place["sslmode"], False)
        for name, what in app["database_variables"].items():
            variables[name] = parts.get(what) or (self.database_url(place, what), True)
        return [(name, value, secret) for name, (value, secret) in variables.items() if name not in own]

    def database_place(self, app):
        """Where an application's database is, and who it logs in as."""
        password = str(app["secrets"].get("DATABASE_PASSWORD", ""))
        here = self.host in self.db
        own_host = LOOPBACK if app["database_tcp"] else SOCKET_DIRECTORY
        return {
            "host": own_host if here else str(self.address(self.db[0])),
            "port": str(self.database_port()),
            "user": database_login(app["name"], password),
            "password": password,
            "name": app["name"],
            "sslmode": "" if here else "require",
        }

    def database_url(self, place, scheme):
        """An address of which no part but the password may hold a '%', which configparser (Alembic) takes for its own.

        It says nothing of TLS, which drivers call differently: PGSSLMODE does.
        """
        login = f"{place['user']}:{quote(place['password'], safe='')}"
        host, port, name = place["host"], place["port"], place["name"]
        if host.startswith("/"):
            # SQLAlchemy's drivers take the host of the query, and pydantic asks for one before the slash as well.
            before = "localhost" if "+" in scheme else ""
            return f"{scheme}://{login}@{before}/{name}?host={host}" + (f"&port={port}" if port != "5432" else "")
        return f"{scheme}://{login}@{f'[{host}]' if ':' in host else host}:{port}/{name}"

    def database_port(self):
        """The port of the database server, which its own variables may say."""
        if not self.db or "postgresql_port" not in _raw(self.hostvars, self.db[0]):
            return 5432
        port = str(self.hostvars[self.db[0]]["postgresql_port"])
        if not re.fullmatch("[1-9][0-9]{0,4}", port):
            raise AnsibleFilterError(f"postgresql_port of {self.db[0]} must be a number of 1 to 65535")
        return int(port)

    def users(self, app):
        """The role that owns the database, and the one that the application logs in as with its password."""
        password = app["secrets"].get("DATABASE_PASSWORD")
        owner = {"name": app["name"], "login": False}
        hosts = [_raw(self.hostvars, host).get("wiring_host", {}).get("database_roles") for host in self.app]
        known = [None if roles is None else roles.get(app["name"], []) for roles in hosts]
        # What kept releases log in as goes on. Where one of the hosts did not say, nothing is closed.
        if None not in known:
            owner["logins"] = sorted({name for names in known for name in names})
        login = {
            "name": database_login(app["name"], str(password or "")),
            "password": password,
            "member_of": app["name"],
            "connections": self.connections(app),
        }
        return [owner, login]

    def required_users(self, app):
        """The roles without which its release could not log in; an inventory may say another address."""
        if "DATABASE_URL" in {*app["env"], *app["secrets"]}:
            return []
        return [app["name"], database_login(app["name"], str(app["secrets"].get("DATABASE_PASSWORD", "")))]

    def connections(self, app):
        """How many connections an application may need: the pools of all hosts, twice while a release gives way to the next."""
        try:
            pool = max(1, int(str(app["env"].get("DATABASE_POOL_SIZE", POOL_SIZE))))
        except ValueError:
            pool = POOL_SIZE
        pools = 2 * (app["workers"] + len(app["processes"])) * pool
        return max(1, len(self.app)) * (pools + len(app["timers"]) + COMMANDS)

    def max_connections(self, apps):
        """What the server has to take: PostgreSQL's default while that will do; by fifties, since a change needs a restart."""
        needed = sum(self.connections(app) for app in apps) + RESERVE
        return max(100, -(-needed // 50) * 50)

    def uses_loopback(self, app):
        """Whether an application speaks TCP to the database server on its own host."""
        return app["database_tcp"] and self.host in self.db and self.host in self.app

    def listen_addresses(self, apps):
        """Where the database server answers TCP."""
        if not apps or self.host not in self.db:
            return []
        loopback = [LOOPBACK] * any(self.uses_loopback(app) for app in apps)
        return loopback + ([str(self.address(self.host))] if self.remote_apps else [])

    def access(self, app):
        """Who may connect to the application's database: its own role, from the application servers alone."""
        entry = {"database": app["name"], "user": app["name"], "method": "scram-sha-256"}
        if self.host not in self.db:
            return []
        local = [{"type": "local", **entry}]
        if self.uses_loopback(app):
            local.append({"type": "host", **entry, "address": f"{LOOPBACK}/32"})
        return local + [
            {"type": "hostssl", **entry, "address": str(ipaddress.ip_network(self.address(host)))}
            for host in self.remote_apps
        ]

    def sites(self, app):
        """The public site where this is a web server; the backend site where other hosts are the web servers."""
        files = {
            "static": [self.static(app)] if app["static_url"] else [],
            "media": self.media(app),
        }
        common = {
            "domains": app["domains"],
            "client_max_body_size": app["client_max_body_size"],
            "read_timeout": app["site"]["read_timeout"],
        }
        local = [f"unix:{app['root']}/live/socket"]
        # It is gone while the application is stopped (state).
        here = {"enabled_by": f"{BOOT}/{app['name']}.service"} if self.host in self.app else {}
        sites = []
        if self.host in self.web:
            certificate = f"{CERTIFICATES}/{app['name']}"
            sites.append(
                {
                    "name": app["name"],
                    **common,
                    "certificate": {"certificate": f"{certificate}/fullchain.pem", "key": f"{certificate}/privkey.pem"},
                    "hsts": app["hsts_decision"] or False,
                    "upstream": [
                        *(local if self.host in self.app else []),
                        *(self.endpoint(host, app["port"]) for host in self.remote_apps),
                    ],
                    **here,
                    # Without the application here, its files are served by the backend sites.
                    **(files if self.host in self.app else self.static_of_backends(app)),
                }
            )
        if self.host in self.app and self.remote_webs:
            sites.append(
                {
                    "name": f"{app['name']}_backend",
                    **common,
                    "listen": self.endpoint(self.host, app["port"]),
                    "trusted_proxies": [str(self.address(host)) for host in self.remote_webs],
                    "upstream": local,
                    **here,
                    **files,
                    "static": [self.static(app, backend=True)] if app["static_url"] else [],
                }
            )
        return sites

    def media(self, app):
        """Uploads, but for those that the application alone hands out, under their own URL and below that of the others."""
        root, url = f"{app['root']}/media/", app["media_url"]
        inner = {place: f"{directory.rstrip('/')}/" for place, directory in app["site"]["internal"].items()}
        internal = inner | ({f"{url}{directory}": directory for directory in inner.values()} if url else {})
        return ([{"url": url, "path": root}] if url else []) + [
            {"url": place, "path": f"{root}{directory}", "internal": True} for place, directory in internal.items()
        ]

    def static(self, app, backend=False):
        """The live release's files, those of older ones behind them, then those of a host that has switched before this one."""
        ask = {} if backend or not self.remote_apps else {"ask_upstream": True}
        return {
            "url": app["static_url"], "path": f"{app['root']}/live/public/", "fallback": f"{app['root']}/static/", **ask
        }  # fmt: skip

    def static_of_backends(self, app):
        """Where there are several, each is asked for a file that another one lacks: they switch one after the other."""
        several = app["static_url"] and len(self.remote_apps) > 1
        return {"static": [{"url": app["static_url"], "ask_upstream": True}]} if several else {}

    def certificate(self, app):
        return {"name": app["name"], "domains": app["domains"], **{k: v for k, v in app["certificate"].items() if v}}


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        return {
            "wiring": wiring,
            "wiring_left": wiring_left,
            "wiring_names": wiring_names,
            "wiring_applications": wiring_applications,
            "wiring_argument_spec": wiring_argument_spec,
            "wiring_hosts": wiring_hosts,
            "wiring_skipped": wiring_skipped,
            "wiring_without": wiring_without,
        }
