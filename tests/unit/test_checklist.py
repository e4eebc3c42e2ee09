"""The report on Django's checklist: what counts as proven, waived, failed or unknown."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest
from ansible_collections.vivarium.server.plugins.module_utils._asgi import checklist as module
from ansible_collections.vivarium.server.plugins.module_utils._asgi import releases as asgi
from ansible_collections.vivarium.server.plugins.module_utils._asgi import running as asgi_running

FACTS = {
    "debug": False,
    "secret_key": {"length": 60, "from_environment": True, "fallbacks": 1},
    "refuses_strangers": True,
    "strangers_are_reported": False,
    "caches": {"default": "RedisCache"},
    "sessions": "cached_db",
    "database": {
        "vendor": "postgresql", "limits": {"connections": 97, "privileges": [], "version": "17.2"}, "password_refused": True,
        "pool": 4, "connections": 16, "kept": [],
    },
    "mail": {"backend": "smtp", "host": "mail", "port": 25, "answers": True},
    "senders": ["a@b.c", "a@b.c"],
    "cookies": {"csrf": True, "session": True},
    "login": "/login/",
    "compiled_templates": True,
    "logs_to_stderr": True,
    "admins": 1,
    "managers": 0,
    "sentry": False,
    "error_pages": ["404"],
}  # fmt: skip
SITE = {
    "name": "shop", "framework": "django", "domains": ["shop.example.com"], "verify": {}, "static_url": "/static/",
    "media_url": "/media/", "timers": {"tidy": {"command": "python manage.py clearsessions"}}, "processes": {},
    "server": "uvicorn", "database": True,
}  # fmt: skip
ANSWERS = {"/login/": (200, {"Set-Cookie": "csrftoken=x; Secure; SameSite=Lax"}, "form")}
UNITS = {
    "shop@r1.service": {"ActiveState": "active", "MainPID": "self"},
    "shop-tidy.timer": {"ActiveState": "active"},
    "shop-tidy.service": {"Result": "success"},
}


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def report(tmp_path, monkeypatch):
    """The headings by title, for facts, messages, answers of the application, and states of units."""
    monkeypatch.setattr(asgi, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BACKUP_CONFIG", tmp_path / "backup.json")
    monkeypatch.setattr(module, "JOURNAL_PATIENCE", 0)
    application = asgi.Application("shop")
    release = application.release("r1")
    release.path.mkdir(parents=True)
    release.socket = str(tmp_path / "s")
    (release.path / "env").touch(mode=0o600)

    def make(facts=None, messages=(), answers=None, units=None, site=None, gate=True):
        answers, units = ANSWERS | (answers or {}), UNITS | (units or {})

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, headers, body = answers.get(self.path, (404, {}, "not here"))
                if self.headers["Host"] != "shop.example.com":
                    status, headers, body = answers.get("stranger", (400, {}, "who?"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def address_string(self):
                return "nginx"

            def log_message(self, *arguments):
                pass

        monkeypatch.setattr(module, "systemctl_show", lambda unit, *_properties: units.get(unit, {}))
        if gate:
            content = {
                "messages": messages,
                "fail_level": "WARNING",
                "made": time.time(),
                "facts": FACTS | (facts or {}),
            }
            (release.path / "gate.json").write_text(json.dumps(content))
        monkeypatch.setattr(module._Report, "server", lambda self: "uvicorn runs")
        (tmp_path / "s").unlink(missing_ok=True)
        with Server(str(tmp_path / "s"), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            found = module.checklist(application, release, SITE | (site or {}))
            server.shutdown()
        return found, {each["title"]: each for each in found["headings"]}

    return make


def state(headings, title):
    return headings[title]["state"]


def test_each_heading_has_a_state_and_says_how(report):
    found, headings = report()
    assert len(headings) == 19 and all(each["how"] for each in headings.values())
    # Without nginx on the host, what only nginx shows cannot be told.
    unknown = {title for title, each in headings.items() if each["state"] == "unknown"}
    assert unknown == {"STATIC_ROOT and STATIC_URL", "MEDIA_ROOT and MEDIA_URL", "HTTPS"}
    assert found["counts"] == {"proven": 16, "waived": 0, "failed": 0, "unknown": 3}
    said, *untold = module.summary(found)
    assert said == "Django's deployment checklist: 16 proven, 3 unknown of 19"
    assert len(untold) == 3 and untold[0] == "unknown  STATIC_ROOT and STATIC_URL: the web servers are other hosts"


@pytest.mark.parametrize(
    ("title", "seen"),
    [
        ("DEBUG", {"answers": {"nonsense": (404, {}, "because you have DEBUG = True in")}}),
        ("ALLOWED_HOSTS", {"facts": {"refuses_strangers": False}}),
        ("ALLOWED_HOSTS", {"answers": {"stranger": (200, {}, "welcome")}}),
        ("SECRET_KEY", {"facts": {"secret_key": {"length": 60, "from_environment": False, "fallbacks": 0}}}),
        ("CSRF_COOKIE_SECURE", {"answers": {"/login/": (200, {"Set-Cookie": "csrftoken=x"}, "form")}}),
        ("CSRF_COOKIE_SECURE", {"facts": {"cookies": {"csrf": False, "session": True}}}),
        ("SESSION_COOKIE_SECURE", {"facts": {"cookies": {"csrf": True, "session": False}}}),
        ("Sessions", {"units": {"shop-tidy.timer": {"ActiveState": "inactive"}}}),
        ("Sessions", {"units": {"shop-tidy.service": {"Result": "exit-code"}}}),
        ("Sessions", {"site": {"timers": {}}}),
        ("CONN_MAX_AGE", {"facts": {"database": FACTS["database"] | {"kept": ["default"]}}}),
        ("TEMPLATES", {"facts": {"compiled_templates": False}}),
        ("LOGGING", {"facts": {"logs_to_stderr": False}}),
        ("ADMINS and MANAGERS", {"facts": {"admins": 0}}),
        ("MAILERS, EMAIL_BACKEND and related settings", {"facts": {"mail": FACTS["mail"] | {"answers": False}}}),
    ],
)
def test_what_does_not_hold_has_failed(report, monkeypatch, title, seen):
    if "nonsense" in seen.get("answers", {}):
        monkeypatch.setattr(module.secrets, "token_hex", lambda _length: "x")
        seen = {"answers": {"/vivarium-probe-x": seen["answers"]["nonsense"]}}
    found, headings = report(**seen)
    assert {name for name, each in headings.items() if each["state"] == "failed"} == {title}
    assert module.summary(found)[1].startswith(f"failed   {title}: ")


def message(identifier, state, reason=None):
    return {"id": identifier, "state": state, "reason": reason, "message": "oh", "level": "WARNING"}


def test_a_waiver_covers_what_it_is_about_and_nothing_else(report):
    no_mail = {"mail": FACTS["mail"] | {"answers": False}}
    title = "MAILERS, EMAIL_BACKEND and related settings"
    waived = report(no_mail, [message("vivarium.I019", "waived", "no mail here")])[1][title]
    assert waived["state"] == "waived" and waived["waived"] == [{"id": "vivarium.I019", "reason": "no mail here"}]
    other = report(no_mail, [message("vivarium.W007", "waived", "local names")])[1][title]
    assert other["state"] == "failed"
    proven = report({}, [message("vivarium.W007", "waived", "local names")])[1][title]
    assert proven["state"] == "proven" and "waived: vivarium.W007 (local names)" in module.line_of(proven)


def test_a_message_that_failed_fails_its_heading(report):
    headings = report({}, [message("vivarium.E006", "failed")])[1]
    assert state(headings, "MEDIA_ROOT and MEDIA_URL") == "failed"


def test_what_the_application_says_of_hsts_is_compared_with_the_inventory(report):
    """The web servers are other hosts here: nginx is not asked, the application and its gate are."""
    decided = {"hsts_header": "max-age=63072000"}
    for own in ("max-age=63072000", "MAX-AGE=63072000 ;", None):
        headers = {"Strict-Transport-Security": own} if own else {}
        assert report(site=decided, answers={"/": (200, headers, "")})[1]["HTTPS"]["state"] == "unknown"
    louder = {"/": (200, {"Strict-Transport-Security": "max-age=63072000; includeSubDomains; preload"}, "")}
    heading = report(site=decided, answers=louder)[1]["HTTPS"]
    assert heading["state"] == "failed"
    assert "sends max-age=63072000; includeSubDomains; preload" in heading["how"]
    assert "(hsts) says max-age=63072000," in heading["how"]
    assert report(site={"hsts_header": ""}, answers=louder)[1]["HTTPS"]["state"] == "failed"
    # What an older version wrote says nothing of a decision.
    assert report(site={"hsts_header": None}, answers=louder)[1]["HTTPS"]["state"] == "unknown"
    difference = message("vivarium.I028", "told")
    assert report(site=decided, messages=[difference])[1]["HTTPS"]["state"] == "failed"
    waived = message("vivarium.I028", "waived", "it moves next month")
    assert report(site=decided, messages=[waived])[1]["HTTPS"]["state"] == "waived"


@pytest.mark.parametrize(
    ("decided", "page", "files", "state", "words"),
    [
        ("max-age=60", "max-age=60", "max-age=60", "proven", "which says max-age=60"),
        ("max-age=60", "max-age=9", "max-age=9", "failed", "nginx says max-age=9, and the inventory (hsts) max-age=60"),
        ("max-age=60", "max-age=60", "", "failed", "files are served with no Strict-Transport-Security"),
        ("", "max-age=9", "max-age=9", "failed", "nginx says max-age=9, and the inventory (hsts) none"),
        ("", "", "", "failed", "no Strict-Transport-Security header"),
        (None, "max-age=9", "", "proven", "max-age=9"),
    ],
)
def test_nginx_says_what_the_inventory_does(report, monkeypatch, decided, page, files, state, words):
    def site_answer(self, path, method="GET"):
        said = files if path.startswith("/static/") else page
        return 200, {"strict-transport-security": said} if said else {}, ""

    monkeypatch.setattr(module._Report, "site_answer", site_answer)
    monkeypatch.setattr(module.http.client, "HTTPConnection", lambda *_arguments, **_options: None)
    real = module.answer_of

    def answer_of(connection, path, host, **options):
        plain = (301, {"location": "https://shop.example.com/"}, "")
        return plain if connection is None else real(connection, path, host, **options)

    monkeypatch.setattr(module, "answer_of", answer_of)
    verify = {"port": 443, "http_port": 80, "domain": "shop.example.com"}
    site = {"hsts_header": decided, "verify": verify}
    heading = report(site=site)[1]["HTTPS"]
    assert heading["state"] == state and words in heading["how"], heading
    if not decided and not page:
        off = message("security.W004", "waived", "the inventory turns HSTS off (hsts)")
        assert report(site=site, messages=[off])[1]["HTTPS"]["state"] == "waived"
        plain = report(site=site | {"framework": "none", "static_url": "", "media_url": ""})[1]["HTTPS"]
        assert plain["state"] == "proven" and "turns Strict-Transport-Security off" in plain["how"]


def test_a_failed_backup_is_seen(report, tmp_path):
    def backed_up(**status):
        (tmp_path / "backup.json").write_text(json.dumps({"state_directory": str(tmp_path)}))
        (tmp_path / "status.json").write_text(json.dumps({"databases": {"shop": status}}))
        return report()[1]["DATABASES"]

    good = backed_up(result="ok", last_success="2027-01-01T02:17:00Z")
    assert good["state"] == "proven" and "2027-01-01T02:17" in good["how"]
    assert backed_up(result="failed", last_success="2027-01-01T02:17:00Z")["state"] == "failed"


def test_other_applications_have_the_headings_of_any_site(report):
    site = {"framework": "none", "database": False, "static_url": "", "media_url": ""}
    assert set(report(site=site, gate=False)[1]) == {"Checks of the deployment", "Server", "ALLOWED_HOSTS", "HTTPS"}


def test_a_release_from_before_there_was_a_report_is_unknown(report):
    assert report(gate=False)[0]["counts"]["unknown"] == 19


def test_nginx_is_asked_once_the_release_has_settled(report, monkeypatch):
    asked = []

    def refused(*arguments):
        asked.append(arguments[0])
        raise http.client.RemoteDisconnected

    monkeypatch.setattr(module, "LocalTLSConnection", refused)
    headings = report(site={"verify": {"port": 443, "http_port": 1, "domain": "shop.example.com"}})[1]
    assert state(headings, "HTTPS") == state(headings, "DEBUG") == "failed" and 443 in asked


def test_what_the_gate_was_made_to_say_is_words(report):
    """The project's own code runs in the gate: its report is data, of any form."""
    nest = "x"
    for _ in range(400):
        nest = [nest]
    messages = [
        1, {}, {"id": [], "state": {}},
        {"id": "security.W004", "state": "waived", "reason": nest, "message": None},
        {"id": "security.W009", "state": "failed", "message": "bad\n    proven   all is well\x1b[2J\ud800" + "x" * 9000},
    ]  # fmt: skip
    found, headings = report(messages=messages)
    assert headings["HTTPS"]["waived"] == [{"id": "security.W004", "reason": ""}]
    how = headings["SECRET_KEY"]["how"]
    assert how.startswith("security.W009: bad proven all is well[2Jxx") and len(how) <= module.HOW_LIMIT
    json.dumps(found, ensure_ascii=False).encode()
    assert state(report(messages={"a": 1})[1], "HTTPS") == "unknown"


