"""What the scanners of `make scan` report must not be taken for better than it is."""

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("recorded") / "scan"
UNREADABLE = ["", "null", "{}", "[1]", '[{"id": "overall_grade"}]', "Traceback (most recent call last):", "[", '"A+"']


@pytest.fixture
def scan(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("scan", str(ROOT / "tools" / "scan"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("scan", loader))
    monkeypatch.setitem(__import__("sys").modules, "scan", module)
    loader.exec_module(module)
    return module


def recorded(name):
    return (RECORDED / name).read_text()


def changed(report, key, value, **findings):
    """A report in which the findings whose `key` is `value` say something else, or one more stands in it."""
    found = json.loads(report)
    fitting = [each for each in found if each[key] == value]
    if not fitting:
        fitting = [{**found[0], key: value}]
        found += fitting
    for each in fitting:
        each.update(findings)
    return json.dumps(found)


def test_sslyze_has_to_say_that_the_server_is_compliant(scan):
    good = recorded("sslyze.txt")
    assert scan.sslyze_verdict(good).problems == []
    assert scan.sslyze_verdict("").problems
    assert scan.sslyze_verdict(good.partition("COMPLIANCE")[0]).problems
    bad = good.replace(
        "OK - Compliant.", "FAILED - Not compliant.\n        * tls_versions: TLS versions {'TLSv1'} are supported"
    )
    assert scan.sslyze_verdict(bad).problems == ["tls_versions: TLS versions {'TLSv1'} are supported"]
    assert scan.sslyze_verdict(good.replace("OK - Compliant.", "FAILED - Not compliant.")).problems
    assert scan.sslyze_verdict(good.replace("OK - Compliant.", "ERROR - Scan did not run successfully.")).problems


def test_sslyze_has_an_older_profile_and_must_not_have_seen_what_the_newer_forbids(scan):
    old = recorded("sslyze.txt").replace("TLS_ECDHE_ECDSA_WITH_AES_128", "TLS_DHE_RSA_WITH_AES_128")
    assert scan.sslyze_verdict(old).problems == ["TLS_DHE_RSA_WITH_AES_128_GCM_SHA256 is not in version 6.0"]


def test_testssl_has_to_give_the_best_grade_and_find_nothing(scan):
    good = recorded("testssl.json")
    verdict = scan.testssl_verdict(good)
    assert verdict.problems == []
    assert verdict.said.startswith("A+") and verdict.said.endswith("left out: cert_revocation, engine_problem")
    worse = changed(good, "id", "overall_grade", finding="A")
    assert scan.testssl_verdict(worse).problems == ["the grade is A, not A+"]
    ungraded = json.dumps([each for each in json.loads(good) if each["id"] != "overall_grade"])
    assert scan.testssl_verdict(ungraded).problems == ["the grade is none, not A+"]


@pytest.mark.parametrize("severity", ["MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL", "UNHEARD-OF"])
def test_what_testssl_finds_counts_unless_it_is_left_out_by_name(scan, severity):
    good = recorded("testssl.json")
    found = changed(good, "id", "BREACH", severity=severity, finding="gzip")
    assert scan.testssl_verdict(found).problems == [f"BREACH: {severity}, gzip"]
    found = changed(good, "id", "cert_revocation_2", severity=severity, finding="revoked")
    assert scan.testssl_verdict(found).problems == [f"cert_revocation_2: {severity}, revoked"]


@pytest.mark.parametrize("report", UNREADABLE)
def test_a_report_of_testssl_that_is_empty_or_broken_is_not_good(scan, report):
    assert scan.testssl_verdict(report).problems


@pytest.fixture
def forks():
    return {name: recorded(f"{name}.json") for name in ("gixy-ng", "gixy-next")}


def test_what_gixy_finds_has_a_reason(scan, forks):
    assert scan.gixy_verdict(forks).problems == []


@pytest.mark.parametrize("fork", ["gixy-ng", "gixy-next"])
@pytest.mark.parametrize("report", UNREADABLE)
def test_a_report_of_gixy_that_is_empty_or_broken_is_not_good(scan, forks, fork, report):
    assert scan.gixy_verdict({**forks, fork: report}).problems
    assert scan.gixy_verdict({**forks, fork: "[]"}).problems, "it has not read what has findings"


def test_a_finding_without_a_reason_counts_and_so_does_one_elsewhere(scan, forks):
    one_more = {"plugin": "host_spoofing", "severity": "MEDIUM", "summary": "The Host header is forged", "config": "x"}
    forks["gixy-ng"] = json.dumps([*json.loads(forks["gixy-ng"]), one_more])
    assert scan.gixy_verdict(forks).problems == ["gixy-ng: host_spoofing, MEDIUM: The Host header is forged"]


@pytest.mark.parametrize(
    ("fork", "plugin", "more"),
    [
        (
            "gixy-next",
            "filesystem_root_exposure",
            "\n\nserver {\n\tserver_name shop.test;\n\tlocation / {\n\t\troot /;\n\t}\n}",
        ),
        ("gixy-next", "filesystem_root_exposure", "\n\nserver {\n\tserver_name shop.test;\n\troot /;\n}"),
        ("gixy-ng", "missing_resolver", "\n\nserver {\n\tlocation / {\n\t\tproxy_pass http://$host;\n\t}\n}"),
        ("gixy-ng", "http2_misdirected_request", "\n\nserver {\n\tserver_name shop.test;\n}"),
    ],
)
def test_a_reason_is_for_one_place(scan, forks, fork, plugin, more):
    found = json.loads(forks[fork])
    next(each for each in found if each["plugin"] == plugin)["config"] += more
    problems = scan.gixy_verdict({**forks, fork: json.dumps(found)}).problems
    assert any(problem.startswith(f"{fork}: {plugin}, ") for problem in problems)


def test_a_waiver_that_nothing_needs_is_named(scan, forks):
    found = [each for each in json.loads(forks["gixy-ng"]) if each["plugin"] != "try_files_is_evil_too"]
    problems = scan.gixy_verdict({**forks, "gixy-ng": json.dumps(found)}).problems
    assert problems == ["gixy-ng: nothing needs the waiver of try_files_is_evil_too"]


def test_the_second_client_has_to_be_served_while_slowhttptest_is_at_work(scan):
    output, served = recorded("slowhttptest.txt"), [("200", 0.1)] * 200
    assert scan.slow_verdict(output, served).problems == []
    assert scan.slow_verdict(output, [*served, ("503", 0.1)]).problems == ["the second client got 503 (1)"]
    assert scan.slow_verdict(output, [*served, ("TimeoutError", 10.0)]).problems == [
        "the second client got TimeoutError (1)",
        "the second client waited 10.0 s",
    ]
    assert scan.slow_verdict(output, []).problems == ["the second client had 0 answers"]


@pytest.mark.parametrize(
    "output", ["", "error: cannot resolve", "connected:           2\nerror:               0\nclosed:              3\n"]
)
def test_an_attack_that_did_not_take_place_proves_nothing(scan, output):
    assert "proves nothing" in scan.slow_verdict(output, [("200", 0.1)] * 200).problems[0]


def test_a_scanner_that_cannot_look_makes_the_whole_fail(scan, monkeypatch, capsys):
    def absent():
        raise scan.ScanError("sslyze==6.3.1 cannot be had from the package index")

    monkeypatch.setattr("sys.argv", ["scan", "--again", "--keep"])
    monkeypatch.setattr(
        scan, "SCANNERS", {"testssl": lambda: scan.Verdict("A+"), "slow": lambda: scan.Verdict("served")}
    )
    assert scan.main() == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["ok     testssl: A+", "ok     slow: served"]
    scan.SCANNERS["testssl"] = absent
    assert scan.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FAILED testssl: did not look: sslyze==6.3.1 cannot be had from the package index"
    assert lines[1:] == ["ok     slow: served", "scan: 1 of 2 failed; their reports are in .cache/scan"]
