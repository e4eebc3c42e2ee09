"""The playbook maintenance: what it refuses, and what it leaves on a host."""

from __future__ import annotations

import os
import stat

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.vivarium.server.plugins.action.maintenance import checked
from ansible_collections.vivarium.server.plugins.module_utils._maintenance import maintenance, state
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({}, "state must be on, off or status"),
        ({"state": ""}, "state must be on, off or status"),
        ({"state": "On"}, "state must be on, off or status"),
        ({"state": ["on"]}, "state must be on, off or status"),
        ({"state": "on", "allow": "203.0.113.9,web1"}, "allow: 'web1' is not an address"),
        (
            {"state": "on", "allow": "203.0.113.0/24"},
            "allow: '203.0.113.0/24' is a network, and takes single addresses",
        ),
        ({"state": "on", "allow": "fe80::1%eth0"}, "allow: 'fe80::1%eth0' is not an address"),
        ({"state": "on", "allow": "../../etc"}, "allow: '../../etc' is a network"),
        ({"state": "on", "allow": ",".join(f"10.0.0.{last}" for last in range(101))}, "allow: at most 100 addresses"),
        ({"state": "on", "retry_after": "10m"}, "retry_after must be a number of seconds from 1 to 2592000"),
        ({"state": "on", "retry_after": 0}, "retry_after must be a number"),
        ({"state": "on", "retry_after": "٣"}, "retry_after must be a number"),
        ({"state": "on", "retry_after": "9" * 5000}, "retry_after must be a number"),
        ({"state": "on", "retry_after": True}, "retry_after must be a number"),
        ({"state": "off", "allow": "203.0.113.9"}, "allow and retry_after are for state=on, not for state=off"),
        ({"state": "status", "retry_after": 5}, "allow and retry_after are for state=on, not for state=status"),
        ({"state": "on", "allowed": "203.0.113.9"}, "unknown key allowed"),
    ],
)
def test_what_is_refused(args, problem):
    with pytest.raises(AnsibleActionFail) as error:
        checked(args)
    assert problem in str(error.value) and len(str(error.value)) < 300


def test_all_mistakes_are_told_at_once():
    with pytest.raises(AnsibleActionFail) as error:
        checked({"state": "x", "allow": "y", "retry_after": "z"})
    assert all(word in str(error.value) for word in ("state", "allow", "retry_after"))


def test_addresses_are_as_nginx_writes_them():
    words = "2001:DB8:0:0:0:0:0:1, 203.0.113.9,,2001:db8:0:1:0:0:0:1,::ffff:198.51.100.7,203.0.113.9"
    assert checked({"state": "on", "allow": words})["allow"] == [
        "198.51.100.7", "2001:db8:0:1::1", "2001:db8::1", "203.0.113.9",
    ]  # fmt: skip
    # As YAML has on and off.
    assert checked({"state": True})["state"] == "on" and checked({"state": False})["state"] == "off"
    assert checked({"state": "on"})["retry_after"] == 300


@pytest.fixture
def place(tmp_path, monkeypatch):
    place, sites = tmp_path / "maintenance", tmp_path / "sites"
    for path in (place, sites):
        path.mkdir(mode=0o755)
    for module in (maintenance, state):
        monkeypatch.setattr(module, "PLACE", place)
    monkeypatch.setattr(maintenance, "SITES", sites)
    for name in ("shop", "blog"):
        (sites / f"{name}.conf").write_text(f"default {place}/{name};\n")
    before = os.umask(0o077)
    yield place
    os.umask(before)


def play(wanted, *sites, check_mode=False, **more):
    return maintenance.main(checked({"state": wanted, "sites": sites, **more}), check_mode, False)


def told_to_go(place, *names):
    """What the playbook does once open WebSockets were told to go."""
    for name in names:
        (place / f".{name}" / state.HANG_UP).unlink()


