"""The controller is killed at each task of a deploy, and a step on the host with it: the application answers throughout, and the
next run does the rest."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import time

import pytest
from play import PROJECT, Play, asking, at_step, wait_until, when

POND = PROJECT / "molecule/asgi/pond"
# Steps that one task takes one after the other, and that last long enough to be met.
STEPS = ("build", "check", "static", "migrate", "start")
# Before and after the one rename that puts the release live.
HOOKS = ("before_switch", "after_switch")


@pytest.fixture(scope="module")
def deploy(tmp_path_factory):
    """Start a deploy of pond to a host, with a change in its code unless it is to be the same as the time before."""
    place, number = tmp_path_factory.mktemp("sources"), iter(range(1000))

    def start(host, change=True, **changes):
        if change:
            source = place / f"{host}-{next(number)}"
            shutil.copytree(POND, source, ignore=shutil.ignore_patterns("__pycache__"))
            (source / "change.py").write_text(f"# {time.time()}\n")
            start.sources[host] = str(source)
        return Play(
            "deploy", "--limit", host, sources={"pond": {host: start.sources[host]}}, changes={"pond": changes}, asgi_only="pond"
        )  # fmt: skip

    start.sources = {}
    return start


@pytest.fixture(scope="module")
def tasks(hosts, deploy):
    """What a deploy does, task by task."""
    named = deploy("debian13").succeed().tasks()
    assert any("switch requests to it" in task for task in named) and len(named) >= 7, named
    return list(dict.fromkeys(named))


def live(host):
    return host.check_output("basename $(readlink /srv/pond/live)")


def log(host):
    return [json.loads(line) for line in host.check_output("cat /srv/pond/deploys.log").splitlines()]


# What takes a step on the host.
HOLDER = "$(lslocks -nro PID,PATH | sed -n 's|  */srv/pond/deploy.lock$||p')"


def kill_both(play, host):
    """Kill the controller, and what takes the step on the host, as when that runs out of memory."""
    play.kill()
    host.check_output(f"kill -KILL {HOLDER}")


def kill_at_task(start, host, task, pause):
    """Kill the controller at a task, or a moment after it began."""
    play = start().until(f"TASK [{task}]")
    if "Stage, build" in task:  # which is under way once it has the lock
        when(host, "test -s /srv/pond/deploy.lock")
    time.sleep(pause)
    play.kill()


def kill_at_step(start, host, step):
    play = start()
    # Held still: a step may be shorter than it takes to kill the controller.
    when(host, at_step("pond", step), f"kill -STOP {HOLDER}")
    kill_both(play, host)


def kill_at_hook(start, host, moment):
    play = start(hooks={moment: [f"sh -c 'touch ~/{moment}; sleep 3'"]})
    when(host, f"test -e /var/lib/asgi-pond/{moment}")
    kill_both(play, host)


def kill_at_each(name, host, deploy, moments):
    """Kill a deploy at each of the moments, and let the next one do the rest."""
    with asking(host, "pond"):
        for kill, *moment in moments:
            before = live(host)
            kill(functools.partial(deploy, name), host, *moment)
            deploy(name, change=False).succeed()
            assert live(host) != before, moment
            # What a dead controller's last step still does on the host ends by itself, and gives the lock up.
            wait_until(lambda: host.file("/srv/pond/deploy.lock").content_string == "")
            assert log(host)[-1]["release"] == live(host) and log(host)[-1]["outcome"] == "good", moment
        assert deploy(name, change=False).succeed().changed(name) == 0


def test_a_controller_that_dies_at_any_task_is_not_noticed(hosts, deploy, tasks):
    """Each host gets every other moment."""
    moments = [(kill_at_task, task, 0.4 * (number % 3)) for number, task in enumerate(tasks)]
    moments += [(kill_at_step, step) for step in STEPS] + [(kill_at_hook, hook) for hook in HOOKS]
    failures = []

    def run(name, host, mine):
        try:
            kill_at_each(name, host, deploy, mine)
        except Exception as error:
            failures.append((name, error))

    threads = [
        threading.Thread(target=run, args=(name, host, moments[index::2]))
        for index, (name, host) in enumerate(hosts.items())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_deploys_that_were_killed_are_told(hosts):
    outcomes = [line["outcome"] for host in hosts.values() for line in log(host)]
    # Before the code is staged there is nothing to tell; the task that takes all the steps is one more.
    assert outcomes.count("interrupted") >= 1 + len(STEPS) + len(HOOKS) and set(outcomes) == {"good", "interrupted"}


def test_nothing_is_left_over(hosts):
    for host in hosts.values():
        # What was killed half-way is cleared by the next run, so no more stay than are kept, and one that was drained.
        assert len(host.check_output("ls /srv/pond/releases").split()) <= 3
        assert (
            host.run("ls -d /root/.ansible/tmp/ansible-tmp-* /home/admin/.ansible/tmp/ansible-tmp-*").stdout.count("\n")
            <= 2
        )


def test_files_of_a_run_that_was_killed_before_they_were_in_use_are_put_in_use(hosts, deploy):
    """A timer's files are in place, but systemd has not heard of them."""
    host, timers = hosts["debian13"], {"tock": {"command": "true", "on_calendar": "hourly"}}
    play = deploy("debian13", change=False, timers=timers)
    when(
        host, "test -e /etc/systemd/system/pond-tock.timer",
        "kill -KILL $(pgrep -f [a]sgi/load) $(lslocks -nro PID,PATH | sed -n 's|  */run/vivarium-files.lock$||p')",
    )  # fmt: skip
    play.fail()
    assert host.file("/etc/systemd/system/pond-tock.timer").exists and not host.service("pond-tock.timer").is_running
    assert deploy("debian13", change=False, timers=timers).succeed().changed("debian13") == 1
    assert host.service("pond-tock.timer").is_enabled and host.service("pond-tock.timer").is_running
    assert not host.file("/etc/systemd/system/.vivarium~").exists
    assert deploy("debian13", change=False, timers=timers).succeed().changed("debian13") == 0
