"""New releases while the old one serves: what visitors notice (nothing), and what happens when it goes wrong.

The tests run in their order, on both hosts at once, and each begins with what the one before left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import subprocess
import time

import pytest
from play import PROJECT, Play, asking, wait_until

SCENARIO = PROJECT / "molecule/asgi"
DRAIN = 6
# Too much to be sent with the module, however it is packed.
LARGE = secrets.token_hex(2_000_000)


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    """The code of an application with changes: a file's new text, or None to remove it."""

    def make(name="tide", **files):
        place = tmp_path_factory.mktemp(name) / name
        shutil.copytree(SCENARIO / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in files.items():
            if text is None:
                (place / path).unlink()
            else:
                (place / path).write_text(text)
        return str(place)

    return make


@pytest.fixture(scope="module")
def latest(hosts, variant):
    """The description that the last good deploy uses."""
    return {"sources": {"tide": dict.fromkeys(hosts, variant(**{"new.py": f"# {time.time()}\n"}))}, "asgi_only": "tide"}


def live(host, name="tide"):
    return host.check_output(f"basename $(readlink /srv/{name}/live)")


def answer(host, name="tide"):
    return host.run(
        f"runuser -u www-data -- curl --silent --max-time 10 --header 'X-Forwarded-Proto: https'"
        f" --unix-socket /srv/{name}/live/socket http://{name}.example.test/"
    ).stdout


def serves(host):
    """The release that really answers."""
    return json.loads(answer(host))["release"]


def instances(host, kind="tide"):
    listing = host.check_output(f"systemctl list-units --plain --no-legend '{kind}@*.service'")
    return sorted(line.split()[0].split("@")[1].removesuffix(".service") for line in listing.splitlines())


def releases(host):
    return host.check_output("ls /srv/tide/releases").split()


def log(host, name="tide"):
    return [json.loads(line) for line in host.check_output(f"cat /srv/{name}/deploys.log").splitlines()]


@contextlib.contextmanager
def undisturbed(hosts):
    """Both applications answer on all hosts, whatever is tried meanwhile."""
    with contextlib.ExitStack() as stack:
        for host in hosts.values():
            stack.enter_context(asking(host, "tide", "pond"))
        yield


def text_of(name):
    return (SCENARIO / "tide" / name).read_text()


def visitors(host, seconds):
    """Requests all the time, and a held stream, WebSocket and slow request."""
    process = subprocess.Popen(
        ["podman", "exec", "-i", host.backend.name, "runuser", "-u", "www-data", "--", "python3", "-", str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdin.write((SCENARIO / "client.py").read_text())
    process.stdin.close()
    process.stdin = None  # or communicate() would flush it
    assert process.stdout.readline() == "started\n"
    return process


def test_visitors_notice_nothing_of_a_new_release(hosts, variant):
    before = {name: live(host) for name, host in hosts.items()}
    clients = {name: visitors(host, 240) for name, host in hosts.items()}
    source = variant(**{"new.py": f"# {time.time()}\n"})
    # As talkative as a play can be: no secret may show.
    hooks = {
        "before_switch": ["sh -c 'echo $RELEASE before > ~/hook'"],
        "after_switch": ["sh -c 'echo after >> ~/hook; exit 3'"],
    }
    play = Play(
        "deploy", "-vvv", "--diff", sources={"tide": dict.fromkeys(hosts, source)}, changes={"tide": {"hooks": hooks}},
        asgi_only="tide",
    ).succeed()  # fmt: skip
    assert "hunter2" not in play.output
    assert "is live, but a hook failed: the hook after_switch" in " ".join(play.output.split())
    for name, client in clients.items():
        after = live(hosts[name])
        seen = json.loads(client.communicate(timeout=300)[0])
        assert after != before[name] and seen["failures"] == [], seen
        assert seen["requests"] > 200 and set(seen["first"]) == {before[name], after}
        switched = seen["first"][after]
        # A request that was under way ended where it began.
        crossing = [release for begun, release, ended in seen["slow"] if begun < switched < ended]
        assert crossing == [before[name]], seen["slow"]
        # What is held stays with the old release until the drain timeout, not for ever.
        assert seen["socket"][0] >= switched + DRAIN - 1 and seen["stream"][0] >= switched + DRAIN - 1, seen
        assert seen["socket"][0] <= switched + DRAIN + 5, seen


def test_hooks_ran_in_the_new_release(hosts):
    for host in hosts.values():
        assert host.file("/var/lib/asgi-tide/hook").content_string.split() == [live(host), "before", "after"]


def test_the_deploy_left_a_line(hosts):
    for host in hosts.values():
        first, last = log(host)[0], log(host)[-1]
        assert (last["action"], last["outcome"], last["release"], last["from"]) == (
            "deploy", "good", live(host), first["release"],
        )  # fmt: skip
        assert {"stage", "build", "start", "switch", "total"} <= set(last["seconds"])
        assert "hunter2" not in host.file("/srv/tide/deploys.log").content_string
        told = host.check_output(
            "journalctl --output cat --identifier tide _UID=0 VIVARIUM_ACTION=deploy VIVARIUM_OUTCOME=good"
        )
        assert f"deploy of release {live(host)}" in told.splitlines()[-1]
        assert host.run("runuser -u tide -- cat /srv/tide/deploys.log").rc != 0


def test_processes_moved_with_it(hosts):
    for host in hosts.values():
        assert instances(host, "tide-worker") == [live(host)]
        assert json.loads(host.file("/var/lib/asgi-tide/worker").content_string)[0] == live(host)


def test_a_task_that_a_process_is_at_is_finished(hosts, variant):
    before = {name: live(host) for name, host in hosts.items()}
    for host in hosts.values():
        host.check_output("runuser -u tide -- touch /var/lib/asgi-tide/task")
    source = variant(**{"new.py": f"# {time.time()}\n", "large": LARGE})
    Play("deploy", sources={"tide": dict.fromkeys(hosts, source)}, asgi_only="tide").succeed()
    for name, host in hosts.items():
        # Nobody waited for it: the new release serves, with a process of its own, while the old one works.
        assert live(host) != before[name] and live(host) in instances(host, "tide-worker")
        wait_until(lambda host=host: instances(host, "tide-worker") == [live(host)])
        assert host.file("/var/lib/asgi-tide/done").content_string == before[name]


def test_code_that_is_large_arrives_too_and_leaves_nothing_behind(hosts):
    for host in hosts.values():
        assert host.file("/srv/tide/live/code/large").sha256sum == hashlib.sha256(LARGE.encode()).hexdigest()
        assert host.run("find / -xdev -name source.tar.gz").stdout == ""


def test_it_was_the_same_release_on_every_host(hosts):
    assert len({live(host) for host in hosts.values()}) == 1


def test_secrets_did_not_reach_the_journal(hosts):
    for host in hosts.values():
        assert "hunter2" not in host.run("journalctl --no-pager").stdout


STARTING = "Start its instance beside the old one and wait for an answer"


def broken(variant, debian12, debian13):
    """A description with code that differs from host to host, and less patience."""
    sources = {"debian12": variant(**debian12), "debian13": variant(**debian13)}
    return {"sources": {"tide": sources}, "changes": {"tide": {"start_timeout": 8}}, "asgi_only": "tide"}


def state(hosts):
    return {name: (live(host), releases(host)) for name, host in hosts.items()}


def check_failure(play, hosts, before, expected):
    """The message names the step and the reason, and everything is as it was."""
    for name, host in hosts.items():
        message = play.message(name)
        step, *reasons = expected[name]
        assert play.failed_at(name, "tide", step)
        assert f"Release {before[name][0]} serves on" in message
        for reason in reasons:
            assert reason in message
        assert serves(host) == before[name][0]
        assert host.file("/srv/tide/deploy.lock").content_string == ""
        assert set(instances(host)) <= set(releases(host))
    assert state(hosts) == before


def test_a_release_that_fails_changes_nothing(hosts, variant):
    before = state(hosts)
    sick = text_of("tide.py").replace("status=200):", "status=500):")
    with undisturbed(hosts):
        play = Play("deploy", **broken(variant, {"tide.py": "import django\n"}, {"tide.py": sick})).fail()
    check_failure(play, hosts, before, {
        "debian12": ("start", "tide cannot be imported", "ModuleNotFoundError: No module named 'django'"),
        "debian13": ("start", "not ready within 8 s of start_timeout: GET /health/: status 500", "startup complete"),
    })  # fmt: skip


def test_a_second_deploy_is_refused_while_one_hangs_and_that_changes_nothing_either(hosts, variant):
    before = state(hosts)
    hanging = {"tide.py": "import time\nprint('I hang', flush=True)\ntime.sleep(600)\n"}
    unknown = {"requirements.txt": "h11==0.16.0\nno-such-package-of-anybody==1.0\n"}
    description = broken(variant, hanging, unknown)
    description["changes"]["tide"]["start_timeout"] = 40
    with undisturbed(hosts):
        first = Play("deploy", **description).until(STARTING)
        second = Play("deploy", "--limit", "debian12", asgi_force=True, asgi_only="tide").fail()
    message = second.message("debian12")
    assert "a deploy by root on" in message and "is under way since" in message and "asgi_break_lock" in message
    assert f"Release {before['debian12'][0]} serves on" in message
    assert len(instances(hosts["debian12"])) == 2, "the first deploy goes on undisturbed"
    check_failure(first.fail(), hosts, before, {
        "debian12": ("start", "not ready within 40 s of start_timeout: GET /health/: no answer on its socket", "I hang"),
        "debian13": ("build", "no-such-package-of-anybody"),
    })  # fmt: skip


def test_a_process_that_falls_over_stops_the_release(hosts, variant):
    host = hosts["debian13"]
    before, worker = live(host), instances(host, "tide-worker")
    files = {"worker.py": "raise SystemExit('I do not work')\n"}
    with undisturbed(hosts):
        play = Play("deploy", "--limit", "debian13", **broken(variant, {}, files)).fail()
    assert play.failed_at("debian13", "tide", "start") and "does not stay up" in play.message("debian13")
    assert "I do not work" in play.message("debian13")
    assert serves(host) == before and instances(host, "tide-worker") == worker == [before]


def test_django_stops_a_release_that_would_be_insecure_or_cannot_migrate(hosts, variant):
    migration = (
        "from django.db import migrations\n\n\ndef fall(apps, schema_editor):\n    raise RuntimeError('no pond')\n\n\n"
    )
    migration += "class Migration(migrations.Migration):\n    dependencies = [('pond', '0001_initial')]\n"
    migration += "    operations = [migrations.RunPython(fall, migrations.RunPython.noop)]\n"
    settings = (SCENARIO / "pond/pond/settings.py").read_text()
    sources = {
        "debian12": variant("pond", **{"pond/settings.py": settings + "DEBUG = True\n"}),
        "debian13": variant("pond", **{"pond/migrations/0002_fall.py": migration}),
    }
    before = {name: live(host, "pond") for name, host in hosts.items()}
    with undisturbed(hosts):
        play = Play("deploy", sources={"pond": sources}, asgi_only="pond").fail()
    assert play.failed_at("debian12", "pond", "check") and "security.W018" in play.message("debian12")
    assert play.failed_at("debian13", "pond", "migrate") and "RuntimeError: no pond" in play.message("debian13")
    for name, host in hosts.items():
        assert live(host, "pond") == before[name] and json.loads(answer(host, "pond"))["ducks"] == 1


def test_django_stops_a_release_with_an_error_in_its_settings_or_without_a_package(hosts, variant):
    settings = (SCENARIO / "pond/pond/settings.py").read_text()
    urls = (SCENARIO / "pond/pond/urls.py").read_text()
    sources = {
        "debian12": variant("pond", **{"pond/settings.py": settings + 'TOKEN = os.environ["NO_SUCH_TOKEN"]\n'}),
        "debian13": variant("pond", **{"pond/urls.py": "import rest_framework\n" + urls}),
    }
    before = {name: live(host, "pond") for name, host in hosts.items()}
    with undisturbed(hosts):
        play = Play("deploy", sources={"pond": sources}, asgi_only="pond").fail()
    settings, package = play.message("debian12"), play.message("debian13")
    assert play.failed_at("debian12", "pond", "check") and "NO_SUCH_TOKEN" in settings
    assert play.failed_at("debian13", "pond", "check") and "No module named 'rest_framework'" in package
    for name, host in hosts.items():
        assert live(host, "pond") == before[name]
        assert log(host, "pond")[-1]["outcome"] == "failed"
    assert [log(hosts[name], "pond")[-1]["step"] for name in ("debian12", "debian13")] == ["check", "check"]


def test_a_release_that_dies_after_the_switch_gives_the_requests_back(hosts, variant):
    """Of the server on one host, of its workers on the other; the play waits for the second alone."""
    before = {name: live(host) for name, host in hosts.items()}
    die = "\nimport signal, threading\ndef die():\n    print('I give up', flush=True)\n    {}\nthreading.Timer(5, die).start()\n"
    description = {
        "sources": {"tide": {
            "debian12": variant(**{"tide.py": text_of("tide.py") + die.format("os.kill(os.getppid(), signal.SIGKILL)")}),
            "debian13": variant(**{"tide.py": text_of("tide.py") + die.format("os._exit(1)")}),
        }},
        "changes": {"tide": {"settle_time": 10}},
        "asgi_wait": "{{ inventory_hostname == 'debian13' }}",
        "asgi_only": "tide",
    }  # fmt: skip
    play = Play("deploy", **description).fail()
    message = play.message("debian13")
    assert play.failed_at("debian13", "tide", "switch") and f"Release {before['debian13']} serves on" in message
    assert "lost a worker that was not told to end" in message and "I give up" in message
    assert "fatal: [debian12]" not in play.output
    for name, host in hosts.items():
        wait_until(lambda name=name, host=host: live(host) == before[name])
        deployed, returned = log(host)[-2:]
        bad = deployed["release"]
        assert (deployed["action"], deployed["outcome"]) == ("deploy", "good")
        assert (returned["action"], returned["release"], returned["from"]) == ("return", before[name], bad)
        assert f"tide@{bad}.service" in returned["reason"]
        assert serves(host) == before[name]
        wait_until(lambda name=name, host=host: instances(host) == [before[name]])
        assert instances(host, "tide-worker") == [before[name]]
        refused = Play("rollback", "--limit", name, asgi_only="tide", asgi_rollback_to=bad).fail().output
        assert f"bad ones: {bad}" in " ".join(refused.split())


@pytest.mark.parametrize(
    ("moment", "all_of_it"),
    [("Stage the code", True), ("Start its instance", False), ("Switch requests to it", True)],
)
def test_a_deploy_that_is_killed_leaves_a_release_serving(hosts, variant, moment, all_of_it):
    before = {name: live(host) for name, host in hosts.items()}
    source = variant(**{"new.py": f"# {moment} {all_of_it}\n"})
    play = Play("deploy", sources={"tide": dict.fromkeys(hosts, source)}, asgi_only="tide").until(moment)
    time.sleep(0.5)
    if all_of_it:
        play.kill()
    else:
        play.process.kill()
        play.process.wait()
    for name, host in hosts.items():
        assert serves(host)
        # The step that was under way may still switch.
        wait_until(lambda host=host: serves(host) == live(host))
        if "Switch" not in moment:
            assert live(host) == before[name]


def test_the_next_deploy_needs_no_unlocking_and_cleans_up(hosts, latest):
    Play("deploy", **latest).succeed()
    for host in hosts.values():
        assert serves(host) == live(host)
        wait_until(lambda host=host: instances(host) == [live(host)])
        assert instances(host, "tide-worker") == [live(host)]
        # The dead run's switch may have left nothing to do, and still be at its end.
        wait_until(lambda host=host: host.file("/srv/tide/deploy.lock").content_string == "")


def test_what_a_killed_deploy_left_after_the_switch_is_finished(hosts, latest):
    before = {name: live(host) for name, host in hosts.items()}
    for name, host in hosts.items():
        record = f"/srv/tide/releases/{before[name]}/release.json"
        host.check_output(f"sed -i s/good/built/ {record} && systemctl stop tide-worker@{before[name]}")
    announced = " ".join(Play("deploy", "--check", **latest).succeed().output.split())
    assert "an earlier run was stopped before it had finished and its process worker does not run" in announced
    Play("deploy", **latest).succeed()
    again = Play("deploy", **latest).succeed()
    for name, host in hosts.items():
        assert live(host) == before[name] and again.changed(name) == 0
        assert instances(host, "tide-worker") == [before[name]]


def test_rollback_goes_to_the_release_before_and_to_a_named_one(hosts):
    (newest,) = {live(host) for host in hosts.values()}
    play = Play("rollback", "-vvv", "--diff", asgi_only="tide").succeed()
    assert "hunter2" not in play.output
    for host in hosts.values():
        assert serves(host) == live(host) < newest
        assert instances(host, "tide-worker") == [live(host)]
    Play("rollback", asgi_only="tide", asgi_rollback_to=newest).succeed()
    assert {serves(host) for host in hosts.values()} == {newest}
    refused = Play("rollback", asgi_only="tide", asgi_rollback_to="20200101-000000-abcdef").fail().output
    assert "There is no good release of tide to go back to (good ones: 20" in " ".join(refused.split())


def test_old_releases_are_removed(hosts):
    for host in hosts.values():
        assert len(releases(host)) <= 3, "keep_releases is 2, and one may have been drained"


def test_a_restarted_host_serves_the_live_release_without_a_play(hosts):
    before = {name: (live(host), releases(host)) for name, host in hosts.items()}
    restarts = [
        subprocess.Popen(["podman", "restart", "--time", "5", host.backend.name], stdout=subprocess.PIPE)
        for host in hosts.values()
    ]
    for restart in restarts:
        restart.communicate(timeout=300)
    for name, host in hosts.items():
        wait_until(lambda host=host: answer(host).startswith("{") and answer(host, "pond").startswith("{"))
        assert serves(host) == before[name][0]
        assert instances(host) == instances(host, "tide-worker") == [before[name][0]]
        assert host.run("systemctl is-active tide-tick.timer").stdout.strip() == "active"
