"""What each role gets to do on one host, derived from the applications and the inventory groups."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import textwrap
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.filter.asgi_apps import asgi_apps
from ansible_collections.vivarium.server.plugins.filter.certificates import certificate_problems
from ansible_collections.vivarium.server.plugins.filter.postgresql import postgresql_problems
from ansible_collections.vivarium.server.plugins.filter.wiring import wiring, wiring_left, wiring_names, wiring_without
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.headers import CLIENT_HEADERS
from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.site import nginx_site_problems
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.sites import LOGINS
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import extra_problems

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSWORD = "p@ss:w/rd?#&%20 'ü\"$"
SHOP = {
    "name": "shop",
    "source": {"path": "../shop"},
    "application": "shop.asgi:application",
    "settings": "shop.settings",
    "domains": ["shop.example.com", "www.shop.example.com"],
    "secrets": {"SECRET_KEY": "hunter2", "DATABASE_PASSWORD": PASSWORD},
}
PLAIN = {
    "name": "api",
    "source": {"path": "../api"},
    "application": "api:app",
    "framework": "none",
    "domains": ["api.example.com"],
}
ADDRESSES = {"web": "10.0.0.1", "app1": "10.0.0.2", "app2": "10.0.0.3", "db": "10.0.0.4"}
HOSTVARS = {name: {"ansible_facts": {"default_ipv4": {"address": address}}} for name, address in ADDRESSES.items()}
ONE = {"web_servers": ["app1"], "app_servers": ["app1"], "db_servers": ["app1"]}
SPLIT = {"web_servers": ["web"], "app_servers": ["app1"], "db_servers": ["db"]}
WIDE = {"web_servers": ["web"], "app_servers": ["app1", "app2"], "db_servers": ["db"]}


# The live release's, and those of earlier ones behind them.
FILES = {"path": "/srv/shop/live/public/", "fallback": "/srv/shop/static/"}


def derive(host, groups, *apps, **options):
    return wiring(list(apps) or [SHOP], host, groups, options.pop("hostvars", HOSTVARS), **options)


@pytest.mark.parametrize(
    ("groups", "apps", "words"),
    [
        ({"web_servers": ["web"], "db_servers": ["web"]}, [SHOP], "the inventory group app_servers is empty"),
        ({"webservers": ["web"], "app_servers": ["app1"]}, [PLAIN], "has no group web_servers, but webservers"),
        ({"www": ["app1"], "app_servers": ["app1"]}, [PLAIN], "web_servers: {children: {www: {}}}"),
        (
            {**ONE, "db_servers": [], "databases": ["db"]},
            [SHOP],
            "db_servers is empty (set the application's 'database: false'",
        ),
        ({**ONE, "db_servers": [], "databases": ["db"]}, [SHOP], "databases (1 host)"),
        ({**ONE, "db_servers": ["app1", "db"]}, [SHOP], "are an inventory each"),
    ],
)
def test_groups_that_leave_an_application_without_a_host_are_refused(groups, apps, words):
    with pytest.raises(AnsibleFilterError) as error:
        derive("app1", groups, *apps)
    assert words in str(error.value)


def test_an_inventory_without_web_servers_says_so():
    groups = {"webservers": ["web"], "app_servers": ["app1"], "web_servers": []}
    assert derive("app1", groups, PLAIN)["nginx_sites"] == []


def test_a_list_that_is_not_the_same_on_every_host_is_refused_on_each_that_can_tell():
    def refused(host, **lists):
        hostvars = {
            name: {**HOSTVARS[name], **({"asgi_apps": lists[name]} if name in lists else {})} for name in HOSTVARS
        }
        try:
            derive(host, WIDE, *(lists.get(host) or [SHOP]), hostvars=hostvars)
        except AnsibleFilterError as error:
            return str(error)
        return ""

    assert refused("app1") == refused("web", **{name: [SHOP] for name in ADDRESSES}) == ""
    only_apps = {"app1": [SHOP], "app2": [SHOP]}
    # The first host is asked by the others and asks them all: one of them at least stops the run.
    for host in ("app1", "web", "db"):
        said = refused(host, **only_apps)
        assert "(app1: shop, app2: shop, web: none, db: none)" in said and "group_vars/all" in said, host
    assert "app2: shop, api" in refused("app1", **{**{name: [SHOP] for name in ADDRESSES}, "app2": [SHOP, PLAIN]})
    # One text, another list behind it: a template of each host's own.
    texts = dict.fromkeys(ADDRESSES, "{{ applications }}")
    hostvars = {name: {**HOSTVARS[name], "asgi_apps": text} for name, text in texts.items()}

    class Templated(dict):
        def raw_get(self, host):
            return hostvars[host]

    templated = Templated({name: {**HOSTVARS[name], "asgi_apps": [SHOP]} for name in ADDRESSES})
    assert derive("web", WIDE, SHOP, hostvars=templated)["nginx_sites"]
    with pytest.raises(AnsibleFilterError, match="a list of its own"):
        derive("web", WIDE, PLAIN, hostvars=templated)


def test_a_playbook_for_applications_needs_one():
    with pytest.raises(AnsibleFilterError, match="asgi_apps has no application on app1, so there is nothing to do"):
        wiring([], "app1", ONE, HOSTVARS, required=True)
    assert wiring([], "app1", ONE, HOSTVARS)["nginx_sites"] == []


PLAYBOOKS = ("site", "deploy", "rollback", "status", "backup", "restore", "manage")
OWN_GROUPS = """
all:
  vars: {ansible_connection: local}
  hosts: {loose: {}}
  children: {webservers: {hosts: {one: {}}}, databases: {hosts: {two: {}, three: {}}}}
"""
OURS = """
all:
  vars: {ansible_connection: local}
  hosts: {loose: {}}
  children: {web_servers: {hosts: {web: {}}}, app_servers: {hosts: {app: {}}}, db_servers: {hosts: {db: {}}}}
