"""What users write is data: commands arrive word by word, and names that belong to somebody else are refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from play import Play, wait_until

SCENARIO = Path(__file__).resolve().parents[1].name
HOME = "/var/lib/asgi-prey"

# Everything that systemd, a shell, printf or a template could take for more than text.
WORDS = [
    *";|&$%@+!:-\\\"'`*?~#=()<>{}[]^,./_",
    *("&&", "||", ";;", "\\;", "\\\\", "\\$", "\\n", "\\x41", "\\101", "ends in \\", "a;b", " ; ", "; +/bin/sh -c id"),
    *("$HOME", "${HOME}", "$$", "$$$", "$(id)", "`id`", "$((1+1))", "~root", "%h", "%i", "%n", "%%", "100%", "{a,b}", "[a-z]*"),
    *("-rf", "--", "--help", "@x", "+x", "!x", "!!x", ":x", "|x", "-x", "A=1", "#x", "# x", ">/tmp/x", "2>&1"),
    *("{{ 7 * 7 }}", "{% x %}"),
    *("", " ", "  two  words ", "a\ttab", "it's", '"quoted"', "ünïcödé ☃ 漢字 🐢", "x" * 3000),
]  # fmt: skip
# Writes its words down, and stays if it is told to.
WRITE = (
    "import json, os, sys, time; path = os.environ['HOME'] + '/said-' + sys.argv[1];"
    " open(path + '.new', 'w').write(json.dumps(sys.argv[3:])); os.replace(path + '.new', path); time.sleep(float(sys.argv[2]))"
)
# Commands that were more than commands once: what follows ran as root, outside of the sandbox.
ESCAPES = {
    "semicolon": "true ; +/bin/sh -c 'id >/root/escaped-semicolon'",
    "plus": "+/bin/sh -c 'id >/root/escaped-plus'",
    "bang": "!/bin/sh -c 'id >/root/escaped-bang'",
    "bangs": "!!/bin/sh -c 'id >/root/escaped-bangs'",
    "colon": ":+/bin/sh -c 'id >/root/escaped-colon'",
    "at": "@+/bin/sh sh -c 'id >/root/escaped-at'",
    "newline-sign": "true \\n ; +/bin/sh -c 'id >/root/escaped-newline-sign'",
}


def command(name, seconds, words):
    return shlex.join(["python", "-c", WRITE, name, str(seconds), *words])


def deploy(**changes):
    return Play(f"../molecule/{SCENARIO}/deploy", changes=changes)


def said(host, name):
    return json.loads(host.file(f"{HOME}/said-{name}").content_string)


@pytest.fixture(scope="module")
def commands(hosts):
    """The words of every command of an application that holds every character that could mean something."""
    for host in hosts.values():
        host.check_output(f"rm -f {HOME}/said-* /root/escaped-*")
    # Jinja is the inventory's own language.
    plain = [word for word in WORDS if "{{" not in word and "{%" not in word]
    timers = {name: {"command": escape, "on_calendar": "yearly"} for name, escape in ESCAPES.items()}
    deploy(
        prey={
            "processes": {"words": {"command": command("process", 9999, plain)}},
            "timers": {"words-by-clock": {"command": command("timer", 0, plain), "on_calendar": "yearly"}, **timers},
            "hooks": {
                "before_migrate": [command("hook-1", 0, plain)],
                "after_switch": [command("hook-2", 0, plain)],
            },
        }
    ).succeed()
    yield plain
    deploy().succeed()
    for host in hosts.values():
        assert host.run("ls /usr/local/lib/asgi/commands/prey-*").rc != 0, "commands of timers that are no more"
        host.run("systemctl reset-failed 'prey-*'")


def test_a_process_gets_its_words(host, commands):
    wait_until(lambda: host.file(f"{HOME}/said-process").exists)
    assert said(host, "process") == commands


def test_a_timer_gets_its_words(host, commands):
    host.check_output("systemctl start prey-words-by-clock.service")
    assert said(host, "timer") == commands


def test_a_timer_runs_in_the_live_release(host, commands):
    """Its environment is the release's own, whatever the file with its words lies beside."""
    live = host.check_output("readlink -f /srv/prey/live")
    environment = host.check_output("systemctl show --property=EnvironmentFiles --value prey-words-by-clock.service")
    assert "/srv/prey/live/env" in environment
    assert host.file(f"{live}/commands/words").exists and not host.file(f"{live}/commands/words-by-clock").exists


@pytest.mark.parametrize("moment", ["1", "2"])
def test_a_hook_gets_its_words(host, commands, moment):
    assert said(host, f"hook-{moment}") == commands


def test_a_command_by_hand_gets_its_words(host, commands):
    words = [*WORDS, "two\nlines", "a\rb", "bell\x07"]
    host.check_output(
        shlex.join(["/usr/local/lib/asgi/prey-run", "live", "--", "python", "-c", WRITE, "hand", "0", *words])
    )
    assert said(host, "hand") == words


