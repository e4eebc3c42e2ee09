import re

from django.core import mail
from django.test import TestCase, override_settings

from accounts.models import User

PASSWORD = "correct horse battery staple"


class Accounts(TestCase):
    def join(self, **fields):
        fields = {"username": "ada", "email": "a@example.com", "password1": PASSWORD, "password2": PASSWORD, **fields}
        return self.client.post("/accounts/sign-up/", fields, follow=True)

    def test_join_log_out_and_log_in(self):
        self.assertContains(self.join(), "Welcome, ada")
        with self.assertLogs("django.request"):
            self.assertEqual(self.client.get("/accounts/logout/").status_code, 405)
        self.assertContains(self.client.post("/accounts/logout/", follow=True), "Log in")
        response = self.client.post("/accounts/login/", {"username": "ada", "password": PASSWORD}, follow=True)
        self.assertContains(response, "Add<span")

    def test_weak_passwords_and_taken_names_are_refused(self):
        User.objects.create_user("ada")
        self.assertContains(self.join(), "already exists")
        self.assertContains(self.join(username="bea", password1="12345678", password2="12345678"), "too common")

    @override_settings(SIGN_UP_OPEN=False)
    def test_sign_up_can_be_closed(self):
        with self.assertLogs("django.request"):
            self.assertEqual(self.join().status_code, 404)
        self.assertNotContains(self.client.get("/"), "sign-up")

    def test_log_in_does_not_lead_to_other_sites(self):
        User.objects.create_user("ada", password=PASSWORD)
        form = {"username": "ada", "password": PASSWORD, "next": "https://evil.example/"}
        self.assertRedirects(self.client.post("/accounts/login/", form), "/")

    def test_a_forgotten_password(self):
        User.objects.create_user("ada", "a@example.com", PASSWORD)
        self.client.post("/accounts/password_reset/", {"email": "a@example.com"})
        link = re.search(r"http://testserver(\S+)", mail.outbox[0].body)[1]
        form = self.client.get(link, follow=True)
        new = {"new_password1": "entirely new words", "new_password2": "entirely new words"}
        self.assertContains(self.client.post(form.request["PATH_INFO"], new, follow=True), "Your password is changed")
        self.assertTrue(self.client.login(username="ada", password="entirely new words"))
        self.assertContains(self.client.get(link, follow=True), "used already")