def test_no_more_of_a_command_is_read_than_a_line(tmp_path, monkeypatch):
    """A process can say that its words are gigabytes."""
    command = ["sh", "-c", "sleep 60; exit", "uvicorn", *("x" * 99999 for _ in range(10))]
    with subprocess.Popen(command) as process:
        states = {"ActiveState": "active", "MainPID": str(process.pid)}
        monkeypatch.setattr(module, "systemctl_show", lambda *_: states)
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        monkeypatch.setattr(module.Path, "read_bytes", None)
        report = module._Report.__new__(module._Report)
        report.release, report.site = asgi.Application("shop").release("r1"), {"server": "uvicorn"}
        assert report.server() == "uvicorn runs as shop@r1.service"
        process.kill()


RUNNING = {
    "settings module": "vivarium_settings", "DEBUG": False, "ALLOWED_HOSTS": ["shop.example.com"], "SECRET_KEY": "a digest",
    "DATABASES": {"default": ["postgresql", "/run/postgresql", "", "shop", "shop-1"]}, "CACHES": {}, "CHANNEL_LAYERS": {},
}  # fmt: skip


@pytest.fixture
def asked(report, monkeypatch):
    """The headings for what the running instance says, or raises, of itself."""

    def make(**changes):
        monkeypatch.setattr(module, "ask", lambda *_arguments: RUNNING | changes)
        return report(facts={"running": RUNNING})[1]

    return make


