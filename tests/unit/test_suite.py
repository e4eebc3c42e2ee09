"""What Molecule lets pass, the suite must not."""

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def suite(monkeypatch, tmp_path):
    loader = importlib.machinery.SourceFileLoader("suite", str(ROOT / "tools" / "suite"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("suite", loader))
    monkeypatch.setitem(__import__("sys").modules, "suite", module)
    loader.exec_module(module)
    monkeypatch.setattr(module, "SCENARIOS", tmp_path)
    monkeypatch.setattr(module, "LOCKS", tmp_path / ".locks")
    return module


RECAP = "debian13                   : ok=1    changed={}    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0"
GOOD = [
    "INFO     nginx ➜ create: Executing",
    "localhost                  : ok=1    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0",
    "INFO     nginx ➜ check: Executing",
    RECAP.format(7),
    "INFO     nginx ➜ converge: Executing",
    RECAP.format(7),
    "INFO     nginx ➜ idempotence: Executing",
    RECAP.format(0),
    "INFO     nginx ➜ check: Executing",
    RECAP.format(0),
    "INFO     nginx ➜ verify: Executing",
    "============================== 4 passed in 1.20s ===============================",
]


def verdict(suite, lines, expected=("debian13",)):
    outcome = suite.Outcome("nginx")
    suite.judge(outcome, lines, set(expected))
    return outcome


# What Molecule printed for the scenario default: in a terminal with colours, and with TERM unset.
RECORDED = [ROOT / f"tests/unit/recorded/molecule-{kind}.txt" for kind in ("colour", "plain")]


@pytest.fixture(params=RECORDED, ids=lambda path: path.stem)
def recorded(suite, request):
    return [suite.plain(line) for line in request.param.read_text().splitlines(keepends=True)]


def test_what_molecule_prints_is_understood(suite, recorded):
    outcome = verdict(suite, recorded, ("debian12", "debian13"))
    assert not outcome.problems
    assert (outcome.hosts, outcome.tests) == (2, 35)
    assert [step for line in recorded if (step := suite.step_of(line))] == [
        "destroy", "create", "prepare", "check", "converge", "idempotence", "check", "side_effect", "verify", "destroy",
    ]  # fmt: skip


def test_both_kinds_were_recorded(suite):
    colour, plain = (path.read_text() for path in RECORDED)
    assert "\x1b[" in colour and "➜" in colour
    assert "\x1b[" not in plain and "➜" not in plain


def test_what_molecule_lets_pass_is_found_in_what_it_prints(suite, recorded):
    def changed(old, new, nth):
        places = [number for number, line in enumerate(recorded) if old in line]
        lines = [*recorded]
        lines[places[nth]] = lines[places[nth]].replace(old, new)
        return ", ".join(verdict(suite, lines, ("debian12", "debian13")).problems)

    # debian12's recaps are those of check, converge, idempotence and check.
    assert "converge left out debian12" in changed("debian12                   : ok", "elsewhere   : ok", 1)
    assert "check mode announces changes" in changed("ok=1    changed=0", "ok=1    changed=2", -1)
    assert not changed("ok=1    changed=0", "ok=1    changed=2", 0)
    assert "not every test was executed" in changed("35 passed", "34 passed, 1 skipped", 0)
    assert "no test was executed" in changed("35 passed", "no tests ran", 0)


def test_words_that_are_not_understood_are_a_failure_of_their_own(suite):
    lines = [line.replace("Executing", "Running") for line in GOOD]
    (problem,) = verdict(suite, lines).problems
    assert "no step begins in Molecule's output" in problem


def test_a_developers_environment_does_not_change_what_is_tested(suite, monkeypatch):
    for key in ("PYTEST_ADDOPTS", "ANSIBLE_STDOUT_CALLBACK", "MOLECULE_DEBUG", "MOLECULE_IMAGE", "HTTPS_PROXY"):
        monkeypatch.setenv(key, "own")
    given = {key for key, value in suite.environment("nginx").items() if value == "own"}
    assert given == {"MOLECULE_IMAGE", "HTTPS_PROXY"}


def test_a_good_run_passes(suite):
    outcome = verdict(suite, GOOD)
    assert not outcome.problems
    assert (outcome.hosts, outcome.tests) == (1, 4)


@pytest.mark.parametrize(
    ("place", "line", "complaint"),
    [
        (6, "[DEPRECATION WARNING]: The bare variable will go in version 2.24.", "will no longer know"),
        (5, "skipping: no hosts matched", "reached no host"),
        (9, RECAP.format(1), "check mode announces changes"),
        (11, "WARNING  nginx ➜ verify: Skipping, no tests found.", "no test was executed"),
        (
            11,
            "============================ no tests ran in 0.01s =============================",
            "no test was executed",
        ),
        (11, "======================== 4 passed, 1 skipped in 1.20s =========================", "not every test"),
        (11, "======================= 4 passed, 1 deselected in 1.20s =======================", "not every test"),
    ],
)
def test_what_tested_nothing_fails(suite, place, line, complaint):
    lines = [*GOOD[:place], line, *GOOD[place + 1 :]]
    assert complaint in ", ".join(verdict(suite, lines).problems)


def test_a_host_left_out_fails(suite):
    assert verdict(suite, GOOD, ("debian12", "debian13")).problems == ["converge left out debian12"]


def test_hosts_outside_every_group_need_no_play(suite, tmp_path):
    config = tmp_path / "instance_config.yml"
    config.write_text(
        json.dumps([{"instance": "web", "groups": ["web_servers"]}, {"instance": "visitor", "groups": []}])
    )
    assert suite.expected_hosts(config) == {"web"}
    config.write_text(json.dumps([{"instance": "debian12", "groups": []}, {"instance": "debian13", "groups": []}]))
    assert suite.expected_hosts(config) == {"debian12", "debian13"}


def test_an_incomplete_directory_fails(suite, tmp_path):
    (tmp_path / "nginx").mkdir()
    assert suite.discover([]) == ["nginx"]
    assert suite.run_scenario("nginx", keep=False, verbose=False).problems == [
        "no molecule.yml",
        "no converge.yml",
        "no tests",
    ]


def test_an_unknown_name_fails(suite):
    with pytest.raises(SystemExit, match="no such scenario: ngnix"):
        suite.discover(["ngnix"])
