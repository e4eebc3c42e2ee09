"""What `django-admin startproject` writes, unchanged, in production: each heading of Django's page, and what the gate refuses.

The tests run in their order; those that deploy do so on both hosts at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from visitor import Visitor

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
PLACE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
SHOP = yaml.safe_load((PROJECT / "molecule/checklist/inventory/group_vars/all.yml").read_text())["shop"]
DOMAIN = "shop.example.test"
FIRST_KEY = SHOP["secrets"]["SECRET_KEY"]
SECOND_KEY = "nobody-signs-anything-real-with-the-second-key-0987654321"
PASSWORD = "a long enough phrase 42"
# An ASGI middleware, as one from a package would be.
WRAP = """
class Marked:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-marked", b"yes")]
            await send(message)

        await self.app(scope, receive, marked)
"""

# The page's headings, as Django has them.
HEADINGS = [
    "Run manage.py check --deploy", "Switch away from manage.py runserver", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "CACHES",
    "DATABASES", "MAILERS, EMAIL_BACKEND and related settings", "STATIC_ROOT and STATIC_URL", "MEDIA_ROOT and MEDIA_URL", "HTTPS",
    "CSRF_COOKIE_SECURE", "SESSION_COOKIE_SECURE", "Sessions", "CONN_MAX_AGE", "TEMPLATES", "LOGGING", "ADMINS and MANAGERS",
    "Customize the default error views",
]  # fmt: skip


def play(playbook, *options, **variables):
    """Run a playbook as a user does; returns its exit code and output."""
    run = subprocess.run(
        ["ansible-playbook", "-i", str(INVENTORY), str(PROJECT / playbook), "-e", json.dumps(variables), *options],
        cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert FIRST_KEY not in run.stdout and SECOND_KEY not in run.stdout
    return run.returncode, run.stdout


def deploy(**variables):
    return play("molecule/checklist/deploy.yml", **variables)


def variant(hosts, name, files):
    """The projects of all hosts with other files, or with lines added to ones that are there (+)."""
    sources = {}
    for host in hosts:
        sources[host] = str(PLACE / f"{host}.{name}")
        shutil.rmtree(sources[host], ignore_errors=True)
        shutil.copytree(PLACE / host, sources[host], ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in files.items():
            file = Path(sources[host], path.removeprefix("+"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((file.read_text() + text) if path.startswith("+") else text)
    return sources


def live(host):
    return host.check_output("basename $(readlink /srv/shop/live)")


def report(host):
    return json.loads(host.check_output("cat /srv/shop/live/checklist.json"))


def shell(host, code):
    return host.check_output(f"shop-manage shell --command {shlex.quote(code)}")


@pytest.fixture(scope="module")
def admins(hosts):
    """A superuser's browser on each host, signed in at the admin."""
    browsers = {}
    for name, host in hosts.items():
        shell(host, (
            "from django.contrib.auth import get_user_model as model\n"
            f"model().objects.filter(username='ann').exists() or model().objects.create_superuser('ann', '', '{PASSWORD}')"
        ))  # fmt: skip
        browsers[name] = Visitor(host, "127.0.0.1", DOMAIN, "ann")
        page = sign_in(browsers[name])
        assert "Log out" in page or "logout" in page, page[:500]
    return browsers


def sign_in(browser, origin=f"https://{DOMAIN}"):
    url = "/admin/login/?next=/admin/"
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.page(url))[1]
    form = {"username": "ann", "password": PASSWORD, "csrfmiddlewaretoken": token}
    words = [word for name, value in form.items() for word in ("--data-urlencode", f"{name}={value}")]
    return browser.curl(
        url, "--location", "--header", f"Origin: {origin}", "--referer", f"{origin}/admin/login/", *words
    ).stdout


def is_signed_in(browser):
    return browser.status("/admin/") == 200


