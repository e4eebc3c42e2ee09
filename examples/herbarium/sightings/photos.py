"""Photos come from strangers: check them, and keep only pixels.

What is stored is always a new JPEG that we encoded, turned upright, without the camera's notes (which often hold
the place where it was taken), under a name nobody can guess.
"""

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


def photo_path(instance, filename):
    return f"photos/{uuid.uuid4().hex}.jpg"


def thumbnail_path(instance, filename):
    return f"thumbnails/{uuid.uuid4().hex}.jpg"


def encode(image, size, quality=84):
    image = ImageOps.exif_transpose(image)
    if image.mode not in {"RGB", "L"}:
        # Transparent parts become paper.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.thumbnail(size, Image.Resampling.LANCZOS)
    # A new image takes over no EXIF, colour profile or comment.
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    output = BytesIO()
    clean.save(output, "JPEG", quality=quality, optimize=True, progressive=True)
    return ContentFile(output.getvalue(), name="photo.jpg")


class PhotoField(forms.FileField):
    """An upload that becomes a clean JPEG, or a clear error."""

    default_error_messages = {
        "too_large": "This photo has %(size)s; at most %(limit)s can be sent.",
        "too_many_pixels": "This photo is %(width)d × %(height)d pixels; that is more than can be processed.",
        "not_a_photo": "This file is not a JPEG, PNG or WebP photo, or it is damaged.",
    }
    widget = forms.ClearableFileInput(attrs={"accept": ACCEPT})

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
            width, height = image.size
            if width * height <= settings.PHOTO_MAX_PIXELS:
                return encode(image, SIZE)
        except Exception:
            # Pillow raises many kinds of errors for broken files; none of them is ours to handle.
            self.refuse("not_a_photo")
        self.refuse("too_many_pixels", width=width, height=height)

    def refuse(self, code, **params):
        raise forms.ValidationError(self.error_messages[code], code=code, params=params) from None


class PhotoModelField(models.ImageField):
    """An ImageField whose forms, the admin's included, clean what they are sent."""

    def formfield(self, **kwargs):
        return super().formfield(**{"form_class": PhotoField, **kwargs})
