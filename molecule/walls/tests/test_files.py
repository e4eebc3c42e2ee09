"""What is written as root stays where root wants it, whoever the directory belongs to; and nobody can make a run wait."""

from __future__ import annotations

import contextlib
import shlex
import subprocess

import pytest
from play import Play

# Runs as the OS user postgres: puts a link in the place of the directory in which new files come into being.
SWAPPER = r"""
import os, sys

main, trap = sys.argv[1:]
os.makedirs(trap)
for name in ("new", "old"):
    os.symlink("/etc/tmpfiles.d", f"{trap}/{name}")
stage, number = f"{main}/.vivarium~", 0
print("swapping", flush=True)
while True:
    try:
        if os.path.isdir(f"{stage}/old") and not os.path.islink(stage):
            number += 1
            os.rename(stage, f"{main}/.moved{number}")
            os.symlink(trap, stage)
    except OSError:
        pass
"""


def site(host, **variables):
    """Bring one host to its production state."""
    return Play("../molecule/walls/converge", "--limit", host.check_output("hostname"), **variables)


@pytest.fixture
def main(host):
    """The directory of PostgreSQL's configuration, as it was; and afterwards as it was again."""
    path = host.check_output("echo /etc/postgresql/*/main")
    assert host.file(path).user == "postgres"
    host.check_output(f"rm -rf /root/kept && cp -a {path} /root/kept")
    try:
        yield path
    finally:
        host.check_output(f"find {path} -mindepth 1 -delete; cp -a /root/kept/. {path}/")
        host.check_output("rm -rf /root/kept /var/lib/postgresql/trap")


def outside(host):
    """What lies in root's directories, and whose it is."""
    return host.check_output("find /etc/tmpfiles.d /etc/systemd/system /usr/local -printf '%p %u %s %C@\\n' | sort")


@pytest.mark.parametrize("planted", ["conf.d", ".vivarium~", "pg_hba.conf"])
def test_links_of_postgres_are_not_written_through(host, as_user, main, planted):
    before = outside(host)
    target = "/etc/tmpfiles.d" + ("/pg_hba.conf" if planted == "pg_hba.conf" else "")
    as_user(host, f"cd {main} && {{ mv {planted} {planted}.moved; ln -s {target} {planted}; }}", "postgres")
    assert host.file(f"{main}/{planted}").is_symlink
    run = site(host, postgresql_settings={"work_mem": "5MB"}).end()
    assert outside(host) == before
    if run.process.returncode:
        assert f"{main}/{planted}" in run.message(host.check_output("hostname"))
    else:
        assert host.file(f"{main}/pg_hba.conf").is_file and not host.file(f"{main}/pg_hba.conf").is_symlink


@contextlib.contextmanager
def running(host, user, *command):
    """A program of a local user, for as long as the block lasts; it has said that it is ready."""
    process = subprocess.Popen(
        ["podman", "exec", "-i", host.backend.name, "runuser", "-u", user, "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        host.run(f"pkill -KILL -u {user} -f '^python3 -c'")


def test_postgres_gains_nothing_by_being_faster(host, as_user, main):
    before, hostname = outside(host), host.check_output("hostname")
    with running(host, "postgres", "python3", "-c", SWAPPER, main, "/var/lib/postgresql/trap") as swapper:
        # There is something to write in both directories.
        as_user(host, f"echo '#' >> {main}/pg_hba.conf", "postgres")
        run = site(host, postgresql_settings={"work_mem": "6MB"}).end()
        assert swapper.poll() is None and host.file(f"{main}/.moved1").exists
    assert outside(host) == before
    assert run.process.returncode == 0 or f"{main}/" in run.message(hostname), run.output


# Holds what anybody may open, for as long as it runs; it goes on by itself.
HOLDER = r"""
import fcntl, os, sys, time

for path in ("/usr/local/lib/asgi", "/etc/systemd/system", "/etc/tmpfiles.d", "/etc/nginx"):
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
if os.fork() == 0:
    os.setsid()
    for number in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), number)
    time.sleep(600)
"""


@pytest.fixture(params=["nobody", "raider"])
def holder(request, host, raid, as_user):
    """Somebody holds the directories that a run writes to: a local user, or an application in its sandbox."""
    alone = f"exec python3 -c {shlex.quote(HOLDER)}"
    said = raid(host, HOLDER) if request.param == "raider" else as_user(host, alone).stdout
    try:
        assert said.strip() == "held"
        yield
    finally:
        host.run(f"pkill -KILL -u {request.param} -f LOCK_NB")


def test_nobody_makes_a_run_wait(host, holder):
    run = site(host)
    try:
        run.succeed()
    finally:
        if run.process.poll() is None:
            run.kill()
    # All the while.
    assert host.run("flock --nonblock /usr/local/lib/asgi true").rc == 1
    assert host.run("flock --nonblock /etc/systemd/system true").rc == 1


def test_nobody_can_open_the_lock(host, as_user):
    assert host.file("/run/vivarium-files.lock").exists
    assert as_user(host, "flock --nonblock /run/vivarium-files.lock true").rc != 0
    assert as_user(host, "flock --nonblock /etc/systemd/system true").rc == 0


# Runs in every program of Python that starts as postgres: it says something in the place of a module of Ansible's.
ANSWER = (
    "import os, sys; sys.argv == [''] and (print('"
    '{"changed": true, "rc": 0, "ansible_facts": {"nginx_extra": "# of postgres"}}'
    "', flush=True), os._exit(0))"
)


def test_what_runs_as_postgres_does_not_answer_for_the_host(host, as_user, monkeypatch):
    """Ansible makes variables of the facts that a module returns, so no module runs as another user than root."""
    monkeypatch.setenv("ANSIBLE_INJECT_FACT_VARS", "true")
    packages = host.check_output("runuser -u postgres -- python3 -m site --user-site")
    as_user(host, f"mkdir -p {packages} && printf %s {shlex.quote(ANSWER)} >{packages}/answer.pth", "postgres")
    as_user(host, "psql -qc 'GRANT CONNECT ON DATABASE raider TO PUBLIC'", "postgres")
    try:
        site(host).succeed()
        assert "of postgres" not in host.check_output("cat /etc/nginx/nginx.conf")
        acl = as_user(
            host, "psql -XAtqc \"SELECT datacl FROM pg_database WHERE datname = 'raider'\"", "postgres"
        ).stdout
        assert "raider=" in acl and "{=" not in acl and ",=" not in acl
    finally:
        host.run("rm -rf /var/lib/postgresql/.local")


def test_root_reads_no_file_that_postgres_names(host, as_user, main):
    """postgres decides which certificate its server has; a pipe there is waited for as postgres, and not for ever."""
    setting = "ssl_cert_file = '/var/lib/postgresql/pipe'"
    as_user(host, f'mkfifo /var/lib/postgresql/pipe && echo "{setting}" >{main}/conf.d/zz.conf', "postgres")
    try:
        run = site(host, postgresql_settings={"work_mem": "7MB"})
        reads = host.check_output(
            "for i in $(seq 120); do pgrep -f '^openssl x509 -in /var/lib/postgresql/pipe' >/dev/null && break; sleep 0.5; done;"
            " ps -o user= -p \"$(pgrep -f '^openssl x509 -in /var/lib/postgresql/pipe' | paste -sd,)\""
        )
        assert set(reads.split()) == {"postgres"}
        run.fail()
        assert "is not the key of /var/lib/postgresql/pipe" in run.output
    finally:
        host.run("rm -f /var/lib/postgresql/pipe")