def test_there_and_back(place):
    for check_mode in (True, False):
        done = play("on", "shop", "blog", allow="203.0.113.9", retry_after=600, check_mode=check_mode)
        assert done["changed"] and done["closed"] == ["shop", "blog"]
        assert set(state.closed()) == (set() if check_mode else {"shop", "blog"})
    # What nginx asks.
    assert (place / "shop/allow/203.0.113.9").exists() and not (place / "shop/allow/203.0.113.8").exists()
    assert (place / "shop").resolve().name.endswith("-600")
    for path in (place / ".shop", *(place / ".shop").glob("*-*-600"), place / "shop/allow"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    told_to_go(place, "shop", "blog")
    again = play("on", "shop", "blog", allow=["203.0.113.9"], retry_after="600")
    assert not again["changed"] and again["closed"] == []
    assert "shop: closed for maintenance since 20" in again["text"][0]
    assert again["text"][0].endswith("visitors get 503 and are asked back in 600 s; 203.0.113.9 passes")
    done = play("off", "shop")
    assert done["changed"] and done["text"] == ["shop: open"]
    assert not play("off", "shop")["changed"]
    assert sorted(os.listdir(place)) == [".blog", "blog"]
    assert play("status", "shop", "blog")["sites"]["shop"] is None


def test_who_passes_and_the_time_change_in_one_rename_and_since_when_does_not(place, monkeypatch):
    monkeypatch.setattr(maintenance.time, "time", lambda: 1796083200)
    play("on", "shop", allow="203.0.113.9")
    told_to_go(place, "shop")
    monkeypatch.setattr(maintenance.time, "time", lambda: 1796089999)
    done = play("on", "shop", allow="2001:db8::1", retry_after=60)
    assert done["changed"] and done["closed"] == []
    assert state.closed() == {"shop": {"since": 1796083200, "retry_after": 60, "allow": ["2001:db8::1"]}}
    assert len(os.listdir(place / ".shop")) == 1


def test_websockets_are_told_to_go_until_it_is_done(place):
    assert play("on", "shop", check_mode=True)["closed"] == ["shop"]
    assert play("on", "shop", "blog")["closed"] == ["shop", "blog"]
    # That run ended before it could do more; one with other options does it.
    again = play("on", "shop", "blog", allow="203.0.113.9")
    assert again["closed"] == ["shop", "blog"] and again["changed"]
    again = play("on", "shop", allow="203.0.113.9")
    assert again["closed"] == ["shop"] and not again["changed"]
    told_to_go(place, "shop")
    assert play("on", "shop", "blog", allow="203.0.113.9")["closed"] == ["blog"]
    assert play("status", "blog")["closed"] == play("off", "blog")["closed"] == []
    assert os.listdir(place / ".shop") == [(place / "shop").resolve().name] and not (place / ".blog").exists()


def test_who_passes_does_so_however_a_proxy_writes_the_address(place):
    play("on", "shop", allow="203.0.113.9,2001:db8::1")
    assert sorted(os.listdir(place / "shop/allow")) == ["2001:db8::1", "203.0.113.9", "::ffff:203.0.113.9"]
    assert state.closed()["shop"]["allow"] == ["2001:db8::1", "203.0.113.9"]
    assert not play("on", "shop", allow="203.0.113.9,2001:db8::1")["changed"]


def test_a_file_that_somebody_made_by_hand_closes_a_site_as_well(place):
    (place / "shop").touch()
    assert state.line_of("shop", state.state_of("shop")) == "shop: closed for maintenance; visitors get 503"
    assert play("off", "shop")["changed"] and state.closed() == {}
    (place / "shop").symlink_to("nowhere")
    assert state.closed() == {}, "nginx does not see it either"
    assert play("on", "shop")["closed"] == ["shop"]


def test_a_site_that_nginx_would_not_close_is_named(place):
    (maintenance.SITES / "blog.conf").write_text("server {}")
    for name in ("blog", "gone"):
        with pytest.raises(Failed, match=f"{name}: nginx on this host has no site of that name that can be closed"):
            play("on", "shop", name)
    assert os.listdir(place) == []
    place.chmod(0o777)
    with pytest.raises(Failed, match="must be a directory of root's"):
        play("on", "shop")
