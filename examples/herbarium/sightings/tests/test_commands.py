from datetime import timedelta
from io import StringIO

from django.core.files.base import ContentFile
from django.core.management import call_command
from django.test import TestCase
from django.utils import timezone

from sightings.models import Sighting

from .helpers import TemporaryMedia, member, photo, sighting


def run(*arguments):
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


class Commands(TemporaryMedia, TestCase):
    def test_prune_drafts_takes_old_drafts_only(self):
        ada = member()
        old, fresh, sheet = sighting(ada, publish=False), sighting(ada, publish=False), sighting(ada)
        long_ago = timezone.now() - timedelta(days=31)
        Sighting.objects.filter(pk__in=[old.pk, sheet.pk]).update(changed_at=long_ago)
        self.assertIn("1 draft untouched for 30 days would be deleted", run("prune_drafts", "--dry-run"))
        self.assertEqual(Sighting.objects.count(), 3)
        run("prune_drafts")
        self.assertQuerySetEqual(Sighting.objects.order_by("pk"), [fresh, sheet])

    def test_develop_photos_makes_thumbnails_and_passes_over_broken_photos(self):
        ada = member()
        good, broken, none = sighting(ada), sighting(ada), sighting(ada)
        good.photo.save("x.jpg", photo(size=(1500, 1000)))
        broken.photo.save("x.jpg", ContentFile(b"rubbish"))
        with self.assertLogs("sightings.management.commands.develop_photos", "ERROR") as logged:
            run("develop_photos")
        self.assertEqual(len(logged.output), 1)
        for each in (good, broken, none):
            each.refresh_from_db()
        self.assertEqual(good.thumbnail.width, 640)
        self.assertEqual(good.small_photo, good.thumbnail)
        self.assertEqual(broken.small_photo, broken.photo)

    def test_load_samples_fills_the_book_once(self):
        self.assertIn("8 sample sightings added, 0 were there", run("load_samples"))
        self.assertIn("0 sample sightings added, 8 were there", run("load_samples"))
        self.assertContains(self.client.get("/"), "Ginkgo biloba")
