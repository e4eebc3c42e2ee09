"""The action and the module vivarium.server.files, driven together in this process, and once by ansible-playbook."""

from __future__ import annotations

import base64
import grp
import json
import os
import pathlib
import pwd
import signal
import subprocess
import sys
import zlib
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.vivarium.server.plugins.action import files as action
from ansible_collections.vivarium.server.plugins.module_utils._files import changes
from ansible_collections.vivarium.server.plugins.module_utils._files import files as module
from ansible_collections.vivarium.server.plugins.module_utils._files.stage import STAGE
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed
from ansible_collections.vivarium.server.plugins.plugin_utils import files as rendering

OWNER = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Run(action.ActionModule):
    """The action, with a module run that stays in this process."""

    def __init__(self, base, args, check):
        loader = DataLoader()
        loader.set_basedir(str(base))
        task = SimpleNamespace(args=args, check_mode=check, diff=True, async_val=0, get_search_path=lambda: [str(base)])
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        super().__init__(task, connection, None, loader, Templar(loader=loader), None)
        self.sent = []

    def _execute_module(self, module_name=None, module_args=None, **kwargs):
        self.sent.append(module_args)
        ((_name, parameters),) = json.loads(zlib.decompress(base64.b64decode(module_args["payload"])))["modules"]
        try:
            result = module.main(parameters, check_mode=self._task.check_mode, diff=True)
        except Failed as failure:
            result = {"failed": True, "msg": str(failure), **failure.details}
        return json.loads(json.dumps(result))


@pytest.fixture
def write(tmp_path, tmp_path_factory, monkeypatch):
    """Run the action in a scratch directory; owner and group are the tester's unless an entry says otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "LOCK", str(tmp_path_factory.mktemp("run") / "lock"))

    def run(check=False, variables=None, **args):
        for kind in ("files", "directories"):
            args |= {kind: [OWNER | entry for entry in args.get(kind, [])]}
        return Run(tmp_path, args, check).run(task_vars=variables or {})

    return run


def tree(folder):
    """Everything in a directory, for comparisons: names, modes, contents, targets, but not when it was written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (info.st_mode, content)
    return found


def file(path, content="new\n", **more):
    return {"path": str(path), "content": content, **more}


def test_files_directories_and_links_come_into_being_once(write, tmp_path):
    order = {
        "directories": [{"path": str(tmp_path / "a/b/"), "mode": "0750", "concerns": ["dir"]}],
        "files": [
            file(tmp_path / "a/b/x", mode="0640", concerns=["web", "app"]),
            file(tmp_path / "y", concerns=["web"]),
        ],
        "links": [{"path": str(tmp_path / "l"), "target": "nowhere", "concerns": ["link"]}],
    }
    first = write(**order)
    assert first["changed_paths"] == [str(tmp_path / name) for name in ("a/b", "a/b/x", "y", "l")]
    assert first["concerns"] == ["app", "dir", "link", "web"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "a/b/x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a/b/x").read_text() == "new\n"
    assert os.readlink(tmp_path / "l") == "nowhere"
    before = (tmp_path / "y").stat()
    second = write(**order)
    assert (second["changed"], second["changed_paths"], second["concerns"], second["diff"]) == (False, [], [], [])
    assert (tmp_path / "y").stat().st_ino == before.st_ino


def test_only_what_changed_is_reported_and_touched(write, tmp_path):
    order = [file(tmp_path / "x", concerns=["x"]), file(tmp_path / "y", concerns=["y"])]
    write(files=order)
    order[1]["content"] = "newer\n"
    result = write(files=order)
    assert (result["changed_paths"], result["concerns"]) == ([str(tmp_path / "y")], ["y"])


@pytest.mark.parametrize("content", ["", "no newline", "ünï\n☃ 🐍", "a\r\nb\n\n", "\tx "])
def test_content_arrives_byte_for_byte(write, tmp_path, content):
    write(files=[file(tmp_path / "x", content)])
    assert (tmp_path / "x").read_bytes() == content.encode()


