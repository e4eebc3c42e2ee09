import logging
import signal
import threading

from django.core.management.base import BaseCommand
from django.db import OperationalError, connection, transaction
from PIL import Image

from herbarium.reports import one_line
from sightings.models import Sighting
from sightings.photos import THUMBNAIL_SIZE, encode

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Make the thumbnails that are missing. With --watch, go on for ever: run it as a background process."

    def add_arguments(self, parser):
        parser.add_argument("--watch", action="store_true", help="keep running and look for new photos")
        parser.add_argument("--interval", type=float, default=2, help="seconds between looks (2)")

    def handle(self, *, watch, interval, **options):
        self.failed = set()
        stop = threading.Event()
        if watch:
            # Finish the photo at hand, then leave.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            logger.info("Watching for photos.")
        while not stop.is_set():
            try:
                developed = self.develop_one()
            except OperationalError as error:
                if not watch:
                    raise
                logger.warning("Waiting for the database: %s", one_line(error))
                developed = False
            if not developed:
                if not watch:
                    return
                # Nothing to do: hold no connection while waiting.
                connection.close()
                stop.wait(interval)

    @transaction.atomic
    def develop_one(self):
        photos = Sighting.objects.undeveloped().exclude(pk__in=self.failed)
        if connection.features.has_select_for_update_skip_locked:
            # Several of these may run: each takes a photo that no other has in hand.
            photos = photos.select_for_update(skip_locked=True, of=["self"])
        sighting = photos.first()
        if sighting is None:
            return False
        try:
            with sighting.photo.open() as file, Image.open(file) as image:
                sighting.thumbnail.save("thumbnail.jpg", encode(image, THUMBNAIL_SIZE, quality=80), save=False)
        except OSError as error:
            # Left alone until the next start; the page shows the photo itself meanwhile.
            logger.error("The photo of sighting %s cannot be read: %s", sighting.pk, error)
            self.failed.add(sighting.pk)
            return True
        sighting.save(update_fields=["thumbnail"])
        logger.info("Developed the photo of sighting %s.", sighting.pk)
        return True