def test_the_project_is_as_startproject_wrote_it(hosts):
    for name, host in hosts.items():
        for path in ("shop/settings.py", "shop/asgi.py", "manage.py"):
            ours = hashlib.sha256((PLACE / name / path).read_bytes()).hexdigest()
            assert host.file(f"/srv/shop/live/code/{path}").sha256sum == ours
        settings = (PLACE / name / "shop/settings.py").read_text()
        assert "DEBUG = True" in settings and "ALLOWED_HOSTS = []" in settings
        assert ("MAILERS" in settings) == (name == "debian13"), "each host has a Django of its own"


def test_every_heading_of_djangos_page_is_proven(host):
    found = report(host)
    assert [each["title"] for each in found["headings"]] == HEADINGS
    states = {each["title"]: each["state"] for each in found["headings"]}
    # The test hosts have no mail server, and say so.
    assert states.pop("MAILERS, EMAIL_BACKEND and related settings") == "waived"
    assert set(states.values()) == {"proven"}, found
    waived = {each["id"]: each["reason"] for heading in found["headings"] for each in heading["waived"]}
    assert waived["vivarium.I019"] == "the test hosts have no mail server"
    assert set(waived) == {"vivarium.I019", "security.W005", "security.W021"}, "nothing that could be set was waived"


def test_django_itself_has_nothing_to_say_in_the_live_release(host):
    run = host.run("shop-manage check --deploy --database default")
    said = set(re.findall(r"\((\w+\.\w\d+)\)", run.stdout + run.stderr))
    assert run.rc == 0 and said == {"security.W005", "security.W021"}, run.stderr


def test_the_report_notices_what_is_no_longer_so(host):
    """A proof that could not fail would prove nothing."""
    # For ten seconds after a switch the report asks the application on its socket, not through nginx.
    since = json.loads(host.check_output("cat /srv/shop/live/release.json"))["live_since"]
    time.sleep(max(0, since + 11 - time.time()))
    host.check_output("systemctl stop shop-clearsessions.timer nginx && chmod 644 /srv/shop/live/env")
    try:
        code, output = play(
            "playbooks/status.yml", "--limit", host.backend.name.rsplit("-", 1)[1], status_format="json"
        )
        assert code == 0
        failed = set(re.findall(r"state: failed\n\s+title: (.+)", output))
        assert {"Sessions", "HTTPS", "SECRET_KEY", "STATIC_ROOT and STATIC_URL", "DEBUG"} <= failed, output
    finally:
        host.check_output("systemctl start shop-clearsessions.timer nginx && chmod 600 /srv/shop/live/env")


def test_cookies_are_secure_and_the_admin_works_over_https(hosts, admins):
    for name, host in hosts.items():
        jar = host.check_output("cat /tmp/ann.cookies")
        # Netscape's format: domain, subdomains, path, secure, expiry, name, value.
        secure = {line.split("\t")[5]: line.split("\t")[3] for line in jar.splitlines() if line.count("\t") == 6}
        assert secure == {"csrftoken": "TRUE", "sessionid": "TRUE"}
        assert is_signed_in(admins[name])


def test_a_form_from_another_origin_is_refused(hosts):
    for host in hosts.values():
        assert "CSRF verification failed" in sign_in(
            Visitor(host, "127.0.0.1", DOMAIN, "other"), "https://evil.example.test"
        )


def test_a_missing_page_shows_nothing_and_stands_in_the_journal(host):
    browser = Visitor(host, "127.0.0.1", DOMAIN)
    assert browser.status("/no-such-page/") == 404
    assert "DEBUG" not in browser.curl("/no-such-page/").stdout
    assert "WARNING django.request: Not Found: /no-such-page/" in host.check_output(
        "journalctl -p warning -u 'shop@*' -o cat"
    )


def test_expired_sessions_are_removed(host):
    code = (
        "from django.contrib.sessions.models import Session\n"
        "from django.utils import timezone\n"
        "Session.objects.create(session_key='old', session_data='x', expire_date=timezone.now() - timezone.timedelta(days=1))"
    )
    shell(host, code)
    count = "from django.contrib.sessions.models import Session; print('old:', Session.objects.filter(session_key='old').count())"
    assert "old: 1" in shell(host, count)
    host.check_output("systemctl start shop-clearsessions.service")
    assert "old: 0" in shell(host, count)
    assert host.check_output("systemctl is-active shop-clearsessions.timer") == "active"