"""


LOCAL = "local, vivarium_address: 10.0.0.1, ansible_become: false, ansible_python_interpreter: '{{ ansible_playbook_python }}'}"


def run_playbook(name, *options, inventory=None, place=None):
    if inventory:
        (place / "hosts.yml").write_text(inventory)
        options = ("-i", str(place / "hosts.yml"), *options)
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command = ["ansible-playbook", str(ROOT / f"playbooks/{name}.yml"), *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    return run.returncode, " ".join((run.stdout + run.stderr).split())


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_run_that_reaches_no_host_of_ours_fails_and_names_the_groups(name, tmp_path):
    """Ansible ends such a run as a success."""
    code, output = run_playbook(name, inventory=OWN_GROUPS, place=tmp_path)
    assert code != 0 and "Nothing was done: the inventory has no host in " in output, output
    assert "webservers (1 host), databases (2 hosts), 1 host in no group" in output
    expected = {"site": "web_servers, app_servers or db_servers", "backup": "db_servers", "restore": "db_servers"}
    assert f"no host in {expected.get(name, 'app_servers')}, and" in output
    code, output = run_playbook(name, "--limit", "loose", inventory=OURS, place=tmp_path)
    assert code != 0 and "of the hosts of --limit 'loose' none is in " in output, output


def test_a_run_without_an_inventory_fails_and_a_look_at_the_syntax_does_not(tmp_path):
    code, output = run_playbook("site", "-i", f"{tmp_path},")
    assert code != 0 and "Nothing was done" in output
    code, output = run_playbook("site", "--syntax-check")
    assert code == 0, output


def test_a_deploy_for_other_hosts_than_application_servers_fails(tmp_path):
    code, output = run_playbook("deploy", "--limit", "web", inventory=OURS, place=tmp_path)
    assert code != 0 and "none is in app_servers" in output and "Those that are: app" in output


@pytest.mark.parametrize("name", ["deploy", "rollback"])
def test_applications_that_nobody_named_are_an_error(name, tmp_path):
    inventory = OURS.replace("local}", LOCAL)
    code, output = run_playbook(name, "--check", inventory=inventory, place=tmp_path)
    assert code != 0 and "asgi_apps has no application on app, so there is nothing to do" in output, output


def test_one_host_that_is_down_holds_nobody_up_where_the_addresses_are_known(tmp_path):
    app = {**PLAIN, "source": {"path": str(tmp_path)}}
    down = "{app: {}, gone: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}}"
    unknown = OURS.replace("{app: {}}", down).replace("local}", LOCAL.replace("vivarium_address: 10.0.0.1, ", ""))
    known = OURS.replace("{app: {}}", down).replace("local}", LOCAL)
    applications = ("--check", "-e", json.dumps({"asgi_apps": [app]}))
    code, output = run_playbook("rollback", *applications, inventory=unknown, place=tmp_path)
    assert code != 0 and "the address of host 'gone' is not known: it does not answer" in output, output
    assert "Say it for every host" in output and "TASK [vivarium.server.asgi" not in output
    code, output = run_playbook("rollback", *applications, inventory=known, place=tmp_path)
    assert code != 0 and "the address of host" not in output and "gone : ok=0 changed=0 unreachable=1" in output
    assert "TASK [vivarium.server.asgi : rollback" in output


TWO_DOWN = """
all:
  vars: {ansible_connection: local, ansible_become: false, ansible_python_interpreter: '{{ ansible_playbook_python }}'}
  children:
    web_servers: {hosts: {web: WEB}}
    app_servers: {hosts: {app: {vivarium_address: 10.0.0.2}, gone: GONE, lost: GONE}}
    db_servers: {hosts: {db: {vivarium_address: 10.0.0.4}}}
