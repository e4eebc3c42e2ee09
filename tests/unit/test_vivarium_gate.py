"""The gate: what each check sees, what a waiver does, and that one run tells everything at once."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "roles/asgi/files/django"
SERVER = ROOT / "roles/asgi/files/server"
SECRET = "hunter2-" + "x7Kq!" * 15
STANDING = {"security.W005": "not ours to bind", "security.W021": "not ours to list"}
CONTEXT = {
    "framework": "django", "callable": "shop.asgi:application", "secrets": ["SECRET_KEY"],
    "workers": 2, "hosts": 1, "processes": 0, "commands": [], "migrate": False, "fail_level": "WARNING", "waivers": {},
    "standing_waivers": STANDING,
}  # fmt: skip
# Nothing listens at that port.
ENVIRONMENT = {
    "SECRET_KEY": SECRET, "ALLOWED_HOSTS": "shop.example.com", "STATIC_ROOT": "/srv/x/static", "STATIC_URL": "/static/",
    "MEDIA_ROOT": "/srv/y/media", "MEDIA_URL": "/media/", "ADMINS": "ann@example.com", "EMAIL_URL": "smtp://127.0.0.1:1",
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    place = tmp_path_factory.mktemp("plain")
    subprocess.run([sys.executable, "-m", "django", "startproject", "shop", str(place)], check=True)
    return place


class Project:
    """A plain project, with more lines at the end of its settings and more files; its home lies beside it."""

    def __init__(self, plain, place):
        self.place = place / "code"
        shutil.copytree(plain, self.place)
        (place / "home").mkdir()

    def __call__(self, *lines, **files):
        with open(self.place / "shop/settings.py", "a") as settings:
            settings.write("\n" + "\n".join(lines) + "\n")
        for name, text in files.items():
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.place / name).write_text(text)
        return self.place


@pytest.fixture
def project(plain, tmp_path):
    return Project(plain, tmp_path)


def gate(place, own=False, context=None, **variables):
    """Run the gate as a deploy does; returns its report, and fails where a secret shows."""
    told = place.parent / "context.json"
    told.write_text(json.dumps(CONTEXT | (context or {})))
    way = {"DJANGO_SETTINGS_MODULE": "vivarium_settings", "VIVARIUM_PROJECT_SETTINGS": "shop.settings"}
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(place.parent / "home"), "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(SERVER), **(way if not own else {"DJANGO_SETTINGS_MODULE": "shop.settings"}),
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, str(LIBRARY / "vivarium_gate.py"), "--json", str(told)],
        cwd=place, env=environment | ENVIRONMENT | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "hunter2" not in run.stdout + run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == (0 if report["passed"] else 1)
    return report


def ids(report, state="failed"):
    return {message["id"] for message in report["messages"] if message["state"] == state}


def test_a_plain_project_passes_unchanged(project):
    report = gate(project())
    assert report["passed"] and ids(report) == set()
    assert ids(report, "waived") == set(STANDING)
    assert {"vivarium.I005", "vivarium.I019"} <= ids(report, "told")
    assert "waived: not ours to bind" in report["text"] and "passed (2 waived)" in report["text"]
    facts = report["facts"]
    assert facts["vivarium_settings"] and facts["settings"] == "shop.settings" and not facts["debug"]
    assert facts["refuses_strangers"] and not facts["strangers_are_reported"] and facts["compiled_templates"]
    assert facts["login"] == "/admin/login/" and facts["secret_key"]["from_environment"]


def test_the_same_project_without_our_settings_is_told_everything_at_once(project):
    report = gate(project(), own=True)
    assert not report["passed"]
    assert {
        "security.W004", "security.W008", "security.W009", "security.W012", "security.W016", "security.W018", "security.W020",
        "vivarium.W007", "vivarium.W008", "vivarium.E009", "vivarium.E012", "vivarium.E026",
    } <= ids(report)  # fmt: skip
    for message in report["messages"]:
        assert message["id"] in report["text"]
        if message["id"].startswith("vivarium."):
            assert message["hint"]


ASGI = """
import os
os.environ{}
from django.core.asgi import get_asgi_application
application = get_asgi_application()
"""


def test_the_checks_are_about_the_settings_that_the_callable_chooses(project):
    """A development configuration of the project's own, chosen by asgi.py against what the inventory says."""
    report = gate(project(**{"shop/asgi.py": ASGI.format("['DJANGO_SETTINGS_MODULE'] = 'shop.settings'")}))
    assert {"vivarium.E031", "security.W018", "security.W009", "vivarium.E009"} <= ids(report)
    assert report["facts"]["debug"] and report["facts"]["running"]["settings module"] == "shop.settings"
    assert "os.environ.setdefault" in report["text"]


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ('os.environ["DJANGO_SETTINGS_MODULE"] = "shop.local"', True),
        ("    os.environ['DJANGO_SETTINGS_MODULE']='shop.local'", True),
        ('# os.environ["DJANGO_SETTINGS_MODULE"] = "shop.local"', False),
        ('print(os.environ["DJANGO_SETTINGS_MODULE"] == "shop.local")', False),
        ('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.local")', False),
    ],
)
def test_a_program_of_the_project_that_chooses_settings_is_refused(project, line, refused):
    report = gate(project(**{"manage.py": f"import os\n{line}\n"}))
    assert ids(report) == ({"vivarium.E031"} if refused else set())


