import struct
import zlib
from io import BytesIO

from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import SimpleTestCase, override_settings
from PIL import Image

from sightings.photos import PhotoField

from .helpers import photo


def cleaned(upload):
    return Image.open(BytesIO(PhotoField().clean(upload).read()))


class Photos(SimpleTestCase):
    def refused(self, upload, code):
        with self.assertRaises(ValidationError) as caught:
            PhotoField().clean(upload)
        self.assertEqual(caught.exception.code, code)

    def test_every_accepted_format_becomes_a_jpeg(self):
        for format in ["JPEG", "PNG", "WEBP"]:
            for mode in ["RGB", "RGBA", "L", "P"]:
                if (format, mode) in {("JPEG", "RGBA"), ("JPEG", "P")}:
                    continue
                with self.subTest(format=format, mode=mode):
                    image = cleaned(photo(format, mode=mode, colour=0 if mode in "LP" else "red"))
                    self.assertEqual((image.format, image.mode, image.size), ("JPEG", "RGB", (60, 40)))

    def test_cmyk(self):
        self.assertEqual(cleaned(photo(mode="CMYK", colour=(0, 0, 0, 0))).mode, "RGB")

    def test_the_cameras_notes_are_dropped_and_its_turn_is_applied(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        exif.get_ifd(0x8825)[1] = "N"  # GPS
        image = cleaned(photo(exif=exif.tobytes(), comment=b"at home"))
        self.assertEqual(image.size, (40, 60))
        self.assertFalse(image.getexif())
        self.assertNotIn("comment", image.info)

    def test_transparent_parts_become_white(self):
        image = cleaned(photo("PNG", mode="RGBA", colour=(0, 0, 0, 0)))
        self.assertEqual(image.getpixel((5, 5)), (255, 255, 255))

    def test_large_photos_are_reduced(self):
        self.assertEqual(cleaned(photo(size=(4000, 1000))).size, (1600, 400))

    def test_long_names_do_not_matter(self):
        self.assertTrue(cleaned(photo(name="x" * 240 + ".jpg")))

    def test_other_files_are_refused_whatever_they_are_called(self):
        for content in [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<script>alert(1)</script>", b"\xff\xd8\xff"]:
            self.refused(SimpleUploadedFile("photo.jpg", content, "image/jpeg"), "not_a_photo")
        self.refused(photo("GIF", name="photo.jpg"), "not_a_photo")
        self.refused(photo("TIFF", name="photo.png"), "not_a_photo")
        whole = photo(size=(600, 600)).read()
        self.refused(SimpleUploadedFile("photo.jpg", whole[: len(whole) // 2]), "not_a_photo")

    def test_too_many_bytes_or_pixels_are_refused_before_decoding(self):
        with override_settings(PHOTO_MAX_BYTES=100):
            self.refused(photo(), "too_large")
        for side in (6500, 12000, 60000):
            # A PNG that only says it is as large as that.
            header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
            png = photo("PNG").read()
            bomb = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
            self.refused(SimpleUploadedFile("bomb.png", bomb), "too_many_pixels")
