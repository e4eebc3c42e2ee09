import shutil
import tempfile
from io import BytesIO

from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import override_settings
from PIL import Image

from sightings.models import Sighting


class TemporaryMedia:
    """Uploads of a test class go to a directory that is removed with it."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp()
        cls.enterClassContext(override_settings(MEDIA_ROOT=directory))
        cls.addClassCleanup(shutil.rmtree, directory)
        super().setUpClass()


def member(name="ada", **values):
    return get_user_model().objects.create_user(name, f"{name}@example.com", **values)


def sighting(observer, plant="Yarrow", publish=True, **values):
    sighting = Sighting(observer=observer, plant=plant, place="Town wall", **values)
    if publish:
        sighting.publish()
    else:
        sighting.save()
    return sighting


def photo(format="JPEG", size=(60, 40), mode="RGB", colour="red", name="IMG_2041.jpg", **options):
    output = BytesIO()
    Image.new(mode, size, colour).save(output, format, **options)
    return SimpleUploadedFile(name, output.getvalue(), f"image/{format.lower()}")