def test_a_proof_is_about_the_running_instance(asked):
    found = asked()
    assert {found[title]["state"] for title in ("SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "CACHES", "DATABASES")} == {
        "proven"
    }
    assert "as the running instance says" in found["SECRET_KEY"]["how"] and "as the running" in found["DEBUG"]["how"]


@pytest.mark.parametrize(
    ("changes", "title", "said"),
    [
        ({"DEBUG": True}, "DEBUG", "DEBUG is true, and was false"),
        ({"SECRET_KEY": "another digest"}, "SECRET_KEY", "SECRET_KEY is another"),
        ({"ALLOWED_HOSTS": ["*"]}, "ALLOWED_HOSTS", 'ALLOWED_HOSTS is ["*"]'),
        ({"CACHES": {"default": ["locmem"]}}, "CACHES", "CACHES is"),
        ({"DATABASES": {"default": ["sqlite3", "", "", "x", ""]}}, "DATABASES", '["sqlite3", "", "", "x", ""]'),
    ],
)
def test_what_the_instance_has_otherwise_is_no_proof(asked, changes, title, said):
    found = asked(**changes)
    assert found[title]["state"] == "failed" and said in found[title]["how"]
    assert "another digest" not in json.dumps(found)
    assert found["SESSION_COOKIE_SECURE"]["state"] == "proven"


def test_other_settings_are_no_proof_of_anything(asked):
    found = asked(**{"settings module": "shop.settings"})
    assert {found[title]["state"] for title in ("SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "CACHES", "DATABASES")} == {
        "failed"
    }


def test_an_instance_that_does_not_say_is_not_taken_at_its_word(report, monkeypatch):
    def silence(*_arguments):
        raise http.client.HTTPException("status 404 instead of what it runs with")

    monkeypatch.setattr(module, "ask", silence)
    found = report(facts={"running": RUNNING})[1]
    assert (
        found["SECRET_KEY"]["state"] == "unknown"
        and "does not say what it runs with (status 404" in found["SECRET_KEY"]["how"]
    )


def test_a_changed_variable_is_named_without_its_value():
    said = asgi_running.differences({"secrets": {"A": "1", "B": "2"}}, {"secrets": {"A": "1", "B": "hunter2"}})
    assert said == {"secrets": "B of the environment is not as it was given"}
