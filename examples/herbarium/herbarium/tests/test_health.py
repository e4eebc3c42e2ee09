import time
from unittest import mock

from django.db import connection
from django.db.utils import OperationalError
from django.test import TransactionTestCase, override_settings


class Health(TransactionTestCase):
    @override_settings(RELEASE="v1.4.2")
    def test_well(self):
        response = self.client.get("/health/")
        self.assertEqual(response.json(), {"status": "ok", "release": "v1.4.2", "checks": {"database": "ok"}})
        self.assertIn("no-store", response["Cache-Control"])

    def test_no_database(self):
        down = mock.patch.object(type(connection.copy()), "connect", side_effect=OperationalError("the reason"))
        with down, self.assertLogs("herbarium.health", "ERROR"), self.assertLogs("django.request", "ERROR"):
            response = self.client.get("/health/")
        self.assertEqual(response.status_code, 503)
        self.assertEqual(
            response.json(), {"status": "unavailable", "release": None, "checks": {"database": "unavailable"}}
        )

    def test_a_database_that_never_answers(self):
        def hang():
            time.sleep(1)

        patches = mock.patch.multiple("herbarium.health", ask_database=hang, TIMEOUT=0.1)
        with patches, self.assertLogs("herbarium.health", "ERROR"), self.assertLogs("django.request", "ERROR"):
            response = self.client.get("/health/")
        self.assertEqual(response.status_code, 503)
