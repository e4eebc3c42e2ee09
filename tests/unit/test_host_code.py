"""How the collection's modules reach a host: what is sent, and what comes back."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed
from ansible_collections.vivarium.server.plugins.plugin_utils import host_code

ROOT = Path(__file__).resolve().parents[2]
CARRIER = (ROOT / "plugins/modules/host_code.py").read_text()
# Those whose code goes to a host: not what carries it, and not what stays on the controller.
MODULES = sorted({path.stem for path in (ROOT / "plugins/modules").glob("*.py")} - {"host_code", "init"})
# Python without what is installed beside it, so without ansible-core: all that a host is sure to have.
PYTHON = [sys.executable, "-S", "-"]


class Carried(host_code.HostAction):
    """An action whose module runs here, in a Python of its own, as it does on a host."""

    run = None

    def __init__(self, folder):
        self.folder = folder

    def _execute_module(self, module_name, module_args, task_vars):
        assert module_name == "vivarium.server.host_code"
        arguments = {**module_args, "_ansible_check_mode": False, "_ansible_diff": False, "_ansible_no_log": True}
        text = CARRIER.replace("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>", json.dumps(arguments))
        done = subprocess.run(PYTHON, input=text, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return json.loads(done.stdout) | {"rc": done.returncode}


@pytest.fixture
def carry(tmp_path, monkeypatch):
    """Run the texts of modules on a host, each with the same parameters."""

    def run(*texts, parameters=None):
        modules = {f"probe{number}": text for number, text in enumerate(texts)}
        names = {
            f"ansible_collections.vivarium.server.plugins.module_utils.{name}": text for name, text in modules.items()
        }
        monkeypatch.setattr(host_code, "CODE", {name: name for name in modules})
        names |= host_code.sources("plugins.module_utils.host_code")
        monkeypatch.setattr(host_code, "sources", lambda _name: names)
        return Carried(tmp_path).on_host(dict.fromkeys(modules, parameters), {})

    return run


def test_a_module_gets_its_parameters_and_returns_its_result(carry):
    parameters = {"text": 'quotes """ and \\ and \n and ☃ and {{ braces }}', "list": [1, None, True]}
    text = (
        "def main(parameters, check_mode, diff):\n"
        "    return {'changed': True, 'parameters': parameters, 'mode': [check_mode, diff]}\n"
    )
    assert carry(text, parameters=parameters) == {
        "changed": True, "parameters": parameters, "mode": [False, False], "rc": 0,
    }  # fmt: skip


CHANGES = "def main(*_, **__):\n    return {'changed': True, 'made': [1], 'both': 1}\n"
LOOKS = "def main(*_, **__):\n    return {'changed': False, 'seen': [2], 'both': 2}\n"
FAILS = "def main(*_, **__):\n    raise OSError('no such shop')\n"


def test_modules_run_one_after_the_other_and_their_results_are_one(carry):
    assert carry(CHANGES, LOOKS) == {"changed": True, "made": [1], "seen": [2], "both": 2, "rc": 0}


def test_no_module_follows_one_that_failed(carry, tmp_path):
    result = carry(CHANGES, FAILS, f"def main(*_, **__):\n    open({str(tmp_path / 'third')!r}, 'w')\n")
    assert (result["failed"], result["changed"], result["msg"]) == (True, True, "no such shop")
    assert not (tmp_path / "third").exists()


def test_a_module_ends_with_a_message(carry):
    text = (
        f"from {Failed.__module__} import Failed\ndef main(*_, **__):\n    raise Failed('no such shop', step='build')\n"
    )
    assert carry(text) == {"failed": True, "changed": False, "msg": "no such shop", "step": "build", "rc": 1}


def test_a_text_that_is_none_costs_no_result(carry):
    """Ansible refuses a result whole that holds half of a pair of surrogates, which JSON can name."""
    text = "def main(*_, **__):\n    return {'changed': False, 'said': 'a\\ud800\\udc80b ☃'}\n"
    assert carry(text) == {"changed": False, "said": "a??b ☃", "rc": 0}


def test_a_mistake_in_a_module_shows_where(carry):
    result = carry("def main(*_, **__):\n    return {}[17]\n")
    assert (result["failed"], result["msg"], result["rc"]) == (True, "17", 1)
    assert "module_utils.probe" in result["exception"] and "return {}[17]" in result["exception"]


def test_a_path_without_what_root_needs_is_no_obstacle(carry, monkeypatch):
    """As su leaves it, where whoever logs in is not root."""
    monkeypatch.setenv("PATH", "/opt/own/bin:/usr/bin")
    text = "import os\ndef main(parameters, check_mode, diff):\n    return {'changed': False, 'path': os.environ['PATH']}\n"
    assert carry(text)["path"] == "/opt/own/bin:/usr/bin:/usr/sbin:/sbin:/bin"


def test_the_directory_of_whoever_logs_in_is_not_imported_from(carry, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "zlib.py").write_text("raise SystemExit('imported')\n")
    assert carry("def main(*_, **__):\n    return {'changed': False}\n")["rc"] == 0


@pytest.mark.parametrize("name", MODULES)
def test_all_that_a_module_imports_is_sent(name):
    texts = host_code.sources(host_code.code_of(name))
    check = f"import sys\nsys.meta_path.insert(0, Sources({texts!r}))\nfor name in {list(texts)}: importlib.import_module(name)\n"
    text = CARRIER.replace('if __name__ == "__main__":', "if False:") + check
    done = subprocess.run(PYTHON, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_what_a_module_imports_is_sent():
    sent = {name.rpartition("module_utils.")[2] for name in host_code.sources(host_code.code_of("files"))}
    assert sent == {
        "host_code",
        *(f"_files.{part}" for part in ("files", "folders", "changes", "stage", "tell", "write")),
    }


# What files takes is checked by test_files.py.
@pytest.mark.parametrize("name", sorted({*MODULES, "init"} - {"files"}))
def test_options_are_taken_as_they_are_documented(name):
    action = importlib.import_module(f"ansible_collections.vivarium.server.plugins.action.{name}").ActionModule
    module = importlib.import_module(f"ansible_collections.vivarium.server.plugins.modules.{name}")
    assert action.argument_spec == spec_of(yaml.safe_load(module.DOCUMENTATION)["options"])


def spec_of(options):
    """An argument_spec from documented options."""
    return {name: dict(described(option)) for name, option in options.items()}


def described(option):
    for key in ("type", "elements", "choices", "default", "required"):
        if key in option:
            yield key, option[key]
    if "suboptions" in option:
        yield "options", spec_of(option["suboptions"])