"""
DOWN = (
    "{ansible_connection: ssh, ansible_host: 192.0.2.7, ansible_port: 1, ansible_ssh_common_args: -oConnectTimeout=1%s}"
)


def skip(hosts, place, name="site", known=", vivarium_address: 192.0.2.7", web="{vivarium_address: 10.0.0.1}"):
    """A run that ends at the inventory's checks or, when it gets past them, at an application's source, which is not there."""
    app = {**PLAIN, "source": {"path": str(place / "no-such-directory")}}
    variables = json.dumps({"asgi_apps": [app], "skip_unreachable": hosts})
    inventory = TWO_DOWN.replace("GONE", DOWN % known).replace("WEB", web)
    return run_playbook(name, "--check", "-e", variables, inventory=inventory, place=place)[1]


@pytest.mark.parametrize("name", ["site", "deploy"])
def test_hosts_that_are_left_out_by_name_are_not_asked(name, tmp_path):
    said = skip("gone, lost", tmp_path, name)
    assert "unreachable=1" not in said and "[gone]" not in said and "[lost]" not in said, said
    assert "no-such-directory" in said, said  # it got as far as the application


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ("gnoe,db,x", "skip_unreachable names gnoe, x, and the inventory has no such host"),
        ("app_servers", "skip_unreachable names app_servers, and the inventory has no such host"),
        ("db", "skip_unreachable names db, a database server, and no application goes live without its database"),
        ("app,gone,lost,web,db", "skip_unreachable names db, a database server"),
    ],
)
def test_what_cannot_be_left_out_is_refused(hosts, words, tmp_path):
    said = skip(hosts, tmp_path)
    assert words in said and "TASK [" not in said, said


def test_a_deploy_that_leaves_all_out_is_refused(tmp_path):
    said = skip("app,gone,lost", tmp_path, "deploy")
    assert "Nothing was done: skip_unreachable leaves no host of app_servers" in said and "TASK [" not in said, said


def test_the_others_have_to_know_the_address_of_a_host_that_is_left_out(tmp_path):
    """Where the hosts have other addresses than those at which the controller reaches them, it cannot know."""
    said = skip("gone,lost", tmp_path, "deploy", known="")
    assert "of host 'gone', which skip_unreachable leaves out, is not known" in said, said
    assert "say vivarium_address for it in the inventory" in said, said


def test_the_address_of_a_host_that_is_left_out_may_be_the_controllers():
    facts = {
        name: {**each, "ansible_host": each["ansible_facts"]["default_ipv4"]["address"]}
        for name, each in HOSTVARS.items()
    }

    def upstream(**more):
        hostvars = facts | {"app1": {"ansible_host": "192.0.2.7"}} | more
        return wiring([SHOP], "web", SPLIT, hostvars, skip="app1")["nginx_sites"][0]["upstream"]

    assert upstream() == ["192.0.2.7:8100"]
    assert upstream(app1={"ansible_host": "fd00::7"}) == ["[fd00::7]:8100"]
    for other in (
        {"app1": {"ansible_host": "app1.example.com"}},
        {"web": {**facts["web"], "ansible_host": "203.0.113.9"}},
    ):
        with pytest.raises(AnsibleFilterError, match="'app1', which skip_unreachable leaves out, is not known"):
            upstream(**other)


@pytest.mark.parametrize("name", ["site", "deploy", "rollback"])
def test_applications_of_one_group_alone_stop_the_run_on_every_host(name, tmp_path):
    """Ansible goes on with the hosts that did not fail."""
    app = {**PLAIN, "source": {"path": str(tmp_path)}}
    inventory = OURS.replace("local}", LOCAL)
    inventory = inventory.replace("{app: {}}", "{app: {asgi_apps: " + json.dumps([app]) + "}}")
    code, output = run_playbook(name, "--check", inventory=inventory, place=tmp_path)
    assert code != 0 and "(app: api, web: none, db: none)" in output, output
    tasks = [part.split("]")[0] for part in output.split("TASK [")[1:]]
    assert tasks[-1] == "Derive the inputs of the roles", tasks


def database_url(derived):
    return urlsplit(derived["asgi_derived"]["shop"]["secrets"]["DATABASE_URL"])


def test_one_host_is_reached_by_sockets_alone():
    got = derive("app1", ONE)
    url = database_url(got)
    assert (url.scheme, url.hostname, url.path, url.query) == (
        "postgresql",
        None,
        "/shop",
        "host=/var/run/postgresql",
    )
    assert got["postgresql_listen_addresses"] == []
    assert got["postgresql_access"] == [
        {"type": "local", "database": "shop", "user": "shop", "method": "scram-sha-256"}
    ]  # fmt: skip
    (site,) = got["nginx_sites"]
    assert site["upstream"] == ["unix:/srv/shop/live/socket"] and "listen" not in site
    assert site["static"] == [{"url": "/static/", **FILES}]
    assert site["media"] == [{"url": "/media/", "path": "/srv/shop/media/"}]
    assert got["asgi_derived"]["shop"]["verify"] == {"port": 443, "http_port": 80, "domain": "shop.example.com"}
    assert got["certificates_requests"] == [{"name": "shop", "domains": SHOP["domains"]}]
    # Two workers with pools of four, twice; the timer; a migration and a command.
    assert got["postgresql_users"] == [
        {"name": "shop", "login": False},
        {"name": url.username, "password": PASSWORD, "member_of": "shop", "connections": 19},
    ]
    assert got["postgresql_max_connections"] == 100
    assert got["postgresql_databases"] == [{"name": "shop", "owner": "shop", "extensions": []}]
    assert got["postgresql_backup_databases"] == []


def test_one_host_needs_no_facts():
    assert derive("app1", ONE, hostvars={"app1": {}}) == derive("app1", ONE)


def test_split_web_server():
    got = derive("web", SPLIT)
    (site,) = got["nginx_sites"]
    assert site["upstream"] == ["10.0.0.2:8100"] and "static" not in site and "media" not in site
    assert site["certificate"]["key"] == "/etc/ssl/vivarium/shop/privkey.pem"
    assert got["postgresql_access"] == got["postgresql_listen_addresses"] == []
    assert got["asgi_derived"]["shop"]["verify"] == {} and got["asgi_derived"]["shop"]["secrets"] == {}


def test_split_application_server():
    got = derive("app1", SPLIT)
    (site,) = got["nginx_sites"]
    assert site["listen"] == "10.0.0.2:8100" and site["trusted_proxies"] == ["10.0.0.1"]
    assert site["upstream"] == ["unix:/srv/shop/live/socket"] and site["static"] and "certificate" not in site
    assert got["certificates_requests"] == [] and got["asgi_derived"]["shop"]["verify"] == {}
    url = database_url(got)
    # SQLAlchemy hands a sslmode on to asyncpg, which refuses it.
    assert (url.hostname, url.port, url.query) == ("10.0.0.4", 5432, "")
    assert got["asgi_derived"]["shop"]["env"]["PGSSLMODE"] == "require"


def test_split_database_server():
    got = derive("db", SPLIT)
    assert got["postgresql_listen_addresses"] == ["10.0.0.4"] and got["nginx_sites"] == []
    assert [(entry["type"], entry.get("address")) for entry in got["postgresql_access"]] == [
        ("local", None), ("hostssl", "10.0.0.2/32"),
    ]  # fmt: skip


def test_the_server_takes_what_all_pools_may_open():
    big = {**SHOP, "workers": 8, "env": {"DATABASE_POOL_SIZE": "6"}, "processes": {"worker": {"command": "celery"}}}
    got = derive("db", WIDE, big)
    assert got["postgresql_users"][1]["connections"] == 2 * (2 * 9 * 6 + 3)
    assert got["postgresql_max_connections"] == 250


def test_two_application_servers():
    assert derive("web", WIDE)["nginx_sites"][0]["upstream"] == ["10.0.0.2:8100", "10.0.0.3:8100"]
    assert [entry.get("address") for entry in derive("db", WIDE)["postgresql_access"]] == [
        None,
        "10.0.0.2/32",
        "10.0.0.3/32",
    ]
    assert database_url(derive("app1", WIDE)) == database_url(derive("app2", WIDE))


def test_a_wildcard_reaches_whoever_serves_or_believes_a_name():
    domains = ["blogs.example.com", "*.blogs.example.com"]
    got = derive("app1", ONE, SHOP | {"domains": domains}, https_port=8443)
    assert got["nginx_sites"][0]["domains"] == got["certificates_requests"][0]["domains"] == domains
    derived = got["asgi_derived"]["shop"]
    assert derived["env"]["CSRF_TRUSTED_ORIGINS"] == "https://blogs.example.com:8443,https://*.blogs.example.com:8443"
    # Nobody can ask for a wildcard.
    assert derived["verify"]["domain"] == "blogs.example.com"
    assert nginx_site_problems(got["nginx_sites"]) == certificate_problems(got["certificates_requests"]) == []


def test_what_nginx_does_for_one_application_reaches_each_of_its_sites():
    app = SHOP | {"site": {"read_timeout": 300, "internal": {"/protected/": "private"}}}
    sites = (
        derive("web", SPLIT, app)["nginx_sites"]
        + derive("app1", SPLIT, app)["nginx_sites"]
        + derive("app1", ONE, app)["nginx_sites"]
    )
    assert [site["read_timeout"] for site in sites] == [300] * 3
    private = {"path": "/srv/shop/media/private/", "internal": True}
    # Nor do visitors get them below the URL of the other uploads.
    media = [
        {"url": "/media/", "path": "/srv/shop/media/"}, {"url": "/protected/", **private}, {"url": "/media/private/", **private},
    ]  # fmt: skip
    assert [site.get("media") for site in sites] == [None, media, media]
    (alone,) = derive("app1", ONE, app | {"media_url": ""})["nginx_sites"]
    assert alone["media"] == [{"url": "/protected/", **private}]
    assert nginx_site_problems(sites[2:]) == nginx_site_problems([alone]) == []


def test_what_stands_in_front_is_the_web_servers_and_headers_are_those_of_both():
    hash_ = "$6$salt$" + "a" * 86
    front = {
        "connection_limit": 0,
        "protect": {"/admin/": {"users": {"ann": hash_}}},
        "locations": {"/old/": {"redirect": "/new/"}},
        "trusted_proxies": ["192.0.2.0/24"],
        "extra": "add_header X-A b;",
    }
    both = {"websocket_timeout": 60, "headers": {"X-Frame-Options": None}, "pass_headers": ["CF-Connecting-IP"]}
    app = SHOP | {"site": front | both, "redirect_domains": ["shop.example.net"], "health_path": "/up/?full"}
    public, backend = derive("web", SPLIT, app)["nginx_sites"] + derive("app1", SPLIT, app)["nginx_sites"]
    assert {key: public[key] for key in front} == front and {key: public[key] for key in both} == both
    assert public["redirect_domains"] == ["shop.example.net"] and public["health_path"] == "/up/"
    assert {key: backend.get(key) for key in both} == both
    assert not set(backend) & {*front, "redirect_domains", "health_path", "rate_limits"} - {"trusted_proxies"}
    assert nginx_site_problems([public]) == nginx_site_problems([backend]) == []
    (request,) = derive("web", SPLIT, app)["certificates_requests"]
    assert request["domains"] == [*SHOP["domains"], "shop.example.net"]


def examples_of(page):
    """The blocks of a page that are YAML."""
    for block in re.findall(r"(?m)(?:^ {4,}.*\n|^\n(?= {4}))+", (ROOT / "docs" / page).read_text()):
        text = re.sub(r'"\{\{ vault_\w+ \}\}"', f'"{"$6$salt$" + "a" * 86}"', textwrap.dedent(block))
        example = yaml.safe_load(text) if re.match(r"\w+:", text.strip()) else None
        if isinstance(example, dict):
            yield example


def test_what_the_page_on_sites_says_is_taken():
    examples = list(examples_of("site.md"))
    whole, *parts = [example.get("asgi_apps", example) for example in examples]
    assert len(parts) >= 6 and {key for part in parts for key in part} <= set(OPTIONS["site"]["options"])
    for site in (whole[0]["site"], *parts):
        app = SHOP | {"health_path": "/up/", "redirect_domains": ["shop.example.net"], "site": site}
        assert nginx_site_problems(derive("app1", ONE, app)["nginx_sites"]) == []


def test_django_asks_for_passwords_at_a_rate_that_the_inventory_may_change():
    def limits(app, **site):
        return derive("app1", ONE, app | {"site": site})["nginx_sites"][0].get("rate_limits")

    login, admin = "/accounts/login/", "/admin/login/"
    assert set(limits(SHOP)) == {login, admin} and limits(SHOP)[login] == {"rate": "20r/m", "methods": ["POST"]}
    assert limits(PLAIN) is None
    assert limits(SHOP, rate_limits={login: "5r/m"})[login] == "5r/m"
    assert set(limits(SHOP, rate_limits={"/accounts/login": "5r/m", "/": "9r/s"})) == {admin, "/accounts/login", "/"}
    assert limits(SHOP, rate_limits={login: None, "/admin/login": None}) is None


def test_logins_are_not_counted_where_all_visitors_would_be_one():
    def limits(**site):
        return derive("app1", ONE, SHOP | {"site": site})["nginx_sites"][0].get("rate_limits")

    seen = {"pass_headers": ["CF-Connecting-IP"]}
    assert limits(**seen) is None
    assert limits(**seen, rate_limits={"/admin/login/": "5r/m"}) == {"/admin/login/": "5r/m"}
    assert limits(**seen, trusted_proxies=["192.0.2.0/24"]) == limits(pass_headers=["Remote-User"])
    assert set(limits(pass_headers=["Remote-User"])) == {f"/{login}" for login in LOGINS}


def test_headers_that_carry_a_clients_address_are_those_of_the_role():
    text = (ROOT / "roles/nginx/vars/main.yml").read_text()
    block = text.partition("# the client's address\n")[2].partition("#")[0]
    assert [name.lower() for name in yaml.safe_load(block)] == list(CLIENT_HEADERS)


BELOW = SHOP | {"name": "blog", "path": "/blog/", "database": False, "secrets": {"SECRET_KEY": "hunter2"}}


def test_two_applications_under_one_domain_share_its_certificate():
    derived = derive("app1", ONE, SHOP, BELOW)
    top, below = derived["nginx_sites"]
    assert [request["name"] for request in derived["certificates_requests"]] == ["shop"]
    assert (below["path"], below["under"]) == ("/blog/", "shop") and not set(below) & {"certificate", "hsts"}
    assert not set(top) & {"path", "under"} and top["certificate"]
    assert below["static"][0]["url"] == "/blog/static/" and below["media"][0]["url"] == "/blog/media/"
    assert set(below["rate_limits"]) == {"/blog/accounts/login/", "/blog/admin/login/"}
    assert nginx_site_problems([top, below]) == []
    way = derived["asgi_derived"]["blog"]["verify"]
    assert way == derived["asgi_derived"]["shop"]["verify"]
    # Whoever has the domain: the one that is there.
    alone = derive("app1", ONE, BELOW)
    assert [request["name"] for request in alone["certificates_requests"]] == ["blog"]
    assert alone["nginx_sites"][0]["path"] == "/blog/" and alone["nginx_sites"][0]["certificate"]
    assert nginx_site_problems(alone["nginx_sites"]) == []


def test_below_a_path_on_several_hosts():
    """The web server puts them together; a backend site is one application's, and gets whole paths."""
    top, below = derive("web", WIDE, SHOP, BELOW)["nginx_sites"]
    assert below["upstream"] == ["10.0.0.2:8101", "10.0.0.3:8101"] and below["under"] == "shop"
    assert below["static"] == [{"url": "/blog/static/", "ask_upstream": True}]
    backends = derive("app1", WIDE, SHOP, BELOW)["nginx_sites"]
    assert [site["name"] for site in backends] == ["shop_backend", "blog_backend"]
    assert not any(set(site) & {"path", "under"} for site in backends)
    assert nginx_site_problems([top, below]) == nginx_site_problems(backends) == []


