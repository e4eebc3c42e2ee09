import os
from unittest import mock

from asgiref.sync import async_to_sync
from django.core.files.storage import default_storage
from django.test import Client, TestCase
from django.urls import reverse

from sightings.models import Sighting

from .helpers import TemporaryMedia, member, photo, sighting


class Reading(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ada = member()
        for index in range(14):
            sighting(cls.ada, f"Plant {index}")
        sighting(cls.ada, "Secret orchid", publish=False)

    def test_home_shows_the_newest_published_sheets(self):
        response = self.client.get("/")
        self.assertContains(response, "Plant 13")
        self.assertContains(response, "Page 1 of 2")
        self.assertNotContains(response, "Plant 1<")
        self.assertNotContains(response, "Secret orchid")
        self.assertContains(self.client.get("/?page=2"), "Plant 1<")

    def test_search_finds_every_word_in_plant_or_place(self):
        self.assertContains(self.client.get("/", {"q": "town 13"}), "1 sheet for")
        self.assertContains(self.client.get("/", {"q": "nowhere"}), "0 sheets for")
        self.assertContains(self.client.get("/", {"q": "secret"}), "0 sheets for")

    def test_search_shows_the_query_as_text(self):
        self.assertContains(self.client.get("/", {"q": "<script>"}), "&lt;script&gt;")

    def test_sheet(self):
        self.assertContains(self.client.get("/sightings/14/"), "Plant 13")
        with self.assertLogs("django.request"):
            for number in (15, 10**30):
                self.assertEqual(self.client.get(f"/sightings/{number}/").status_code, 404)

    def test_json_gives_what_came_after(self):
        sheets = self.client.get("/sightings.json", {"after": "12"}).json()["sightings"]
        self.assertEqual([sheet["number"] for sheet in sheets], [13, 14])
        newest = self.client.get("/sightings.json?after=rubbish").json()["sightings"]
        self.assertEqual([newest[0]["number"], newest[-1]["number"]], [14, 1])

    def test_json_works_in_an_event_loop(self):
        response = async_to_sync(self.async_client.get)("/sightings.json")
        self.assertEqual(len(response.json()["sightings"]), 14)

    def test_live_page_knows_where_the_feed_goes_on(self):
        self.assertContains(self.client.get("/live/"), 'data-last="14"')

    def test_errors_have_pages_of_their_own(self):
        with self.assertLogs("django", "WARNING"):
            self.assertContains(self.client.get("/nothing/"), "No such page", status_code=404)
            self.assertContains(self.client.get("/", HTTP_HOST="evil.example"), "makes no sense", status_code=400)
            stale = Client(enforce_csrf_checks=True).post("/accounts/login/", {"username": "ada"})
            self.assertContains(stale, "gone stale", status_code=403)
        with (
            mock.patch.object(Sighting.objects, "published", side_effect=RuntimeError),
            self.assertLogs("django.request", "ERROR"),
        ):
            broken = Client(raise_request_exception=False).get("/")
        self.assertContains(broken, "Something broke", status_code=500)


class Writing(TemporaryMedia, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ada, cls.bea = member(), member("bea")

    def setUp(self):
        self.client.force_login(self.ada)
        self.fields = {"plant": "Teasel", "place": "Towpath", "seen_on": "2025-08-01"}

    def add(self, **fields):
        return self.client.post(reverse("add"), {**self.fields, **fields}, follow=True)

    def test_only_members_write(self):
        self.client.logout()
        for name, arguments in [("add", []), ("mine", []), ("edit", [1]), ("delete", [1])]:
            response = self.client.post(reverse(name, args=arguments), self.fields)
            self.assertRedirects(response, f"{reverse('login')}?next={reverse(name, args=arguments)}")
        self.assertFalse(Sighting.objects.exists())

    def test_publish_with_a_photo(self):
        response = self.add(photo=photo(), publish="")
        self.assertRedirects(response, "/sightings/1/")
        self.assertContains(response, "Photo of Teasel")
        stored = Sighting.objects.get()
        self.assertRegex(stored.photo.name, r"^photos/[0-9a-f]{32}\.jpg$")
        self.assertEqual(stored.observer, self.ada)

    def test_a_draft_is_seen_by_its_writer_only_until_it_is_published(self):
        self.assertContains(self.add(draft=""), "Kept as a draft")
        draft = Sighting.objects.get()
        self.assertNotContains(self.client.get("/"), "Teasel")
        self.client.post(reverse("edit", args=[draft.pk]), {**self.fields, "plant": "Wild teasel", "publish": ""})
        self.assertContains(self.client.get("/"), "Wild teasel")

    def test_a_sheet_keeps_its_number_when_it_is_changed(self):
        sheet = sighting(self.ada)
        sighting(self.ada)
        self.client.post(reverse("edit", args=[sheet.pk]), {**self.fields, "publish": ""})
        sheet.refresh_from_db()
        self.assertEqual((sheet.number, sheet.plant), (1, "Teasel"))

    def test_what_others_wrote_is_out_of_reach(self):
        theirs = sighting(self.bea)
        with self.assertLogs("django.request"):
            for name in ["edit", "delete"]:
                self.assertEqual(self.client.post(reverse(name, args=[theirs.pk]), self.fields).status_code, 404)
        self.assertEqual(Sighting.objects.get().plant, "Yarrow")

    def test_the_future_cannot_be_seen(self):
        response = self.add(seen_on="2999-01-01", photo=photo(), publish="")
        self.assertContains(response, "This day has not come yet.")
        self.assertContains(response, "choose the photo again")

    def test_files_go_when_nothing_names_them(self):
        with self.captureOnCommitCallbacks(execute=True):
            self.add(photo=photo(), draft="")
        sheet = Sighting.objects.get()
        sheet.thumbnail.save("thumbnail.jpg", photo())
        first, thumbnail = sheet.photo.name, sheet.thumbnail.name
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post(reverse("edit", args=[sheet.pk]), {**self.fields, "photo": photo(), "draft": ""})
        sheet.refresh_from_db()
        second = sheet.photo.name
        self.assertNotEqual(first, second)
        self.assertEqual(sheet.thumbnail, "")
        self.assertEqual([default_storage.exists(name) for name in (first, thumbnail, second)], [False, False, True])
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post(reverse("delete", args=[sheet.pk]))
        self.assertFalse(default_storage.exists(second))

    def test_a_photo_can_be_taken_off(self):
        self.add(photo=photo(), draft="")
        sheet = Sighting.objects.get()
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post(reverse("edit", args=[sheet.pk]), {**self.fields, "photo-clear": "on", "draft": ""})
        self.assertFalse(os.path.exists(sheet.photo.path))
        sheet.refresh_from_db()
        self.assertFalse(sheet.photo)

    def test_forms_need_their_token(self):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(self.ada)
        page = strict.get(reverse("add"))
        with self.assertLogs("django.security.csrf"):
            self.assertEqual(strict.post(reverse("add"), self.fields).status_code, 403)
        token = {"csrfmiddlewaretoken": page.context["csrf_token"]}
        self.assertEqual(strict.post(reverse("add"), {**self.fields, **token}).status_code, 302)


class Administration(TemporaryMedia, TestCase):
    def test_staff_publish_and_change(self):
        admin = member("root", is_staff=True, is_superuser=True)
        self.client.force_login(admin)
        draft = sighting(admin, publish=False)
        listing, change = reverse("admin:sightings_sighting_changelist"), "admin:sightings_sighting_change"
        self.client.post(listing, {"action": "publish", "_selected_action": [draft.pk]})
        draft.refresh_from_db()
        self.assertEqual(draft.number, 1)
        fields = {"plant": "Yarrow", "place": "Wall", "seen_on": "2025-08-01", "photo": photo("GIF", name="a.gif")}
        response = self.client.post(reverse(change, args=[draft.pk]), fields)
        self.assertContains(response, "not a JPEG, PNG or WebP")
        self.client.post(reverse(change, args=[draft.pk]), {**fields, "photo": photo("PNG", name="a.png")})
        draft.refresh_from_db()
        self.assertTrue(draft.photo.name.endswith(".jpg"))