def test_a_source_file_may_be_binary(write, tmp_path):
    (tmp_path / "files").mkdir()
    blob = bytes(range(256)) * 5
    (tmp_path / "files/blob").write_bytes(blob)
    order = {"path": str(tmp_path / "x"), "source": "blob"}
    result = write(files=[order])
    assert (tmp_path / "x").read_bytes() == blob
    assert "1280 bytes, sha256" in result["diff"][0]["after"]
    assert not write(files=[order])["changed"]


def test_a_template_is_rendered_as_ansible_does(write, tmp_path):
    (tmp_path / "templates/sub").mkdir(parents=True)
    (tmp_path / "templates/sub/part.j2").write_text("part of {{ name }}\n")
    lines = ["{{ ansible_managed | comment }}", "{% if true %}", "{{ template_destpath }}", "{% endif %}"]
    lines += ["{% include 'part.j2' %}", "", "{{ raw }} {{ own }}", "", ""]
    (tmp_path / "templates/sub/t.j2").write_text("\n".join(lines))
    variables = {"name": "shop", "raw": "{{ name }}", "lazy": trust_as_template("{{ name }}!")}
    path = str(tmp_path / "x")
    write(files=[{"path": path, "template": "sub/t.j2", "vars": {"own": 8}}], variables=variables)
    # An untrusted value that looks like a template stays what it is; trim_blocks; the last newlines are kept.
    assert (tmp_path / "x").read_text() == f"#\n# Ansible managed\n#\n{path}\npart of shop\n{{{{ name }}}} 8\n\n"
    (tmp_path / "templates/t2.j2").write_text("{{ lazy }}\n{{ ansible_managed }}")
    write(files=[{"path": path, "template": "t2.j2"}], variables=variables | {"ansible_managed": "mine"})
    assert (tmp_path / "x").read_text() == "shop!\nmine"


def test_the_collections_own_templates_come_last(write, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "COLLECTION", str(tmp_path / "collection"))
    for folder, text in (("collection/templates", "shared"), ("templates", "own")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "both.j2").write_text(text)
    (tmp_path / "collection/templates/macro.j2").write_text("{% macro hi() %}hi{% endmacro %}")
    (tmp_path / "collection/templates/shared.j2").write_text("{% import 'macro.j2' as m %}{{ m.hi() }}")
    write(files=[{"path": str(tmp_path / name), "template": f"{name}.j2"} for name in ("both", "shared")])
    assert ((tmp_path / "both").read_text(), (tmp_path / "shared").read_text()) == ("own", "hi")


def test_owner_and_mode_alone_are_a_change(write, tmp_path):
    write(files=[file(tmp_path / "x")])
    result = write(files=[file(tmp_path / "x", mode="0600")])
    assert result["changed"]
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    assert "0644" in result["diff"][0]["before"] and "0600" in result["diff"][0]["after"]
    if os.getuid() == 0:
        assert write(files=[file(tmp_path / "x", mode="0600", owner=12345, group="54321")])["changed"]
        assert ((tmp_path / "x").stat().st_uid, (tmp_path / "x").stat().st_gid) == (12345, 54321)


def test_a_file_is_never_readable_by_others_on_its_way(write, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module.os, "fsync", lambda handle: seen.append(os.fstat(handle).st_mode & 0o777))
    old = os.umask(0)
    try:
        write(files=[file(tmp_path / "x", mode="0600")])
    finally:
        os.umask(old)
    assert seen == [0o600]


def test_a_link_is_replaced_and_not_written_through(write, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "x").symlink_to("victim")
    assert write(files=[file(tmp_path / "x")])["changed"]
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "victim").read_text() == "precious"


def test_links_are_moved_and_replace_files_but_not_directories(write, tmp_path):
    link = {"path": str(tmp_path / "l"), "target": "one"}
    (tmp_path / "l").write_text("a file")
    assert write(links=[link])["changed"]
    assert write(links=[link | {"target": "two"}])["diff"][0]["before"] == "link to one\n"
    assert os.readlink(tmp_path / "l") == "two"
    (tmp_path / "d").mkdir()
    assert "is a directory" in write(links=[{"path": str(tmp_path / "d"), "target": "x"}])["msg"]


