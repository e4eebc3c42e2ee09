"""Photos come from strangers: check them, and keep only pixels.

What is stored is always a new JPEG that we encoded, turned upright, without the camera's notes (which often hold
the place where it was taken), under a name nobody can guess.
"""

import threading
import uuid
import warnings
from io import BytesIO

from django import forms
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models
from django.template.defaultfilters import filesizeformat
from PIL import Image, ImageOps

# Only these decoders are ever given an upload.
FORMATS = ["JPEG", "PNG", "WEBP"]
ACCEPT = "image/jpeg,image/png,image/webp"
SIZE = (1600, 1600)
THUMBNAIL_SIZE = (640, 640)

# A large PNG takes 200 MB while it is decoded. So many at once, whatever arrives.
DECODERS = threading.BoundedSemaphore(2)


def photo_path(instance, filename):
    return f"photos/{uuid.uuid4().hex}.jpg"


def thumbnail_path(instance, filename):
    return f"thumbnails/{uuid.uuid4().hex}.jpg"


def encode(image, size, quality=84):
    with DECODERS:
        if image.mode not in {"RGB", "L"}:
            image = image.convert("RGBA")
        # Before anything else: of a JPEG, only as many pixels as needed are decoded.
        image.thumbnail(size, Image.Resampling.LANCZOS)
        image = ImageOps.exif_transpose(image)
        # A new image takes over no EXIF, colour profile or comment. Transparent parts become paper.
        clean = Image.new("RGB", image.size, "white")
        clean.paste(image, mask=image if image.mode == "RGBA" else None)
    output = BytesIO()
    clean.save(output, "JPEG", quality=quality, optimize=True, progressive=True)
    return ContentFile(output.getvalue(), name="photo.jpg")


class PhotoInput(forms.ClearableFileInput):
    """Shows the photo there is."""

    template_name = "sightings/photo_input.html"
    clear_checkbox_label = "Take this photo off"

    def __init__(self, attrs=None):
        super().__init__({"accept": ACCEPT, **(attrs or {})})


class PhotoField(forms.FileField):
    """An upload that becomes a clean JPEG, or a clear error."""

    default_error_messages = {
        "too_large": "This photo has %(size)s; at most %(limit)s can be sent.",
        "too_many_pixels": "This photo has more than %(limit)d million pixels.",
        "not_a_photo": "This file is not a JPEG, PNG or WebP photo, or it is damaged.",
    }
    widget = PhotoInput

    def to_python(self, data):
        upload = super().to_python(data)
        if upload is None:
            return None
        if upload.size > settings.PHOTO_MAX_BYTES:
            self.refuse("too_large", size=filesizeformat(upload.size), limit=filesizeformat(settings.PHOTO_MAX_BYTES))
        try:
            with warnings.catch_warnings():
                # We count the pixels ourselves, before any is decoded.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(upload, formats=FORMATS)
            if image.width * image.height > settings.PHOTO_MAX_PIXELS:
                raise Image.DecompressionBombError
            return encode(image, SIZE)
        except Image.DecompressionBombError:
            self.refuse("too_many_pixels", limit=settings.PHOTO_MAX_PIXELS // 1_000_000)
        except Exception:
            # Pillow raises errors of many kinds for broken files; their meaning here is the same.
            self.refuse("not_a_photo")

    def refuse(self, code, **params):
        raise forms.ValidationError(self.error_messages[code], code=code, params=params) from None


class PhotoModelField(models.ImageField):
    """An ImageField whose forms, the admin's included, clean what they are sent."""

    def formfield(self, **kwargs):
        # The name it comes with may be as long as it likes: it is not kept.
        return super().formfield(**{"form_class": PhotoField, **kwargs, "max_length": None})