def test_what_the_page_on_a_second_application_says_is_taken():
    page = (ROOT / "docs/second-application.md").read_text()
    (block,) = [block for block in re.findall(r"(?m)(?:^ {4,}.*\n|^\n(?= {4}))+", page) if "path: /api/" in block]
    listed = yaml.safe_load(textwrap.dedent(block))["asgi_apps"]
    apps = [{**(SHOP if "settings" in app else PLAIN), "secrets": SHOP["secrets"], **app} for app in listed]
    assert nginx_site_problems(derive("app1", ONE, *apps)["nginx_sites"]) == []


def test_a_domain_leads_to_one_application_only():
    other = PLAIN | {"name": "blog", "domains": ["blog.example.com"], "redirect_domains": ["shop.example.com"]}
    with pytest.raises(AnsibleFilterError, match=r"the domain 'shop\.example\.com' is used more than once"):
        wiring([SHOP, other], "app1", ONE, HOSTVARS)


def test_static_files_while_the_hosts_of_a_fleet_switch_one_after_the_other():
    wide, own = derive("web", WIDE)["nginx_sites"][0], {**SHOP, "static_url": "/own/files/"}
    assert wide["static"] == [{"url": "/static/", "ask_upstream": True}]
    assert derive("web", SPLIT)["nginx_sites"][0].get("static") is None
    assert derive("app1", WIDE)["nginx_sites"][0]["static"] == [{"url": "/static/", **FILES}]
    both = {"web_servers": ["app1", "app2"], "app_servers": ["app1", "app2"], "db_servers": ["app1"]}
    public, backend = derive("app1", both, own)["nginx_sites"]
    assert public["static"] == [{"url": "/own/files/", **FILES, "ask_upstream": True}]
    assert backend["static"] == [{"url": "/own/files/", **FILES}]
    for site in derive("web", WIDE, PLAIN)["nginx_sites"] + derive("app1", both, PLAIN)["nginx_sites"]:
        assert not site.get("static")