def test_absent_removes_files_and_links_only(write, tmp_path):
    (tmp_path / "x").write_text("old")
    (tmp_path / "l").symlink_to("x")
    (tmp_path / "d").mkdir()
    gone = [{"path": str(tmp_path / name), "state": "absent"} for name in ("x", "l", "never")]
    assert write(files=gone)["changed_paths"] == [str(tmp_path / "x"), str(tmp_path / "l")]
    assert tree(tmp_path) == {"d": tree(tmp_path)["d"]}
    assert not write(files=gone)["changed"]
    assert "will not remove" in write(files=[{"path": str(tmp_path / "d"), "state": "absent"}])["msg"]


def test_what_nobody_lists_is_told_and_stays(write, tmp_path):
    for name in ("keep.conf", "old.conf", "other.txt", ".hidden.conf", "gone.conf"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.conf").symlink_to("nowhere")
    (tmp_path / "dir.conf").mkdir()
    order = {
        "directories": [{"path": str(tmp_path), "mode": oct(tmp_path.stat().st_mode)[-3:], "unlisted": "*.conf"}],
        "files": [file(tmp_path / "keep.conf", "x"), {"path": str(tmp_path / "gone.conf"), "state": "absent"}],
    }
    for check in (True, False):
        result = write(check=check, **order)
        assert result["unlisted"] == [str(tmp_path / "link.conf"), str(tmp_path / "old.conf")]
        assert result["changed_paths"] == [str(tmp_path / "gone.conf")]
    assert sorted(os.listdir(tmp_path)) == [
        ".hidden.conf",
        "dir.conf",
        "keep.conf",
        "link.conf",
        "old.conf",
        "other.txt",
    ]
    assert not write(**order)["changed"]


def test_a_file_of_somebody_elses_stops_all_until_it_may_be_replaced(write, tmp_path):
    (tmp_path / "theirs").write_text("tuned by hand\n")
    order = {"files": [file(tmp_path / "theirs", "mine, new\n", mark="mine"), file(tmp_path / "other")]}
    before = tree(tmp_path)
    for check in (True, False):
        result = write(check=check, **order)
        assert (result["changed"], result["unmarked"]) == (False, [str(tmp_path / "theirs")])
        assert tree(tmp_path) == before
    checked = write(check=True, unmarked="keep", **order)
    assert write(unmarked="keep", **order) == checked
    copy = tmp_path / "theirs.before"
    assert copy.read_text() == "tuned by hand\n" and copy.stat().st_mode == before["theirs"][0]
    assert (tmp_path / "theirs").read_text() == "mine, new\n" and (tmp_path / "other").exists()
    # What has the mark is replaced without a word, however it has changed; the copy stays.
    (tmp_path / "theirs").write_text("mine, edited\n")
    result = write(unmarked="keep", **order)
    assert (result["changed_paths"], result["unmarked"]) == ([str(tmp_path / "theirs")], [])
    assert copy.read_text() == "tuned by hand\n"
    # The same again needs no second copy, something else does not take the first one's place.
    (tmp_path / "theirs").write_text("tuned by hand\n")
    assert write(unmarked="keep", **order)["changed"]
    (tmp_path / "theirs").write_text("tuned again\n")
    assert "theirs.before" in write(unmarked="keep", **order)["msg"]
    assert (copy.read_text(), (tmp_path / "theirs").read_text()) == ("tuned by hand\n", "tuned again\n")
    assert write(unmarked="replace", **order)["changed"] and copy.read_text() == "tuned by hand\n"


def test_no_copy_is_left_where_the_validator_fails(write, tmp_path):
    (tmp_path / "link").symlink_to("elsewhere")
    before = tree(tmp_path)
    order = {"files": [file(tmp_path / "link", "mine\n", mark="mine")], "unmarked": "keep"}
    assert "failed" in write(**order, validate="false")
    assert tree(tmp_path) == before
    assert write(**order)["changed"]
    assert os.readlink(tmp_path / "link.before") == "elsewhere"


def test_what_is_too_large_to_be_kept_is_not_replaced(write, tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "LARGEST", 3)
    (tmp_path / "theirs").write_text("tuned by hand")
    order = {"files": [file(tmp_path / "theirs", "mine\n", mark="mine")], "unmarked": "keep"}
    assert "cannot be copied" in write(**order)["msg"]
    assert (tmp_path / "theirs").read_text() == "tuned by hand"


@pytest.fixture
def busy(tmp_path):
    """An order that changes, makes and removes, and the directory it does that in."""
    base = tmp_path / "base"
    (base / "owned").mkdir(parents=True, mode=0o755)
    for name in ("changed", "removed", "owned/removed"):
        (base / name).write_text(f"old {name}\n")
    (base / "link").symlink_to("old")
    return base, {
        "directories": [
            {"path": str(base / "owned"), "mode": "0700"},
            {"path": str(base / "made/inside")},
        ],
        "files": [
            file(base / "changed", mode="0600"),
            file(base / "made/inside/new"),
            {"path": str(base / "removed"), "state": "absent"},
            {"path": str(base / "owned/removed"), "state": "absent"},
        ],
        "links": [{"path": str(base / "link"), "target": "new"}, {"path": str(base / "link2"), "target": "new"}],
    }


def test_check_mode_says_exactly_what_a_run_does(write, busy):
    base, order = busy
    before = tree(base)
    checked = write(check=True, **order)
    assert tree(base) == before
    assert checked == write(**order)
    assert tree(base) != before


def test_check_mode_bears_what_earlier_tasks_would_have_made(write, tmp_path):
    order = [file(tmp_path / "missing/x", owner="nobody-yet", group="nobody-yet")]
    assert write(check=True, files=order)["changed"]
    assert "nobody-yet does not exist" in write(files=order)["msg"]
    assert "directory does not exist" in write(files=[file(tmp_path / "missing/x")])["msg"]


def test_a_failing_validator_of_the_set_brings_everything_back(write, busy):
    base, order = busy
    before, inode = tree(base), (base / "changed").stat().st_ino
    looks = f"sh -c 'cat {base}/changed; test -e {base}/removed || echo removed is gone; exit 3'"
    result = write(validate=looks, **order)
    assert result["failed"] and not result.get("changed")
    assert result["output"] == "new\nremoved is gone"
    assert tree(base) == before
    assert (base / "changed").stat().st_ino == inode
    assert write(validate="true", **order)["changed"]


def test_a_failing_validator_of_one_file_replaces_nothing(write, busy):
    base, order = busy
    before = tree(base)
    seen = base / "../seen"
    # The validator sees the new file under its own name, beside the old one, which is still in place.
    order["files"][0]["validate"] = f"sh -c 'basename $1 > {seen}; cat $1 {base}/changed >> {seen}; false' sh %s"
    result = write(**order)
    assert str(base / "changed") in result["msg"]
    assert seen.read_text() == "changed\nnew\nold changed\n"
    assert tree(base) == before


def test_a_validator_that_is_missing_fails_cleanly(write, busy):
    base, order = busy
    before = tree(base)
    assert "cannot validate" in write(validate="/no/such/program", **order)["msg"]
    assert tree(base) == before


def test_a_validator_does_not_run_when_nothing_changes(write, tmp_path):
    write(files=[file(tmp_path / "x")])
    assert not write(files=[file(tmp_path / "x")], validate="false")["changed"]


def test_an_error_half_way_brings_everything_back(write, busy, monkeypatch):
    base, order = busy
    before, real = tree(base), os.symlink

    def full(target, path, **handles):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "symlink", full)
    assert "No space left" in write(**order)["msg"]
    assert tree(base) == before
    monkeypatch.setattr(module.os, "symlink", real)


