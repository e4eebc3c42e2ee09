"""Files follow their rows: one that no row names any more is removed once that is committed."""

from django.db import transaction
from django.db.models.signals import post_delete, post_init, post_save, pre_save
from django.dispatch import receiver

from .models import Sighting

FILES = ["photo", "thumbnail"]


def remove(storage, name):
    if name:
        transaction.on_commit(lambda: storage.delete(name))


@receiver(post_init, sender=Sighting)
def remember_files(instance, **kwargs):
    # Not by attribute: a deferred field must not be loaded just to be remembered.
    instance.stored_files = {field: str(instance.__dict__.get(field) or "") for field in FILES}


@receiver(pre_save, sender=Sighting)
def forget_thumbnail(instance, **kwargs):
    # It shows the photo before; `develop_photos` makes a new one.
    if instance.photo.name != instance.stored_files["photo"]:
        instance.thumbnail = ""


@receiver(post_save, sender=Sighting)
def remove_replaced_files(instance, **kwargs):
    for field in FILES:
        file = getattr(instance, field)
        if instance.stored_files[field] != file.name:
            remove(file.storage, instance.stored_files[field])
            instance.stored_files[field] = file.name


@receiver(post_delete, sender=Sighting)
def remove_files(instance, **kwargs):
    for field in FILES:
        file = getattr(instance, field)
        remove(file.storage, file.name)
