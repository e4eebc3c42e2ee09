"""Files follow their rows: a photo that no row names any more is removed once that is committed."""

from django.db import transaction
from django.db.models.signals import post_delete, post_init, post_save
from django.dispatch import receiver

from .models import Sighting


def remove(storage, name):
    if name:
        transaction.on_commit(lambda: storage.delete(name))


@receiver(post_init, sender=Sighting)
def remember_photo(instance, **kwargs):
    # A deferred field must not be loaded just to be remembered.
    instance._stored_photo = instance.__dict__.get("photo") and instance.photo.name


@receiver(post_save, sender=Sighting)
def photo_changed(instance, **kwargs):
    old, new = instance._stored_photo, instance.photo.name
    if old and old != new:
        remove(instance.photo.storage, old)
    instance._stored_photo = new


@receiver(post_delete, sender=Sighting)
def sighting_deleted(instance, **kwargs):
    remove(instance.photo.storage, instance.photo.name)
    remove(instance.thumbnail.storage, instance.thumbnail.name)