def test_the_next_run_cleans_up_after_a_killed_one(write, busy):
    base, order = busy
    before = tree(base)
    child = os.fork()
    if child == 0:
        write(validate=f"sh -c 'kill -9 {os.getpid()}'", **order)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (base / "changed").read_text() == "new\n"
    # Nobody knows whether what is there is good: it goes back, and the set is written, validated and reported again.
    result = write(validate="false", **order)
    assert result["failed"]
    after = {name: state for name, state in tree(base).items() if not name.startswith("made")}
    assert after.pop("owned")[0] & 0o777 == 0o700
    before.pop("owned")
    assert after == before
    assert str(base / "changed") in write(**order)["changed_paths"]
    assert not list(base.rglob(f"*{STAGE}*"))


def test_runs_at_the_same_time_wait_for_each_other(write, tmp_path):
    children = []
    for number in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            results = [write(files=[file(tmp_path / "x", f"{number} {turn}\n" * 1000)]) for turn in range(10)]
            os._exit(any(result.get("failed") for result in results))
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert os.listdir(tmp_path) == ["x"]
    assert len(set((tmp_path / "x").read_text().splitlines())) == 1


def test_somebody_elses_leftovers_are_refused(write, tmp_path):
    (tmp_path / STAGE).symlink_to("/etc")
    assert "is not ours" in write(files=[file(tmp_path / "x")])["msg"]