def test_manage_gets_its_words(host):
    text = "$HOME ; %h ${PATH} $$ `id` \\ $(id)"
    code = f"print({text!r})"
    run = host.run(shlex.join(["raider-manage", "shell", "--no-imports", "-c", code]))
    assert (run.rc, run.stdout) == (0, f"{text}\n"), run.stderr


def test_the_playbook_manage_gets_its_words():
    text = "$HOME ; %h ${PATH} $$ $(id)"
    play = Play(
        "manage",
        manage_app="raider",
        manage_command=shlex.join(["shell", "--no-imports", "-c", f"print({text!r}[::-1])"]),
    )
    assert text[::-1] in play.succeed().output


@pytest.mark.parametrize("name", ESCAPES)
def test_no_command_leaves_its_user_and_its_sandbox(host, commands, name):
    host.run(f"systemctl start prey-{name}.service")
    status = host.check_output(f"systemctl show --property=ExecMainStartTimestampMonotonic --value prey-{name}.service")
    assert int(status) > 0, "it was never started"
    assert host.run(f"ls /root/escaped-{name}").rc != 0


# Debian has units that would be those of a timer or a process.
UNITS = {
    "dpkg": {"timers": {"db-backup": {"command": "true", "on_calendar": "daily"}}},
    "initrd": {"timers": {"cleanup": {"command": "true", "on_calendar": "daily"}}},
    "serial": {"processes": {"getty": {"command": "true"}}},
}
PREPARE = """
useradd --home-dir /home/walter walter
groupadd gang
useradd --home-dir /var/lib/asgi-zero --non-unique --uid 0 zero
mkdir /srv/attic /srv/cellar
touch /srv/attic/kept
ln -s /nowhere /srv/dangling
printf '#!/bin/sh\\n' >/usr/local/bin/kiosk-manage
printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/owl.service
printf '[Socket]\\nListenStream=/run/wren.sock\\n' >/etc/systemd/system/wren.socket
printf '[Service]\\nExecStart=/bin/true\\n' >/usr/lib/systemd/system/crow@.service
ln -s owl.service /etc/systemd/system/night.service
printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/finch@one.service
mkdir -p /run/systemd/generator.late
printf '[Service]\\nExecStart=/bin/true\\n' >/run/systemd/generator.late/swift.service
printf '[D-BUS Service]\\nName=org.example.Jay\\nExec=/bin/true\\nUser=root\\nSystemdService=jay.service\\n' \\
    >/usr/share/dbus-1/system-services/org.example.Jay.service
"""
# What of the preparation a refusal has to name.
TAKEN = {
    "walter": "a user walter (home /home/walter)",
    "gang": "a group gang",
    "zero": "a user zero",
    "attic": "a directory /srv/attic",
    "cellar": "a directory /srv/cellar",
    "dangling": "a directory /srv/dangling",
    "kiosk": "a program /usr/local/bin/kiosk-manage",
    "owl": "a unit /etc/systemd/system/owl.service",
    "wren": "a unit /etc/systemd/system/wren.socket",
    "crow": "a unit /usr/lib/systemd/system/crow@.service",
    "night": "a unit /etc/systemd/system/night.service",
    "finch": "a unit /etc/systemd/system/finch@one.service",
    "swift": "a unit /run/systemd/generator.late/swift.service",
    "jay": "a D-Bus service /usr/share/dbus-1/system-services/org.example.Jay.service",
    "modprobe": "a unit /usr/lib/systemd/system/modprobe@.service",
    "dpkg": "a unit /usr/lib/systemd/system/dpkg-db-backup.timer",
    "initrd": "a unit /usr/lib/systemd/system/initrd-cleanup.service",
    "serial": "a unit /usr/lib/systemd/system/serial-getty@.service",
    "cryptdisks": "a unit /usr/lib/systemd/system/cryptdisks.service",
    "fstrim": "a unit /usr/lib/systemd/system/fstrim.timer",
    "messagebus": "a user messagebus",
    "daemon": "a user daemon",
    "shadow": "a group shadow",
}
CLEAN = """
userdel walter; groupdel gang; userdel --force zero
rm -rf /srv/attic /srv/cellar /srv/dangling /usr/local/bin/kiosk-manage
rm -f /etc/systemd/system/owl.service /etc/systemd/system/wren.socket /usr/lib/systemd/system/crow@.service
rm -f /etc/systemd/system/night.service /etc/systemd/system/finch@one.service /run/systemd/generator.late/swift.service
rm -f /usr/share/dbus-1/system-services/org.example.Jay.service
"""
# Everything that a deploy writes to a host, or that systemd makes of it.
STATE = (
    "find /etc /usr /srv /var/lib /var/cache -xdev \\( -path /var/lib/postgresql -o -path /var/lib/systemd -o"
    " -path /srv/raider -o -path /srv/prey -o -name __pycache__ \\) -prune"
    " -o -printf '%p %u %g %m %l %Ts\\n' | sort | sha256sum; getent passwd; getent group; systemctl list-unit-files --no-legend"
)