def test_a_web_server_that_is_one_of_two_application_servers():
    groups = {"web_servers": ["app1"], "app_servers": ["app1", "app2"], "db_servers": ["app1"]}
    public, *others = derive("app1", groups)["nginx_sites"]
    # Where the application runs, nginx knows when it is off on purpose.
    unit = "/etc/systemd/system/multi-user.target.wants/shop.service"
    assert public["enabled_by"] == derive("app2", groups)["nginx_sites"][0]["enabled_by"] == unit
    assert "enabled_by" not in derive("web", WIDE)["nginx_sites"][0]
    assert public["upstream"] == ["unix:/srv/shop/live/socket", "10.0.0.3:8100"] and others == []
    (backend,) = derive("app2", groups)["nginx_sites"]
    assert backend["listen"] == "10.0.0.3:8100" and backend["trusted_proxies"] == ["10.0.0.2"]
    assert database_url(derive("app2", groups)).hostname == "10.0.0.2"
    assert database_url(derive("app1", groups)).hostname is None


def test_many_applications_have_ports_of_their_own():
    got = derive("web", SPLIT, SHOP, PLAIN)
    assert [site["upstream"] for site in got["nginx_sites"]] == [["10.0.0.2:8100"], ["10.0.0.2:8101"]]
    assert got["postgresql_backup_databases"] == []


@pytest.mark.parametrize("groups", [ONE, SPLIT])
def test_a_password_arrives_whatever_is_in_it(groups):
    url = database_url(derive("app1", groups))
    assert unquote(url.password) == PASSWORD and re.fullmatch("shop-[0-9a-f]{4}", url.username) and url.path == "/shop"


def test_the_port_of_the_server_reaches_the_applications_and_the_backup():
    there = {**HOSTVARS, "db": {**HOSTVARS["db"], "postgresql_port": "5433"}}
    assert database_url(derive("app1", SPLIT, hostvars=there)).port == 5433
    assert derive("db", SPLIT, hostvars=there)["postgresql_backup_port"] == 5433
    alone = {"app1": {**HOSTVARS["app1"], "postgresql_port": 5433}}
    assert "port=5433" in database_url(derive("app1", ONE, hostvars=alone)).query
    assert "port" not in database_url(derive("app1", ONE)).query
    with pytest.raises(AnsibleFilterError, match="postgresql_port of db must be a number"):
        derive("app1", SPLIT, hostvars={**there, "db": {**HOSTVARS["db"], "postgresql_port": "5433/x"}})