def test_a_secret_is_nowhere_but_in_its_file(write, tmp_path, capfd):
    secret = file(tmp_path / "s", 'TOKEN="hunter22"\n', secret=True, mode="0600")
    results = [write(check=True, files=[secret]), write(files=[secret])]
    secret["content"] = 'TOKEN="hunter33"\n'
    telltale = f"sh -c 'echo line 1: $(cat {tmp_path}/s) is wrong; echo value hunter33; false'"
    results += [
        write(files=[secret], validate=telltale),
        write(files=[secret]),
        write(files=[secret | {"state": "absent", "content": None}]),
    ]
    assert [result.get("changed", False) for result in results] == [True, True, False, True, True]
    assert "line 1" in results[2]["output"]
    printed = json.dumps(results) + "".join(capfd.readouterr())
    assert "hunter" not in printed
    assert "(old content, secret)" in printed and "(new content, secret)" in printed


def test_what_only_its_owner_could_read_is_not_shown_when_it_goes(write, tmp_path):
    (tmp_path / "o").mkdir(mode=0o755)
    (tmp_path / "o/s").write_text("hunter2")
    (tmp_path / "o/s").chmod(0o600)
    (tmp_path / "o/l").write_text("hunter2")
    (tmp_path / "o/l").chmod(0o640)
    order = {
        "files": [{"path": str(tmp_path / "o/s"), "state": "absent"}],
        "links": [{"path": str(tmp_path / "o/l"), "target": "x"}],
    }
    result = write(**order)
    assert len(result["changed_paths"]) == 2
    assert "hunter" not in json.dumps(result)


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({"fils": []}, "unknown key fils"),
        ({"files": "x"}, "files: must be a list"),
        ({"files": ["x"]}, r"files\[0\]: must be a mapping"),
        ({"files": [{"content": "x"}]}, r"files\[0\]: path is required"),
        ({"files": [file("etc/x")]}, r"etc/x.*must be absolute"),
        ({"files": [file("/etc/../x")]}, "must be absolute, without"),
        ({"files": [file("/x", contnet="hunter2")]}, r"files\[0\] \(/x\): unknown key contnet"),
        ({"files": [{"path": "/x"}]}, r"\(/x\): needs exactly one of"),
        ({"files": [file("/x", source="y")]}, r"\(/x\): needs exactly one of"),
        ({"files": [file("/x", {"a": "hunter2"})]}, r"\(/x\): content must be of type str"),
        ({"files": [file("/x", mode=420)]}, r"\(/x\): mode must be of type str; quote it"),
        ({"files": [file("/x", mode="u=rw")]}, r"\(/x\): mode must be octal"),
        ({"files": [file("/x", owner=True)]}, r"\(/x\): owner must be of type"),
        ({"files": [file("/x", secret="yes")]}, r"\(/x\): secret must be of type bool"),
        ({"files": [file("/x", state="gone")]}, r"\(/x\): state must be present or absent"),
        ({"files": [file("/x", concerns="web")]}, r"\(/x\): concerns must be of type list"),
        ({"files": [file("/x", concerns=[1])]}, r"\(/x\): concerns must be a list of labels"),
        ({"files": [file("/x", validate="visudo -c")]}, r"\(/x\): validate must contain %s"),
        ({"files": [file("/x", "hunter2\ud800")]}, "/x: cannot make it"),
        ({"files": [{"path": "/x", "template": "missing.j2"}]}, "/x: cannot make it from missing.j2"),
        ({"files": [{"path": "/x", "source": "missing"}]}, "/x: cannot make it from missing"),
        ({"files": [file("/x"), file("/x")]}, "/x is listed twice"),
        ({"files": [file("/x")], "links": [{"path": "/x", "target": "y"}]}, "/x is listed twice"),
        ({"links": [{"path": "/x"}]}, r"\(/x\): target is required"),
        ({"validate": ["nginx"]}, "validate: must be a command"),
        ({"files": [file("/x", mark="y")]}, "/x: its mark is not in it"),
        ({"unmarked": "keeps"}, "unmarked: must be leave, keep or replace"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(tmp_path, order, problem):
    run = Run(tmp_path, order, check=False)
    with pytest.raises(AnsibleError, match=problem) as error:
        run.run(task_vars={})
    assert "hunter2" not in str(error.value)
    assert run.sent == []


# What Ansible's own template module and this one must make the same text of.
CORE = """#
{{ ansible_managed | comment }}
  {% if greeting %}
indented
  {%- endif %}

{% for n in [1, 2] %}
{{ n }}{% if not loop.last %},{% endif %}

{% endfor %}
{% include 't.j2' %}
{{ template_destpath | basename }} {{ [greeting] }} \\n \\\\ {{ "a\\tb" }}
{% raw %}{{ raw }}{% endraw %}


"""


def test_all_of_it_through_ansible_playbook(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/t.j2").write_text("{{ greeting }} {{ own }}\n")
    (tmp_path / "templates/core.j2").write_text(CORE)
    out = tmp_path / "out"
    task = {
        "vivarium.server.files": {
            "directories": [{"path": str(out)} | OWNER],
            "files": [
                {"path": str(out / "t"), "template": "t.j2", "vars": {"own": "{{ greeting }}"}, "concerns": ["t"]}
                | OWNER,
                {"path": str(out / "core"), "template": "core.j2", "vars": {"own": 1}} | OWNER,
                {"path": str(out / "s"), "content": "hunter2 {{ greeting }}", "secret": True, "mode": "0600"} | OWNER,
            ],
            "validate": "true",
        },
        "register": "run",
    }
    core = {"ansible.builtin.template": {"src": "core.j2", "dest": str(tmp_path / "core")}, "vars": {"own": 1}}
    proof = {
        "ansible.builtin.assert": {
            "that": ["run.concerns == (run.changed | ternary(['t'], []))", "'invocation' not in run"]
        }
    }
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"greeting": "hello"}, "tasks": [task, proof, core]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))

    def run(*options):
        command = [
            sys.executable,
            "-m",
            "ansible",
            "playbook",
            "-i",
            "localhost,",
            "-c",
            "local",
            "--diff",
            "-vvvv",
            *options,
        ]
        env = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }
        return subprocess.run(
            [*command, str(tmp_path / "play.yml")], check=True, capture_output=True, text=True, env=env
        ).stdout

    shown = run("--check") + run() + run()
    assert (out / "t").read_text() == "hello hello\n"
    assert (out / "s").read_text() == "hunter2 hello"
    assert "+hello hello" in shown and "hunter2" not in shown
    assert [shown.count(f"changed={count}") for count in (2, 0)] == [2, 1]
    assert (out / "core").read_bytes() == (tmp_path / "core").read_bytes()