def refused(hosts, before, ids, **variables):
    """A deploy that the gate stops on each host, with these messages, all at once; the release before serves on."""
    code, output = deploy(**variables)
    assert code != 0
    for name, host in hosts.items():
        said = re.findall(rf"^fatal: \[{name}\].*?(?=^TASK|^PLAY|\Z)", output, re.M | re.S)
        assert any('failed at the step "check"' in message for message in said), output
        shown = re.findall(
            rf"Show what the step printed\][^\n]*\nok: \[{name}\] =>(.*?)(?=^TASK|^PLAY|\Z)", output, re.M | re.S
        )
        text = "\n".join(yaml.safe_load(shown[-1])["msg"])
        failed = set(re.findall(r"^\s+(\w+\.[EW]\d{3})  ", text.split("waived:")[0], re.M))
        # Of Django 6.1 alone.
        assert failed - {"mail.E001"} == ids, said
        assert live(host) == before[name]
        assert Visitor(host, "127.0.0.1", DOMAIN, "after").status("/admin/login/") == 200


def test_an_environment_that_is_not_for_production_is_refused(hosts):
    before = {name: live(host) for name, host in hosts.items()}
    changes = {
        "env": {
            "ADMINS": "",
            "ALLOWED_HOSTS": "*",
            "DEBUG": "true",
            "DATABASE_POOL_SIZE": "40",
        },
        "secrets": {"SECRET_KEY": "short"},
    }
    refused(hosts, before, {
        "security.W009", "security.W018", "vivarium.E001", "vivarium.E003", "vivarium.W007", "vivarium.W008",
    }, changes=changes)  # fmt: skip


def test_a_projects_own_settings_go_through_the_same_gate(hosts):
    """Without vivarium_settings: what startproject writes is for development, and kept connections are no better."""
    before = {name: live(host) for name, host in hosts.items()}
    lines = (
        "\nimport os\nDEBUG = False\nSECRET_KEY = os.environ['SECRET_KEY']\nALLOWED_HOSTS = ['shop.example.test']\n"
        "STATIC_ROOT = os.environ['STATIC_ROOT']\nSTATIC_URL = '/static/'\nMEDIA_ROOT = STATIC_ROOT + '/media'\n"
        "SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True\nSECURE_HSTS_SECONDS = 60\n"
        "SERVER_EMAIL = DEFAULT_FROM_EMAIL = 'shop@example.test'\nADMINS = [('Ann', 'ann@example.test')]\n"
        "MAILERS = {'default': {}}\nSESSION_ENGINE = 'django.contrib.sessions.backends.cached_db'\n"
        "DATABASES['default'] = {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'shop',\n"
        "  'USER': os.environ['DATABASE_URL'].split(':')[1].strip('/'),\n"
        "  'CONN_MAX_AGE': 60, 'HOST': '/var/run/postgresql',\n"
        "  'PASSWORD': os.environ['DATABASE_URL'].split(':')[2].split('@')[0].replace('%20', ' ')}\n"
    )
    changes = {"vivarium_settings": False, "waivers": {"vivarium.E999": "no such check"}}
    refused(
        hosts, before, {"vivarium.E002", "vivarium.E006", "vivarium.E010", "vivarium.E023"},
        sources=variant(hosts, "own", {"+shop/settings.py": lines}), changes=changes,
    )  # fmt: skip


ASGI = """
import os
{}
from django.conf import settings
from django.core.asgi import get_asgi_application
application = get_asgi_application()
{}
"""


def test_settings_that_the_callable_chooses_itself_are_refused(hosts):
    before = {name: live(host) for name, host in hosts.items()}
    code = ASGI.format("os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'", "")
    refused(
        hosts, before, {
            "vivarium.E031", "security.W004", "security.W008", "security.W009", "security.W012", "security.W016", "security.W018",
            "security.W020", "vivarium.W007", "vivarium.W008", "vivarium.E009", "vivarium.E012", "vivarium.E022", "vivarium.E026",
        }, sources=variant(hosts, "chosen", {"shop/asgi.py": code}),
    )  # fmt: skip