def test_another_password_is_another_role():
    def logins(password="one", **facts):
        shop = {**SHOP, "secrets": {**SHOP["secrets"], "DATABASE_PASSWORD": password}}
        hostvars = {name: {**HOSTVARS[name], "wiring_host": {"database_roles": roles}} for name, roles in facts.items()}
        return derive("db", WIDE, shop, hostvars={**HOSTVARS, **hostvars})["postgresql_users"]

    assert logins()[1]["name"] == logins()[1]["name"] != logins("two")[1]["name"]
    # What is not known of every application server closes nothing.
    assert "logins" not in logins(app1={"shop": ["shop-0a1b"]})[0]
    assert logins(app1={"shop": ["shop-0a1b"]}, app2={"shop": ["shop"]})[0]["logins"] == ["shop", "shop-0a1b"]
    assert logins(app1={}, app2={})[0]["logins"] == []
    assert "logins" not in logins(app1={"shop": ["shop"]}, app2={"shop": None})[0]


def variables(groups, app=SHOP, host="app1", **options):
    """What an application's environment says, and which of it is secret."""
    (complete,) = asgi_apps([app], derive(host, groups, app, **options)["asgi_derived"])
    return {**complete["public_env"], **complete["secret_env"]}, set(complete["secret_env"])


def test_what_libpq_and_asyncpg_read_of_the_environment():
    env, secret = variables(ONE)
    login = urlsplit(env["DATABASE_URL"]).username
    said = {name: value for name, value in env.items() if name.startswith("PG")}
    assert said == {
        "PGHOST": "/var/run/postgresql", "PGPORT": "5432", "PGUSER": login, "PGPASSWORD": PASSWORD, "PGDATABASE": "shop",
    }  # fmt: skip
    assert secret >= {"PGPASSWORD", "DATABASE_URL"} and "DATABASE_PASSWORD" not in env
    elsewhere, _secret = variables(SPLIT)
    assert (elsewhere["PGHOST"], elsewhere["PGSSLMODE"]) == ("10.0.0.4", "require")


@pytest.mark.parametrize("groups", [ONE, SPLIT])
@pytest.mark.parametrize("tcp", [False, True])
def test_an_address_has_a_percent_sign_in_its_password_at_most(groups, tcp):
    """The configparser of Alembic takes a '%' for its own."""
    app = SHOP | {
        "secrets": {"SECRET_KEY": "x", "DATABASE_PASSWORD": "a1B2"},
        "database": {"tcp": tcp, "variables": {"ASYNC_URL": "postgresql+asyncpg", "PLAIN_URL": "url"}},
    }
    env, _secret = variables(groups, app)
    assert env["PLAIN_URL"] == env["DATABASE_URL"] != env["ASYNC_URL"]
    assert "%" not in env["DATABASE_URL"] + env["ASYNC_URL"]


def test_an_application_says_what_its_variables_of_the_database_are_called():
    parts = {"POSTGRES_SERVER": "host", "POSTGRES_PORT": "port", "POSTGRES_DB": "name", "POSTGRES_USER": "user"}
    names = parts | {"DATABASE_PASSWORD": "password", "DATABASE_URL": "postgresql+asyncpg", "GIS_URL": "postgis"}
    env, secret = variables(ONE, SHOP | {"database": {"variables": names}})
    assert {name: env[name] for name in parts} == {
        "POSTGRES_SERVER": "/var/run/postgresql", "POSTGRES_PORT": "5432", "POSTGRES_DB": "shop", "POSTGRES_USER": env["PGUSER"],
    }  # fmt: skip
    assert env["DATABASE_PASSWORD"] == PASSWORD and secret >= {"DATABASE_PASSWORD", "DATABASE_URL", "GIS_URL"}
    assert not secret & set(parts)
    # pydantic asks for a host, SQLAlchemy's drivers take the one of the query.
    url, gis = urlsplit(env["DATABASE_URL"]), urlsplit(env["GIS_URL"])
    assert (url.scheme, url.hostname, url.query) == ("postgresql+asyncpg", "localhost", "host=/var/run/postgresql")
    assert (gis.scheme, gis.hostname, gis.query) == ("postgis", None, "host=/var/run/postgresql")
    there = variables(SPLIT, SHOP | {"database": {"variables": names}})[0]["DATABASE_URL"]
    assert urlsplit(there).netloc.endswith("@10.0.0.4:5432") and not urlsplit(there).query


def test_an_application_that_speaks_tcp_to_the_server_on_its_host():
    app = SHOP | {"database": {"tcp": True}}
    got = derive("app1", ONE, app, PLAIN)
    entry = {"database": "shop", "user": "shop", "method": "scram-sha-256"}
    assert got["postgresql_access"] == [
        {"type": "local", **entry},
        {"type": "host", **entry, "address": "127.0.0.1/32"},
    ]
    assert got["postgresql_listen_addresses"] == ["127.0.0.1"]
    env, _secret = variables(ONE, app)
    assert urlsplit(env["DATABASE_URL"]).hostname == env["PGHOST"] == "127.0.0.1" and "PGSSLMODE" not in env
    # Nothing else where all speak TCP anyway.
    for host in SPLIT.values():
        assert derive(*host, SPLIT, app) == derive(*host, SPLIT)
    both = {"web_servers": ["app1"], "app_servers": ["app1", "app2"], "db_servers": ["app1"]}
    assert derive("app1", both, app)["postgresql_listen_addresses"] == ["127.0.0.1", "10.0.0.2"]


def test_what_the_inventory_says_of_a_database_wins():
    own = {"PGHOST": "10.9.9.9", "PGUSER": "me"}
    env, secret = variables(SPLIT, SHOP | {"env": own})
    # No password of ours beside somebody else's server.
    assert {name: env.get(name) for name in ("PGPASSWORD", "PGDATABASE", "PGPORT", *own)} == {
        "PGPASSWORD": None, "PGDATABASE": None, "PGPORT": None, **own,
    }  # fmt: skip
    assert env["PGSSLMODE"] == "require"
    env, secret = variables(
        SPLIT, SHOP | {"env": {"DATABASE_URL": "sqlite:///x", "PGSSLMODE": "prefer", "PGPORT": "6432"}}
    )
    assert (env["DATABASE_URL"], env["PGSSLMODE"], env["PGPORT"]) == ("sqlite:///x", "prefer", "6432")
    assert secret == {"SECRET_KEY", "PGPASSWORD"}
    env, secret = variables(ONE, SHOP | {"database": False})
    assert not [name for name in env if name.startswith(("PG", "DATABASE"))]


