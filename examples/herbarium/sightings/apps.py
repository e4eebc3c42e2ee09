from django.apps import AppConfig


class SightingsConfig(AppConfig):
    name = "sightings"

    def ready(self):
        from . import signals  # noqa: F401