def test_an_instance_that_runs_with_something_else_than_was_checked_is_refused(hosts):
    """By what a server alone has: the gate, which imports the same, does not see it."""
    before = {name: live(host) for name, host in hosts.items()}
    code = ASGI.format(
        "", "if 'RUNTIME_DIRECTORY' in os.environ:\n    settings.DEBUG, settings.SECRET_KEY = True, 'x' * 60"
    )
    code, output = deploy(sources=variant(hosts, "later", {"shop/asgi.py": code}))
    assert code != 0
    output = " ".join(output.split())
    for name, host in hosts.items():
        assert re.search(
            rf'{name}.{{,400}}failed at the step "start".{{,200}}does not run with what was checked', output
        ), output
        assert live(host) == before[name]
        assert Visitor(host, "127.0.0.1", DOMAIN).status("/admin/login/") == 200
    assert (
        "DEBUG is true, and was false when it was checked; SECRET_KEY is another" in output and "xxxxxx" not in output
    )


def test_nobody_but_root_can_ask_what_an_instance_runs_with(hosts):
    for host in hosts.values():
        token = host.check_output("cat /srv/shop/live/lib/vivarium_token")
        ask = ("--header", f"X-Vivarium-Ask: {token}")
        assert '"SECRET_KEY"' in host.check_output(
            f"curl --silent --unix-socket /srv/shop/live/socket --header 'X-Vivarium-Ask: {token}' http://{DOMAIN}/"
        )
        browser = Visitor(host, "127.0.0.1", DOMAIN)
        answer = browser.curl("/no-such-page/", *ask).stdout
        assert "Not Found" in answer and "SECRET_KEY" not in answer
        for user in ("nobody", "admin"):
            assert host.run(f"runuser -u {user} -- cat /srv/shop/live/lib/vivarium_token").rc != 0


def test_an_upload_that_visitors_cannot_get_is_named(hosts, tmp_path):
    make = "import os, tempfile; d = '/srv/shop/media/made'; os.makedirs(d, exist_ok=True); f, p = tempfile.mkstemp(dir=d); {}"
    for host in hosts.values():
        host.check_output(
            f"shop-manage shell --command {shlex.quote(make.format('os.replace(p, d + chr(47) + str(1))'))}"
        )
        assert Visitor(host, "127.0.0.1", DOMAIN).status("/media/made/1") == 403
    code, _output = play("playbooks/status.yml", status_file=str(tmp_path / "status.json"))
    assert code == 0
    for name, host in hosts.items():
        said = json.loads((tmp_path / "status.json").read_text())[name]["shop"]["checklist"]["headings"]
        media = next(each for each in said if each["title"].startswith("MEDIA_ROOT"))
        assert media["state"] == "failed" and "nginx cannot read /srv/shop/media/made/1" in media["how"]
        host.check_output("chmod 0640 /srv/shop/media/made/1")
        assert Visitor(host, "127.0.0.1", DOMAIN).status("/media/made/1") == 200


def test_a_waiver_without_a_reason_is_refused_before_anything_changes(hosts):
    code, output = deploy(changes={"waivers": {"vivarium.W008": " "}})
    assert code != 0 and "waivers.vivarium.W008 needs a reason" in " ".join(output.split())
    assert " changed=0 " in output and "changed: [" not in output


def https_heading(host):
    return next(each for each in report(host)["headings"] if each["title"] == "HTTPS")


def test_a_project_that_means_otherwise_of_hsts_is_told_and_visitors_get_the_inventorys(hosts):
    lines = "\nSECURE_HSTS_SECONDS = 31536000\nSECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True\n"
    code, output = deploy(sources=variant(hosts, "preload", {"+shop/settings.py": lines}))
    assert code == 0, output
    for host in hosts.values():
        heading = https_heading(host)
        assert heading["state"] == "failed", heading
        assert "settings say max-age=31536000; includeSubDomains; preload for" in heading["how"]
        assert "(hsts) says max-age=63072000," in heading["how"]
        visitor = Visitor(host, "127.0.0.1", DOMAIN)
        for path in ("/admin/login/", "/nothing/", "/static/nothing.css", "/media/nothing.png", "/static"):
            assert visitor.headers(path)["strict-transport-security"] == "max-age=63072000", path