def test_a_database_of_the_users_own_wins():
    derived = derive("app1", ONE)["asgi_derived"]
    own = SHOP | {"secrets": SHOP["secrets"] | {"DATABASE_URL": "postgresql://elsewhere/x"}}
    assert asgi_apps([own], derived)[0]["secret_env"]["DATABASE_URL"] == "postgresql://elsewhere/x"


def test_missing_groups():
    assert derive("app1", {"app_servers": ["app1"]}, PLAIN)["nginx_sites"] == []
    with pytest.raises(AnsibleFilterError, match="app_servers is empty"):
        derive("app1", {}, PLAIN)
    assert derive("app1", ONE, hostvars=HOSTVARS)["asgi_derived"]
    assert wiring([], "app1", ONE, HOSTVARS)["nginx_sites"] == []
    with pytest.raises(AnsibleFilterError, match=r"shop has a database, but the inventory group db_servers is empty"):
        derive("app1", {"app_servers": ["app1"], "web_servers": ["app1"]})


def test_without_web_servers_nothing_is_said_of_public_origins():
    env = derive("app1", {"app_servers": ["app1"], "db_servers": ["app1"]})["asgi_derived"]["shop"]["env"]
    assert "CSRF_TRUSTED_ORIGINS" not in env


def test_more_than_one_database_server():
    groups = SPLIT | {"db_servers": ["db", "app2"]}
    with pytest.raises(AnsibleFilterError, match=r"db_servers has 2 hosts \(db, app2\)"):
        derive("db", groups)
    assert derive("db", groups, PLAIN)["postgresql_users"] == []


@pytest.mark.parametrize("variables", [{}, {"ansible_facts": {}}, {"ansible_facts": {"default_ipv4": {}}}])
def test_an_unknown_address_is_told(variables):
    with pytest.raises(AnsibleFilterError, match=r"address of host 'app1' is not known.*--limit.*vivarium_address"):
        derive("web", SPLIT, hostvars=HOSTVARS | {"app1": variables})


def test_an_address_of_the_inventory_wins():
    hostvars = HOSTVARS | {"app1": HOSTVARS["app1"] | {"vivarium_address": "192.0.2.7"}}
    assert derive("web", SPLIT, hostvars=hostvars)["nginx_sites"][0]["upstream"] == ["192.0.2.7:8100"]


def test_an_address_must_be_one():
    with pytest.raises(AnsibleFilterError, match="vivarium_address of host 'app1' must be an IP address"):
        derive("web", SPLIT, hostvars=HOSTVARS | {"app1": {"vivarium_address": "app1.example.com"}})


def test_ipv6():
    hostvars = {name: {"vivarium_address": f"fd00::{number}"} for number, name in enumerate(ADDRESSES, 1)}
    assert derive("web", SPLIT, hostvars=hostvars)["nginx_sites"][0]["upstream"] == ["[fd00::2]:8100"]
    backend = derive("app1", SPLIT, hostvars=hostvars)
    assert backend["nginx_sites"][0]["listen"] == "[fd00::2]:8100"
    assert backend["nginx_sites"][0]["trusted_proxies"] == ["fd00::1"]
    assert (database_url(backend).hostname, database_url(backend).port) == ("fd00::4", 5432)
    assert derive("db", SPLIT, hostvars=hostvars)["postgresql_access"][1]["address"] == "fd00::2/128"


def test_another_port_is_part_of_the_origin():
    derived = derive("app1", ONE, https_port="8443")["asgi_derived"]["shop"]
    assert derived["env"]["CSRF_TRUSTED_ORIGINS"] == "https://shop.example.com:8443,https://www.shop.example.com:8443"
    assert derived["verify"]["port"] == 8443


def test_a_provided_certificate_is_passed_on():
    own = SHOP | {"certificate": {"type": "provided", "certificate": "C", "key": "K"}}
    assert derive("app1", ONE, own)["certificates_requests"] == [
        {"name": "shop", "domains": SHOP["domains"], "type": "provided", "certificate": "C", "key": "K"}
    ]


def test_mistakes_in_the_applications_are_told_here_too():
    with pytest.raises(AnsibleFilterError, match="unknown key 'servr'"):
        derive("app1", ONE, SHOP | {"servr": "x"})


PLAY = """
- hosts: localhost
  gather_facts: false
  vars_files: ["%(root)s/playbooks/vars/wiring.yml"]
  vars:
    asgi_apps:
      - name: shop
        source: {path: .}
        application: m:a
        settings: m.s
        domains: [shop.example.com]
        secrets: {SECRET_KEY: "{{ vault_key }}", DATABASE_PASSWORD: !vault %(vault)s}
  tasks:
    - ansible.builtin.copy:
        content: "{{ [wiring_asgi_derived, wiring_postgresql_users, asgi_apps | vivarium.server.asgi_apps] | to_json }}"
        dest: "%(result)s"
        mode: "0600"
"""


def test_vault_values_are_read_by_a_real_run(tmp_path):
    (tmp_path / "password").write_text("x")
    environment = {**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "password")}

    def run(*command):
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    secret = json.dumps(run("ansible-vault", "encrypt_string", PASSWORD).removeprefix("!vault |").replace(" ", ""))
    (tmp_path / "play.yml").write_text(
        PLAY % {"root": ROOT, "vault": secret.replace(r'"\n', '"'), "result": tmp_path / "got"}
    )
    (tmp_path / "vault.yml").write_text("vault_key: hunter2\n")
    run("ansible-vault", "encrypt", str(tmp_path / "vault.yml"))
    groups = {name: {"hosts": {"localhost": {"ansible_connection": "local"}}} for name in ONE}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
    output = run("ansible-playbook", "-vvv", "-i", str(tmp_path / "hosts.json"), "-e", f"@{tmp_path / 'vault.yml'}",
                 str(tmp_path / "play.yml"))  # fmt: skip
    assert "ok=1" in output
    derived, users, apps = json.loads((tmp_path / "got").read_text())
    assert [user.get("password") for user in users] == [None, PASSWORD]
    assert unquote(urlsplit(derived["shop"]["secrets"]["DATABASE_URL"]).password) == PASSWORD
    assert apps[0]["secret_env"] == {"SECRET_KEY": "hunter2"}


