import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import SimpleTestCase, override_settings

PROJECT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "SECRET_KEY": "k" * 30 + "0123456789-0123456789-ABCDEF",
    "ALLOWED_HOSTS": "herbarium.example, www.herbarium.example",
    "CSRF_TRUSTED_ORIGINS": "https://herbarium.example",
    "DATABASE_URL": "postgresql://shop:p%40ss%2F%23@/shop?host=/var/run/postgresql",
    "MEDIA_ROOT": "/srv/herbarium/media",
    "STATIC_ROOT": "/srv/herbarium/static",
    "ADMINS": "Ada <ada@example.com>, bea@example.com",
    "SECURE_HSTS_SECONDS": "63072000",
}


def settings(**environment):
    with mock.patch.dict(os.environ, {**PRODUCTION, **environment}, clear=True):
        return runpy.run_path(PROJECT / "herbarium" / "settings.py")


class Production(SimpleTestCase):
    def test_is_the_default_and_guesses_nothing(self):
        self.assertFalse(settings()["DEBUG"])
        for name in ["SECRET_KEY", "DATABASE_URL", "MEDIA_ROOT"]:
            with self.assertRaisesMessage(ImproperlyConfigured, name):
                settings(**{name: ""})

    def test_a_socket_in_the_database_url(self):
        database = settings()["DATABASES"]["default"]
        self.assertEqual(database["HOST"], "/var/run/postgresql")
        self.assertEqual((database["USER"], database["PASSWORD"], database["NAME"]), ("shop", "p@ss/#", "shop"))
        self.assertNotIn("host", database["OPTIONS"])
        self.assertEqual(database["OPTIONS"]["pool"]["max_size"], 4)
        self.assertEqual(database["CONN_MAX_AGE"], 0)

    def test_tls_in_the_database_url(self):
        url = "postgresql://shop:p@10.0.0.2:6432/shop?sslmode=require"
        database = settings(DATABASE_URL=url, DATABASE_POOL_SIZE="0")["DATABASES"]["default"]
        self.assertEqual((database["HOST"], database["PORT"]), ("10.0.0.2", 6432))
        self.assertEqual(database["OPTIONS"]["sslmode"], "require")
        self.assertNotIn("pool", database["OPTIONS"])

    def test_a_broken_database_url_is_not_quoted(self):
        with self.assertRaises(ImproperlyConfigured) as caught:
            settings(DATABASE_URL="postgresql://shop:hun/ter2@10.0.0.2/shop")
        self.assertNotIn("hun", str(caught.exception))

    def test_lists_flags_and_numbers(self):
        self.assertEqual(settings()["ALLOWED_HOSTS"], ["herbarium.example", "www.herbarium.example"])
        self.assertFalse(settings(SECURE_SSL_REDIRECT="False")["SECURE_SSL_REDIRECT"])
        with self.assertRaisesMessage(ImproperlyConfigured, "DEBUG"):
            settings(DEBUG="perhaps")
        with self.assertRaisesMessage(ImproperlyConfigured, "SECURE_HSTS_SECONDS"):
            settings(SECURE_HSTS_SECONDS="long")

    def test_email(self):
        values = settings(EMAIL_URL="smtp+tls://me%40example.com:p%2Fw@mail.example")
        if django.VERSION >= (6, 1):
            options = values["MAILERS"]["default"]["OPTIONS"]
            found = [options["host"], options["port"], options["username"], options["password"], options["use_tls"]]
        else:
            found = [values[f"EMAIL_{name}"] for name in ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS")]
        self.assertEqual(found, ["mail.example", 587, "me@example.com", "p/w", True])
        for url in ["imap://mail.example", "smtp://me:hun/ter2@mail.example"]:
            with self.assertRaises(ImproperlyConfigured) as caught:
                settings(EMAIL_URL=url)
            self.assertIn("EMAIL_URL", str(caught.exception))
            self.assertNotIn("hun", str(caught.exception))

    def test_passes_the_deployment_check(self):
        with tempfile.TemporaryDirectory() as directory:
            result = subprocess.run(
                [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
                cwd=PROJECT,
                env={**PRODUCTION, "MEDIA_ROOT": directory},
                capture_output=True,
                text=True,
                check=False,
            )
        self.assertEqual(result.returncode, 0, result.stderr)


class StaticFiles(SimpleTestCase):
    def test_every_file_is_found_and_hashed(self):
        with tempfile.TemporaryDirectory() as directory:
            storages = {
                "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
                "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
            }
            with override_settings(STATIC_ROOT=directory, STORAGES=storages):
                call_command("collectstatic", interactive=False, verbosity=0)
                page = self.client.get("/accounts/sign-up/", HTTP_HOST="testserver").content.decode()
            links = re.findall(r'(?:href|src)="/static/([^"]+)"', page)
            self.assertEqual(len(links), 2)
            for link in links:
                self.assertRegex(link, r"\.[0-9a-f]{12}\.")
                self.assertTrue((Path(directory) / link).exists())