def test_what_nginx_sends_is_compared_with_the_inventory(hosts):
    """A deploy brings the application there, and nginx is the matter of site."""
    before = {name: live(host) for name, host in hosts.items()}
    code, output = deploy(changes={"env": {"SECURE_HSTS_SECONDS": "0"}})
    assert code != 0 and "env.SECURE_HSTS_SECONDS contradicts hsts" in " ".join(output.split())
    assert "with hsts: false" in " ".join(output.split())
    assert {name: live(host) for name, host in hosts.items()} == before
    code, output = deploy(changes={"hsts": False})
    assert code == 0, output
    for host in hosts.values():
        heading = https_heading(host)
        assert heading["state"] == "failed", heading
        assert "nginx says max-age=63072000, and the inventory (hsts) none: the playbook site" in heading["how"]


def test_a_migration_that_waits_for_a_table_does_not_keep_its_readers(hosts):
    """A long transaction holds the table; whoever comes after a migration that queues for it would wait as long."""
    migration = (
        "from django.db import migrations\n\nclass Migration(migrations.Migration):\n    dependencies = []\n"
        "    operations = [migrations.RunSQL('ALTER TABLE auth_user ADD COLUMN note text', migrations.RunSQL.noop)]\n"
    )
    hold = "BEGIN; LOCK TABLE auth_user IN ACCESS SHARE MODE; SELECT pg_sleep(30);"
    # Each line is what a reader waited, in seconds.
    ask = "psql -qtc 'SELECT count(*) FROM auth_user' shop >/dev/null"
    read = f"for i in $(seq 200); do s=$(date +%s); {ask}; echo $(($(date +%s) - s)); sleep 0.3; done"
    files = {"notes/__init__.py": "", "notes/migrations/__init__.py": "", "notes/migrations/0001_note.py": migration}
    sources = variant(hosts, "notes", files | {"+shop/settings.py": "\nINSTALLED_APPS += ['notes']\n"})
    for host in hosts.values():
        host.check_output(f"systemd-run --quiet --unit=holder --uid=postgres psql -c {shlex.quote(hold)} shop")
        host.check_output(
            f"systemd-run --quiet --unit=reader --uid=postgres sh -c {shlex.quote(read + ' >/tmp/waited')}"
        )
    code, output = deploy(sources=sources)
    assert code == 0, output
    for host in hosts.values():
        assert "note" in host.check_output("runuser -u postgres -- psql -Atc '\\d auth_user' shop")
        host.check_output("systemctl stop reader.service")
        waited = [int(line) for line in host.check_output("cat /tmp/waited").split() if line.isdigit()]
        assert len(waited) > 10 and max(waited) < 12, waited


def test_a_deploy_with_a_new_key_and_more_services_keeps_everybody_signed_in(hosts, admins):
    before = {name: live(host) for name, host in hosts.items()}
    files = {
        "+shop/urls.py": "\nurlpatterns += [path('boom/', lambda request: 1 / 0)]\n",
        "shop/wrap.py": WRAP,
        "+requirements.txt": "redis>=6,<9\nsentry-sdk>=2,<3\n",
    }
    code, output = deploy(
        sources=variant(hosts, "boom", files),
        changes={
            "env": {"REDIS_URL": "redis://127.0.0.1/1"},
            "secrets": {
                "SECRET_KEY": SECOND_KEY,
                "SECRET_KEY_FALLBACKS": FIRST_KEY,
                "EMAIL_URL": "smtp://127.0.0.1:2525",
                "SENTRY_DSN": f"http://{'0' * 32}@127.0.0.1:9000/1",
            },
            "asgi_middleware": ["shop.wrap.Marked"],
            # What django-compressor's command is.
            "static": ['python -c \'import os; open(os.environ["STATIC_ROOT"] + "/made.css", "w").write("b{}")\''],
        },
    )
    assert code == 0, output
    assert "Django's deployment checklist: 19 proven of 19" in output.replace("''", "'")
    for name, host in hosts.items():
        assert live(host) != before[name] and is_signed_in(admins[name])
        assert Visitor(host, "127.0.0.1", DOMAIN).page("/static/made.css") == "b{}"