LISTS = {
    "nginx_sites": {
        "name": "docs",
        "domains": ["docs.example.com"],
        "static": [{"url": "/docs/", "path": "/srv/docs/"}],
    },
    "certificates_requests": {"name": "docs", "domains": ["docs.example.com"]},
    "postgresql_users": {"name": "crm", "password": "hunter2"},
    "postgresql_databases": {"name": "crm"},
    "postgresql_access": {"type": "host", "database": "crm", "user": "crm", "address": "10.9.0.0/16"},
    "postgresql_listen_addresses": "10.0.0.9",
}


def lists_of_a_run(place, **inventory):
    """What the inputs of the roles are, and what their checks say, with this inventory."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [
            f"{ROOT}/playbooks/vars/wiring.yml",
            *(f"{ROOT}/roles/{role}/defaults/main.yml" for role in ("nginx", "certificates", "postgresql")),
        ],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": "{{ {"
                    + ", ".join(f"'{name}': {name}" for name in (*LISTS, "postgresql_required_users"))
                    + "} | to_json }}",
                    "dest": str(place / "got"),
                    "mode": "0600",
                }
            }
        ],
    }
    (place / "play.json").write_text(json.dumps([play]))
    groups = {name: {"hosts": {"localhost": {"ansible_connection": "local"}}} for name in ONE}
    (place / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
    (place / "all.json").write_text(json.dumps({"asgi_apps": [SHOP], **inventory}))
    command = [
        "ansible-playbook",
        "-i",
        str(place / "hosts.json"),
        "-e",
        f"@{place}/all.json",
        str(place / "play.json"),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((place / "got").read_text())


def test_an_inventory_adds_to_lists_that_are_derived(tmp_path):
    alone = lists_of_a_run(tmp_path)
    more = lists_of_a_run(tmp_path, **{f"{name}_extra": [entry] for name, entry in LISTS.items()})
    for name, entry in LISTS.items():
        assert more[name] == [*alone[name], entry] and (alone[name] or name == "postgresql_listen_addresses"), name


def test_an_inventory_that_sets_the_roles_of_the_database_lacks_none(tmp_path):
    """The roles that applications log in as are derived: a deploy would fail for them after the databases were set up."""
    inputs = {
        "postgresql_port": 5432, "postgresql_max_connections": 100, "postgresql_settings": {}, "postgresql_user_settings": {},
        "postgresql_certificate": "/a.pem", "postgresql_certificate_key": "/a.key",
    }  # fmt: skip
    got = lists_of_a_run(tmp_path)
    assert postgresql_problems({**inputs, **got}) == []
    own = {"postgresql_users": [{"name": "shop", "password": PASSWORD}]}
    said = " ".join(postgresql_problems({**inputs, **got, **lists_of_a_run(tmp_path, **own)}))
    login = got["postgresql_users"][1]["name"]
    assert (
        f"postgresql_users lacks the role '{login}'" in said
        and "postgresql_users_extra" in said
        and PASSWORD not in said
    )
    # Another address needs none of them.
    elsewhere = SHOP | {"secrets": SHOP["secrets"] | {"DATABASE_URL": "postgresql://shop@/shop"}}
    assert derive("app1", ONE, elsewhere)["postgresql_required_users"] == []


@pytest.mark.parametrize("name", LISTS)
def test_what_is_added_beside_a_list_of_the_inventorys_own_is_not_lost_silently(name):
    assert extra_problems({name: [1, 2], f"{name}_extra": [2]}, [name]) == []
    (said,) = extra_problems({name: [1, 2], f"{name}_extra": [3]}, [name])
    assert said.startswith(f"{name}_extra adds to the {name} that is derived") and "put its entries there" in said


@pytest.mark.parametrize(
    ("apps", "names"),
    [
        ([{"name": "shop"}, {"name": "blog", "server": 7}], "shop, blog"),
        ([], ""),
        (["shop", {}, {"name": 3}], "3"),
        ("shop", ""),
    ],
)
def test_names_of_applications_are_told_whatever_else_is_wrong(apps, names):
    assert wiring_names(apps) == names


def test_what_is_left_is_named_with_the_word_that_takes_it_away():
    assert wiring_left([], [], []) == []
    sites = ["/etc/nginx/sites.d/blog.conf", "/etc/nginx/sites.d/blog_backend.conf", "/etc/nginx/sites.d/by-hand.conf"]
    first, second = wiring_left(["blog"], sites, ["blog"])
    assert "blog is not in the inventory" in first and "(application, site blog, site blog_backend, database)" in first
    assert "-e asgi_remove=blog" in first
    assert "nginx_remove_sites: [by-hand]" in second


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (SHOP, ["libpq5"]),
        (PLAIN, []),
        ({**PLAIN, "secrets": {"DATABASE_URL": "postgresql://me:hunter2@db.example.com/api"}}, ["libpq5"]),
        ({**PLAIN, "secrets": {"DATABASE_URL": "mysql://me:hunter2@db.example.com/api"}}, []),
    ],
)
def test_every_host_has_what_psycopg_loads(app, expected):
    """The server's own package brings it too, to the host of the database alone."""
    for host in ("app1", "app2"):
        assert derive(host, WIDE, app)["python_libraries"] == expected


def test_a_group_that_the_inventory_does_without_is_not_asked_for():
    groups = {"all": ["app1", "app2"], "web_servers": ["app1"], "app_servers": ["app1", "app2"]}
    assert wiring_without("web_servers:db_servers", "", groups) == "web_servers"
    assert wiring_without("web_servers:app_servers", "app2", groups) == "web_servers:app_servers:!app2"
    # No host, and no word of it.
    assert wiring_without("db_servers", "app2", groups) == "all:!all:!app2"