def test_a_callable_may_change_settings_once_they_are_made(project):
    code = ASGI.format(".setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')")
    code += "from django.conf import settings\nsettings.DEBUG = True\n"
    report = gate(project(**{"shop/asgi.py": code}))
    assert ids(report) == {"security.W018"} and report["facts"]["running"]["DEBUG"] is True


def test_what_is_noted_of_the_running_settings_holds_no_password(project):
    files = {
        "CACHES": {"default": {"BACKEND": REDIS, "LOCATION": "redis://ann:hunter2@127.0.0.1:1/0"}},
        "CHANNEL_LAYERS": {
            "one": redis_layer("redis://:hunter2@127.0.0.1:1/0"),
            "two": redis_layer(("127.0.0.1", 1)),
            "four": redis_layer("redis://127.0.0.1:1/0?password=hunter2&db=1"),
            "three": redis_layer({"address": "redis://:hunter2@127.0.0.1:2", "password": "hunter2"}),
        },
    }
    report = gate(
        project(
            *[f"{name} = {value!r}" for name, value in files.items()], "DATABASES['default']['PASSWORD'] = 'hunter2'"
        )
    )
    found = report["facts"]["running"]
    assert found["CACHES"] == {"default": [REDIS, "redis://127.0.0.1:1/0"]}
    assert [hosts[1:] for hosts in found["CHANNEL_LAYERS"].values()] == [
        ["redis://127.0.0.1:1/0"], ["127.0.0.1:1"], ["redis://127.0.0.1:1/0?password=&db=1"], ["redis://127.0.0.1:2"],
    ]  # fmt: skip
    assert found["SECRET_KEY"] != SECRET and len(found["SECRET_KEY"]) == 64


LOCAL = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
SESSIONS = "django.contrib.sessions.backends."


@pytest.fixture(scope="module")
def here(plain):
    """The gate in this process, for a plain project with changes: starting Django for each of them would take long."""
    sys.path[:0] = [str(plain), str(LIBRARY), str(SERVER)]
    own = importlib.import_module("shop.settings")
    values = {name: getattr(own, name) for name in dir(own) if name.isupper()}
    # No file: a release's place and its home do not matter here.
    values["DATABASES"] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    ours = importlib.import_module("vivarium_settings")
    conf = importlib.import_module("django.conf").settings
    conf.configure(**{name: values[name] for name in ("DATABASES", "INSTALLED_APPS", "SECRET_KEY")})
    importlib.import_module("django").setup()
    checks, run = importlib.import_module("vivarium_checks"), importlib.import_module("vivarium_gate")
    override = importlib.import_module("django.test").override_settings

    def judge(changes, variables, context):
        told = CONTEXT | context
        checks.context.update({key: told[key] for key in checks.context if key in told})
        checks.mail_answers.cache_clear()
        wanted = ours.production(values | changes, ENVIRONMENT | variables)
        del wanted["DATABASES"]
        with override(**wanted), pytest.MonkeyPatch.context() as patch:
            patch.chdir(plain)
            for name, value in variables.items():
                patch.setenv(name, value)
            return {
                message["id"] for message in run.judged(run.run_checks(False), told) if message["state"] == "failed"
            }

    yield judge
    del sys.path[:3]


REDIS = "django.core.cache.backends.redis.RedisCache"


def redis_layer(host):
    return {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [host]}}


