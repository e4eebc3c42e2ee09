"""Whether a name on a host is somebody else's; what systemd and D-Bus make of it is molecule/walls'."""

from __future__ import annotations

import grp
import pwd
from types import SimpleNamespace

import pytest
from ansible_collections.vivarium.server.plugins.filter.asgi_apps import asgi_apps
from ansible_collections.vivarium.server.plugins.filter.asgi_files import asgi_names
from ansible_collections.vivarium.server.plugins.filter.wiring import wiring_applications
from ansible_collections.vivarium.server.plugins.module_utils._asgi import names

OURS = "# Written by the role vivarium.server.asgi.\n"
APP = {
    "name": "shop",
    "source": {"path": "."},
    "application": "shop:app",
    "framework": "none",
    "domains": ["shop.example.com"],
    "processes": {"worker": {"command": "true"}},
    "timers": {"tick": {"command": "true", "on_calendar": "daily"}},
}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that is a directory, and its accounts."""
    places = {name: tmp_path / name for name in ("etc", "run", "usr", "dbus")}
    for place in places.values():
        place.mkdir()
    monkeypatch.setattr(names, "OWN_UNITS", str(places["etc"]))
    monkeypatch.setattr(names, "UNIT_PLACES", tuple(str(places[name]) for name in ("etc", "run", "usr")))
    monkeypatch.setattr(names, "BUS_PLACES", (str(places["dbus"]),))
    monkeypatch.setattr(names, "DIRECTORIES", (f"{tmp_path}/srv-{{}}",))
    monkeypatch.setattr(names, "NGINX_OWN", str(tmp_path / "nginx"))
    monkeypatch.setattr(names, "SITES", (f"{tmp_path}/site-{{}}",))
    users, groups = {}, {}
    monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
    monkeypatch.setattr(grp, "getgrnam", groups.__getitem__)

    def ask(wanted=None):
        return names.taken({"shop": wanted or asgi_names(asgi_apps([APP]))["shop"]})

    def account(home="/var/lib/asgi-shop", uid=990, group=990):
        users["shop"] = SimpleNamespace(pw_dir=home, pw_uid=uid, pw_gid=990)
        groups["shop"] = SimpleNamespace(gr_gid=group)

    return SimpleNamespace(path=tmp_path, ask=ask, account=account, users=users, groups=groups, **places)


def test_an_empty_host_has_no_objections(host):
    assert host.ask() == []


def test_what_the_role_has_written_is_its_own(host):
    host.account()
    for unit in asgi_apps([APP])[0]["units"]:
        (host.etc / unit).write_text(OURS)
    (host.path / "srv-shop").mkdir()
    assert host.ask() == []


def test_units_from_before_they_said_whose_they_are(host):
    """Those of an application whose account is the role's."""
    (host.etc / "shop.service").write_text("ConditionPathExists=/srv/shop/live\n")
    assert "a unit" in host.ask()[0]
    host.account()
    assert host.ask() == []
    # A unit of a timer always said so.
    (host.etc / "shop-tick.timer").write_text("# of /srv/shop/\n")
    assert "shop-tick.timer" in host.ask()[0]


@pytest.mark.parametrize("place", ["etc", "run", "usr"])
@pytest.mark.parametrize(
    "unit",
    [
        "shop.service", "shop.socket", "shop.timer", "shop.path", "shop@.service", "shop@x.service", "shop-drain@.service",
        "shop-worker@.service", "shop-worker@.socket", "shop-tick.service", "shop-tick.timer", "shop-tick.path",
    ],
)  # fmt: skip
def test_a_unit_of_somebody_is_seen_wherever_it_lies(host, place, unit):
    host.account()
    (host.path / place / unit).write_text("[Unit]\n")
    (sentence,) = host.ask()
    assert f"a unit {host.path}/{place}/{unit}" in sentence and "Nothing was changed" in sentence


def test_a_unit_below_ours_is_somebodys_all_the_same(host):
    """The package's service does not run any more since ours has its name."""
    host.account()
    (host.etc / "shop.service").write_text(OURS)
    (host.usr / "shop.service").write_text("[Unit]\n")
    assert f"a unit {host.usr}/shop.service" in host.ask()[0]


@pytest.mark.parametrize("target", ["/dev/null", "other.service", "shop-real.service"])
def test_a_link_is_not_ours(host, target):
    """A unit that was masked, or an alias; even one of a file that says it is ours."""
    host.account()
    (host.etc / "shop-real.service").write_text(OURS)
    (host.etc / "shop.service").symlink_to(target)
    assert f"a unit {host.etc}/shop.service" in host.ask()[0]


@pytest.mark.parametrize(
    "unit",
    ["shopping.service", "shop.slice", "shop.target", "shop-other.service", "shop.service.d", "workshop@.service"],
)
def test_other_names_are_nobodys_business(host, unit):
    (host.usr / unit).write_text("[Unit]\n")
    assert host.ask() == []


def test_a_pipe_or_a_directory_in_the_place_of_a_unit_is_not_waited_for(host):
    import os

    os.mkfifo(host.etc / "shop.service")
    (host.etc / "shop@.service").mkdir()
    (sentence,) = host.ask()
    assert "shop.service" in sentence and "shop@.service" in sentence


def test_what_dbus_starts(host):
    (host.dbus / "org.example.Shop.service").write_bytes(b"[D-BUS Service]\nSystemdService=shop.service\n\xff")
    assert "a D-Bus service" in host.ask()[0]
    (host.dbus / "org.example.Shop.service").write_text("SystemdService=shopping.service\n")
    assert host.ask() == []


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ({"home": "/home/shop"}, "a user shop (home /home/shop)"),
        ({"uid": 0}, "a user shop"),
        ({"group": 42}, "a group shop"),
    ],
)
def test_an_account_of_somebody(host, account, expected):
    host.account(**account)
    assert expected in host.ask()[0]


def test_a_group_alone_is_somebodys(host):
    """systemd-sysusers would take it for the application's own."""
    host.groups["shop"] = SimpleNamespace(gr_gid=42)
    assert "a group shop" in host.ask()[0]


def test_a_directory_is_kept_and_what_to_type_told(host):
    (host.path / "srv-shop").symlink_to("/nowhere")
    (sentence,) = host.ask()
    assert f"(mv {host.path}/srv-shop {host.path}/srv-shop.before)" in sentence
    host.account()
    assert host.ask() == []


def test_a_program(host):
    program = host.path / "shop-manage"
    program.write_text("#!/bin/sh\n")
    wanted = {"programs": [str(program)]}
    assert f"a program {program}" in host.ask(wanted)[0]
    program.write_text("exec /usr/local/lib/asgi/shop-run live\n")
    assert host.ask(wanted) == []


def test_a_site(host):
    (host.path / "site-shop").touch()
    assert f"(mv {host.path}/site-shop /root/)" in host.ask({"sites": ["shop"]})[0]
    # From then on the configuration is the role nginx's own, and a file of the name as well.
    (host.path / "nginx").touch()
    assert host.ask({"sites": ["shop"]}) == []


def test_a_host_is_asked_for_what_it_would_have():
    assert set(wiring_applications([APP], ["app_servers"])["shop"]) == {"account", "units", "programs", "sites"}
    assert wiring_applications([APP], ["web_servers"]) == {"shop": {"sites": ["shop", "shop_backend"]}}
    assert wiring_applications([APP], ["db_servers"]) == {"shop": {"sites": []}}
    # Its mistakes are told by the check that follows.
    assert wiring_applications([APP | {"name": "No name"}], ["app_servers"]) == {}
    assert wiring_applications("shop", ["app_servers"]) == {}
