from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.utils import timezone

from sightings.models import Sighting
from sightings.photos import encode
from sightings.samples import SAMPLES, draw


class Command(BaseCommand):
    help = "Fill an empty field book with a dozen drawn sightings, to see how it looks. Safe to repeat."

    def handle(self, **options):
        members = {}
        for name in ("linnaea", "merian"):
            members[name], created = get_user_model().objects.get_or_create(username=name)
            if created:
                # Nobody can sign in as these two.
                members[name].set_unusable_password()
                members[name].save()
        added = 0
        for index, sample in enumerate(SAMPLES):
            if Sighting.objects.filter(plant=sample.plant, observer__username__in=members).exists():
                continue
            sighting = Sighting(
                plant=sample.plant,
                scientific_name=sample.scientific_name,
                place=sample.place,
                notes=sample.notes,
                photo_description=f"A drawing of {sample.plant.lower()}: {sample.description}.",
                seen_on=timezone.localdate() - timedelta(days=3 * (len(SAMPLES) - index)),
                observer=members["linnaea" if index % 3 else "merian"],
            )
            sighting.photo.save("sample.jpg", encode(draw(sample), (960, 960)), save=False)
            sighting.publish()
            added += 1
        self.stdout.write(f"{added} sample sightings added, {len(SAMPLES) - added} were there.")