@pytest.mark.parametrize(
    ("changes", "variables", "context", "expected"),
    [
        ({}, {}, {}, ""),
        ({"SERVER_EMAIL": "a@b.c", "DEFAULT_FROM_EMAIL": "a@b.c"}, {"ALLOWED_HOSTS": "*"}, {}, "vivarium.E001"),
        ({}, {"DEBUG": "true"}, {}, "security.W018"),
        ({}, {"SECRET_KEY": "hunter2"}, {}, "security.W009"),
        ({}, {"SECRET_KEY_FALLBACKS": "hunter2"}, {}, "security.W025"),
        ({}, {"SECRET_KEY_FALLBACKS": SECRET}, {}, "vivarium.E009"),
        ({"CACHES": LOCAL}, {}, {}, "vivarium.W004"),
        ({"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}}, {}, {}, "vivarium.W029"),
        ({"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}}, {}, {"workers": 1}, ""),
        ({"CHANNEL_LAYERS": {"default": redis_layer("redis://:hunter2@127.0.0.1:1/0")}}, {}, {}, "vivarium.W030"),
        ({"CHANNEL_LAYERS": {"default": redis_layer(("127.0.0.1", 1))}}, {}, {}, "vivarium.W030"),
        ({"CHANNEL_LAYERS": {"default": redis_layer({"address": "unix:///run/redis.sock"})}}, {}, {}, ""),
        ({"CELERY_BROKER_URL": "amqp://shop:hunter2@127.0.0.1:1//"}, {}, {}, "vivarium.W030"),
        ({"CELERY_BROKER_URL": "memory://"}, {}, {}, ""),
        (
            {"CACHES": {"default": {"BACKEND": REDIS, "LOCATION": "redis://127.0.0.1:1,unix:///run/r"}}},
            {},
            {},
            "vivarium.W030",
        ),
        ({"SESSION_ENGINE": SESSIONS + "cached_db"}, {}, {}, "vivarium.E010"),
        ({"SESSION_ENGINE": SESSIONS + "file"}, {}, {}, "vivarium.E013"),
        ({}, {"MEDIA_ROOT": "/srv/x/static/media"}, {}, "vivarium.E006"),
        ({}, {"STATIC_ROOT": "/srv/y/media/static"}, {}, "vivarium.E006"),
        ({}, {"MEDIA_URL": "/static/media/"}, {}, "vivarium.E006"),
        ({}, {"MEDIA_ROOT": "media"}, {}, "vivarium.E012"),
        ({}, {"STATIC_ROOT": ""}, {}, "vivarium.E026"),
        ({}, {"SERVER_EMAIL": "root@localhost"}, {}, "vivarium.W007"),
        ({}, {"ADMINS": ""}, {}, "vivarium.W008"),
        ({}, {"SENTRY_DSN": "https://k@sentry.example.com/1"}, {}, "vivarium.W018"),
        ({}, {}, {"waivers": {"security.W999": "no such thing"}}, "vivarium.E023"),
        ({"FILE_UPLOAD_PERMISSIONS": 0o600}, {}, {}, ""),
        ({}, {}, {"commands": [["process", "beat", "celery -A shop beat"]]}, ""),
        ({}, {}, {"hosts": 2, "commands": [["process", "beat", "celery -A shop beat"]]}, "vivarium.W033"),
        ({}, {}, {"hosts": 2, "commands": [["process", "worker", "celery -A shop worker -B"]]}, "vivarium.W033"),
        ({}, {}, {"hosts": 2, "commands": [["process", "worker", "celery -A shop worker"]]}, ""),
        ({}, {}, {"hosts": 2, "commands": [["timer", "digest", "python manage.py digest"]]}, ""),
        ({}, {}, {"waivers": {"vivarium.W033": "jobs take a lock"}}, ""),
        ({}, {}, {"waivers": {"vivarium.E999": "no such thing"}}, "vivarium.E023"),
    ],
)
def test_a_mistake_is_refused_with_its_id_and_nothing_else_is(here, changes, variables, context, expected):
    assert here(changes, variables, context) == ({expected} if expected else set())


def test_what_only_a_process_of_its_own_shows(project):
    """Files of the code, and what Django's connections are made of."""
    project(f"KEY = '{SECRET}'", "MIDDLEWARE.insert(0, 'django.middleware.cache.UpdateCacheMiddleware')")
    assert ids(gate(project.place, context={"hosts": 2})) == {"vivarium.E009", "vivarium.W004", "vivarium.E011"}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("lines", "decided", "said"),
    [
        ("SECURE_HSTS_SECONDS = 63072000", "max-age=63072000", None),
        ("", "max-age=63072000", None),
        ("SECURE_HSTS_SECONDS = 3600", "max-age=63072000", "max-age=3600"),
        ("SECURE_HSTS_SECONDS = 63072000; SECURE_HSTS_PRELOAD = True", "max-age=63072000", "max-age=63072000; preload"),
        ("SECURE_HSTS_SECONDS = 3600", "", "max-age=3600"),
    ],
)
def test_settings_that_say_otherwise_than_the_inventory_are_told(project, own, lines, decided, said):
    """By the project's own settings, whether vivarium_settings covers them or not."""
    waived = {"standing_waivers": STANDING | {"security.W004": "off"}}
    place = project(lines)
    seconds = (decided or "max-age=0").split("=")[1]
    report = gate(place, own=own, context={"hsts_header": decided} | waived, SECURE_HSTS_SECONDS=seconds)
    told = [each["message"] for each in report["messages"] if each["id"] == "vivarium.I028"]
    assert len(told) == (said is not None), told
    for message in told:
        assert f"settings say {said} for" in message and f"says {decided or 'nothing'}," in message
    waiver = {"waivers": {"vivarium.I028": "it moves next month"}}
    report = gate(place, own=own, context={"hsts_header": decided} | waived | waiver, SECURE_HSTS_SECONDS=seconds)
    assert (ids(report, "waived") >= {"vivarium.I028"}) is (said is not None)
    assert "vivarium.E023" not in ids(report)


def test_kept_connections_are_refused_under_asgi(project):
    place = project("DATABASES['default']['CONN_MAX_AGE'] = 60")
    assert gate(place)["passed"]
    assert "vivarium.E002" in ids(gate(place, own=True))


def test_one_process_may_keep_its_cache_and_sessions_to_itself(here):
    changes = {"CACHES": LOCAL, "SESSION_ENGINE": SESSIONS + "cached_db"}
    assert here(changes, {}, {"workers": 1}) == set()
    assert here(changes, {}, {"workers": 1, "processes": 1}) == {"vivarium.W004", "vivarium.E010"}


def test_a_waiver_lets_a_message_pass_with_its_reason(project):
    report = gate(project(), context={"waivers": {"vivarium.W008": "Ann reads the journal"}}, ADMINS="")
    assert report["passed"] and "vivarium.W008" in ids(report, "waived")
    assert "waived: Ann reads the journal" in report["text"]


def test_a_waiver_without_effect_is_told_and_stops_nothing(project):
    # The ids stand in Django's checks of settings, in its models, in an application of its own, and in ours.
    waivers = dict.fromkeys(("security.W001", "models.E007", "admin.E403", "vivarium.E001"), "old")
    report = gate(project(), context={"waivers": waivers})
    assert report["passed"] and [message["id"] for message in report["messages"]].count("vivarium.I024") == 4


def test_a_middleware_that_is_derived_from_the_one_a_check_looks_for_counts(project):
    middleware = (
        "from django.middleware.csrf import CsrfViewMiddleware, MiddlewareMixin\n\n\nclass Own({base}):\n    pass\n"
    )
    replace = "MIDDLEWARE[MIDDLEWARE.index('django.middleware.csrf.CsrfViewMiddleware')] = 'shop.csrf.Own'"
    place = project(replace, **{"shop/csrf.py": middleware.format(base="CsrfViewMiddleware")})
    report = gate(place)
    assert report["passed"]
    (waived,) = [message for message in report["messages"] if message["id"] == "security.W003"]
    assert waived["state"] == "waived" and "shop.csrf.Own" in waived["reason"]
    # One of the same name that is not derived from it does something else.
    (place / "shop/csrf.py").write_text(middleware.format(base="MiddlewareMixin"))
    assert ids(gate(place)) == {"security.W003"}


def test_what_is_critical_a_project_cannot_silence(project):
    silenced = "SILENCED_SYSTEM_CHECKS = ['security.W018', 'security.W008']"
    report = gate(project(silenced), DEBUG="true", SECURE_SSL_REDIRECT="false")
    assert ids(report) == {"security.W018"}
    reasons = {message["id"]: message["reason"] for message in report["messages"]}
    assert "the project silences it" in reasons["security.W008"]
    assert gate(project(silenced), DEBUG="true", context={"waivers": {"security.W018": "a workshop"}})["passed"]


def test_the_level_is_the_inventorys_to_say(here):
    assert here({}, {"ADMINS": ""}, {"fail_level": "ERROR"}) == set()
    assert "vivarium.I005" in here({}, {}, {"fail_level": "INFO"})


def test_a_check_that_falls_over_does_not_hide_the_others(project):
    place = project("INSTALLED_APPS += ['own']", **{"own.py": (
        "from django.core.checks import register\n"
        "@register('own', deploy=True)\n"
        "def fall(app_configs, **kwargs):\n    raise RuntimeError('no luck')\n"
    )})  # fmt: skip
    report = gate(place, ADMINS="")
    assert ids(report) == {"vivarium.W008", "vivarium.E022"} and "no luck" in report["text"]


def test_an_application_of_others_may_have_its_messages_waived(project):
    place = project("INSTALLED_APPS += ['own']", **{"own.py": (
        "from django.core.checks import Warning, register\n"
        "@register('own')\n"
        "def always(app_configs, **kwargs):\n    return [Warning('hm', id='own.W001')] if 0 else []\n"
    )})  # fmt: skip
    assert gate(place, context={"waivers": {"own.W001": "known"}})["passed"]
    assert ids(gate(place, context={"waivers": {"own.W002": "known"}})) == {"vivarium.E023"}


def test_migrations_are_announced_and_final_ones_named(project):
    place = project("INSTALLED_APPS += ['pond']", **{
        "pond/__init__.py": "", "pond/migrations/__init__.py": "",
        "pond/migrations/0001_final.py": (
            "from django.db import migrations\n"
            "class Migration(migrations.Migration):\n"
            "    operations = [migrations.RunPython(migrations.RunPython.noop)]\n"
        ),
    })  # fmt: skip
    report = gate(place, context={"migrate": True})
    assert report["passed"]
    told = {message["id"]: message["message"] for message in report["messages"] if message["state"] == "told"}
    assert "The deploy applies" in told["vivarium.I014"] and told["vivarium.I015"].endswith("undone: pond.0001_final.")


def test_a_database_that_is_not_there_is_a_message_too(project):
    report = gate(
        project(), context={"migrate": True}, DATABASE_URL=f"sqlite:///{'/nowhere' * 2}/x.sqlite3", ALLOWED_HOSTS="*"
    )
    assert {"vivarium.E001", "vivarium.E022"} <= ids(report)


@pytest.fixture
def other(tmp_path):
    """The gate of an application without Django, whose module is given."""
    place = tmp_path / "code"
    place.mkdir()
    told = {"framework": "none", "callable": "api:site.app", "secrets": ["API_KEY", "DATABASE_URL"]}

    def judge(code, context=None, **variables):
        (place / "api.py").write_text(code)
        return gate(place, own=True, context=told | (context or {}), **variables)

    return judge


SITE = "class site:\n    class app:\n        debug = {}\n"


def test_an_application_without_django_has_the_checks_that_concern_it(other):
    good = other(SITE.format(False), API_KEY=SECRET, DATABASE_URL=f"postgresql://shop:{SECRET}@db/shop")
    assert good["passed"] and good["messages"] == [] and "passed (0 waived)" in good["text"]
    assert good["facts"]["debug"] is False and good["facts"]["secrets"] == 2


@pytest.mark.parametrize(
    ("code", "variables", "hosts", "expected"),
    [
        (SITE.format(True), {}, 1, {"vivarium.E027"}),
        (SITE.format(True), {"VIVARIUM_ASGI_APPLICATION": "api:site"}, 1, set()),
        (f"KEY = {SECRET!r}", {"API_KEY": SECRET}, 1, {"vivarium.E009"}),
        (
            f"KEY = {SECRET!r}",
            {"DATABASE_URL": f"postgresql://shop:{SECRET.replace('!', '%21')}@db/shop"},
            1,
            {"vivarium.E009"},
        ),
        ("", {"DATABASE_URL": "sqlite:///data.db"}, 1, {"vivarium.E012"}),
        ("", {"DATABASE_URL": "sqlite+aiosqlite:////var/lib/asgi-api/data.db"}, 1, set()),
        ("", {"DATABASE_URL": "sqlite:////var/lib/asgi-api/data.db"}, 2, {"vivarium.E011"}),
        ("", {"DATABASE_URL": "sqlite://"}, 1, set()),
        ("", {"SENTRY_DSN": "https://key@sentry.example.com/1"}, 1, {"vivarium.W018"}),
    ],
)
def test_what_an_application_without_django_is_told(other, code, variables, hosts, expected):
    report = other(code, {"hosts": hosts}, **variables)
    assert ids(report) == expected
    assert all(message["hint"] for message in report["messages"])


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "import nowhere", "site = None", "import time\ntime.sleep(600)"]
)
def test_an_import_that_fails_is_for_the_start_to_tell(other, code):
    report = other(code)
    assert report["passed"] and report["facts"]["debug"] is None


def test_a_thread_of_the_application_does_not_keep_the_gate(other):
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=[600]).start()\n"
    assert other(code + SITE.format(False))["passed"]


def test_waivers_without_django(other):
    on = SITE.format(True)
    assert other(on, {"waivers": {"vivarium.E027": "a workshop"}})["passed"]
    assert ids(other(on, {"waivers": {"vivarium.E001": "it is of Django"}})) == {"vivarium.E027", "vivarium.E023"}
    assert ids(other("", {"waivers": {"security.W021": "it is of Django"}})) == {"vivarium.E023"}