def test_cache_and_sessions_are_in_redis(hosts, admins):
    for name, host in hosts.items():
        assert is_signed_in(admins[name])
        shell(host, "from django.core.cache import cache; cache.set('greeting', 'hello')")
        keys = host.check_output("redis-cli -n 1 keys '*'")
        assert "greeting" in keys and "cached_db" in keys
        caches = next(each for each in report(host)["headings"] if each["title"] == "CACHES")
        assert "Redis" in caches["how"]


def test_middleware_of_the_inventory_wraps_the_application(hosts):
    for host in hosts.values():
        answer = host.check_output(
            "runuser -u www-data -- curl --silent --head --request GET --unix-socket /srv/shop/live/socket"
            f" --header 'X-Forwarded-Proto: https' http://{DOMAIN}/admin/login/"
        )
        assert "x-marked: yes" in answer.lower()


def test_an_error_reaches_the_journal_as_one(hosts):
    for host in hosts.values():
        # nginx may ask the release before for a few seconds.
        deadline = time.monotonic() + 60
        while (status := Visitor(host, "127.0.0.1", DOMAIN).status("/boom/")) == 404 and time.monotonic() < deadline:
            time.sleep(1)
        assert status == 500
        errors = host.check_output("journalctl -p err -u 'shop@*' -o cat")
        assert "ERROR django.request: Internal Server Error: /boom/" in errors and "ZeroDivisionError" in errors


def test_an_error_reaches_the_admins_and_sentry(hosts):
    """The one that the visit above made."""
    for host in hosts.values():
        mails = host.check_output("cat /var/lib/receiver/mails")
        assert "To: admin@example.test" in mails and f"From: root@{DOMAIN}" in mails
        assert re.search(r"^Subject: .*Internal Server Error: /boom/", mails, re.M)
        deadline = time.monotonic() + 60  # Sentry's library sends in a thread
        while "ZeroDivisionError" not in (events := host.run("cat /var/lib/receiver/events").stdout):
            assert time.monotonic() < deadline, events
            time.sleep(0.5)
        assert live(host) in events and '"environment":"production"' in events.replace(": ", ":")


def test_the_playbook_tells_how_everything_is(hosts, tmp_path):
    code, output = play("playbooks/status.yml", status_file=str(tmp_path / "status.json"))
    assert code == 0
    for name in hosts:
        assert re.search(rf"^{name} .*changed=0", output, re.M)
    data = json.loads((tmp_path / "status.json").read_text())
    for name, host in hosts.items():
        shop = data[name]["shop"]
        assert shop["live"] == live(host) and shop["since"] <= time.time()
        assert {unit["unit"]: unit["state"] for unit in shop["units"]}[f"shop@{live(host)}.service"] == "active"
        assert shop["certificate_ends"] > time.time()
        assert [each["title"] for each in shop["checklist"]["headings"]] == HEADINGS
        assert shop["checklist"]["counts"] == {"proven": 19, "waived": 0, "failed": 0, "unknown": 0}
    output = " ".join(output.split())
    assert re.search(r"proven +DEBUG: it is off, as the running instance says; a missing page answers 404", output)


def test_secrets_did_not_reach_the_journal_or_the_reports(hosts):
    for host in hosts.values():
        for secret in (FIRST_KEY, SECOND_KEY, SHOP["secrets"]["DATABASE_PASSWORD"]):
            assert host.run(f"journalctl --no-pager | grep -F {shlex.quote(secret)}").rc == 1
            assert (
                host.run(
                    f"grep -rlF {shlex.quote(secret)} /srv/shop/live/checklist.json /srv/shop/live/gate.json /srv/shop/live/lib"
                ).rc
                == 1
            )