def application(name, **more):
    return {
        "name": name, "framework": "none", "source": {"path": "prey"}, "application": "prey:app",
        "domains": [f"{name}.example.test"], "secrets": {"TOKEN": "x"}, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def refused(hosts):
    """What runs say of applications with names that are taken, and what they changed all the same."""
    for host in hosts.values():
        host.run(CLEAN)
        host.check_output(PREPARE)
    before = {name: host.check_output(STATE) for name, host in hosts.items()}
    source = str(Path(__file__).resolve().parents[1] / "prey")
    apps = [
        application(name, source={"path": source}, port=9000 + number, **UNITS.get(name, {}))
        for number, name in enumerate(TAKEN)
    ]
    for app in apps:
        if app["name"] == "kiosk":
            app |= {
                "framework": "django",
                "settings": "kiosk.settings",
                "database": False,
                "secrets": {"SECRET_KEY": "x"},
            }
    said = {}
    for playbook in ("deploy", "converge"):
        play = Play(f"../molecule/{SCENARIO}/{playbook}", asgi_apps=apps).fail()
        said[playbook] = {name: " ".join(play.message(name).split()) for name in hosts}
        changed = {name for name, host in hosts.items() if host.check_output(STATE) != before[name]}
        said[playbook]["changed"] = changed
    yield said
    for host in hosts.values():
        host.run(CLEAN)


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("playbook", ["deploy", "converge"])
def test_a_name_that_somebody_has_is_refused(hosts, refused, playbook, name):
    for host in hosts:
        (sentence,) = (part for part in refused[playbook][host].split("asgi_apps (") if part.startswith(f"{name}):"))
        assert TAKEN[name] in sentence and "Give the application another name" in sentence, sentence


@pytest.mark.parametrize("playbook", ["deploy", "converge"])
def test_what_was_refused_left_nothing(refused, playbook):
    assert refused[playbook]["changed"] == set()


def test_what_it_says_to_type_helps(hosts):
    """And what a run that failed on its way has left is the application's own, and refused to nobody."""
    for host in hosts.values():
        host.check_output("mkdir /srv/loft && touch /srv/loft/kept")
    loft = application(
        "loft", source={"path": str(Path(__file__).resolve().parents[1] / "prey")}, application="nothing:there"
    )
    play = Play(f"../molecule/{SCENARIO}/deploy", asgi_apps=[loft])
    assert "(mv /srv/loft /srv/loft.before)" in " ".join(play.fail().output.split())
    for host in hosts.values():
        host.check_output("mv /srv/loft /srv/loft.before")
    for _run in range(2):
        assert "It has no live release" in Play(f"../molecule/{SCENARIO}/deploy", asgi_apps=[loft]).fail().output
    for host in hosts.values():
        assert host.file("/srv/loft.before/kept").exists and host.user("loft").home == "/var/lib/asgi-loft"
        host.run(
            "systemctl disable --now loft.service; systemctl stop 'loft*'; rm -rf /srv/loft /srv/loft.before"
            " /etc/systemd/system/loft*"
            " /etc/sysusers.d/asgi-loft.conf /etc/tmpfiles.d/asgi-loft.conf /var/lib/asgi-loft /var/cache/asgi-loft-build"
            " /run/asgi-loft /usr/local/lib/asgi/loft-run; userdel loft; systemctl daemon-reload"
        )


# Inputs that brought more than themselves into a file that root reads, once: tmpfiles.d made a file; pg_hba.conf let everybody
# in, by what may follow the zone of an IPv6 address.
ZONE = "fe80::1%lo ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff scram-sha-256\nlocal all all trust\n#"
ACCESS = {"type": "host", "database": "raider", "user": "raider", "address": ZONE}
LINES = {
    "asgi_web_group": "www-data -\nf /root/planted-by-group 0644 root root - planted\nd /run/planted-by-group 0755 root root",
    "postgresql_access": [ACCESS],
    "postgresql_settings": {"shared_preload_libraries": ["auto_explain\nfsync = off"]},
}


@pytest.mark.parametrize("name", LINES)
def test_an_input_is_not_more_than_one_line(hosts, name):
    files = "cat /etc/tmpfiles.d/asgi-*.conf /etc/postgresql/*/main/pg_hba.conf /etc/postgresql/*/main/conf.d/*.conf"
    before = {host.backend.name: host.check_output(f"rm -rf /root/planted-*; {files}") for host in hosts.values()}
    said = Play(f"../molecule/{SCENARIO}/converge", **{name: LINES[name]}).fail()
    for name_of_host, host in hosts.items():
        assert host.check_output(files) == before[host.backend.name]
        assert not host.file("/root/planted-by-group").exists
        assert name in said.message(name_of_host), said.message(name_of_host)
