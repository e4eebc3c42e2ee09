from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.urls import reverse
from django.utils import timezone

from .photos import PhotoModelField, photo_path, thumbnail_path

# The PostgreSQL channel on which every process hears of new sheets.
CHANNEL = "herbarium_sightings"


def not_in_the_future(day):
    if day > timezone.localdate():
        raise ValidationError("This day has not come yet.")


class Register(models.Model):
    """The last sheet number given out; one row.

    Sheets are numbered by updating this row in the transaction that publishes them, so numbers become visible in
    order and without gaps. That lets a reader say "everything after 41" and miss nothing, which a sequence cannot
    promise: there, 43 can be committed before 42.
    """

    last_number = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "register"

    def __str__(self):
        return f"last sheet {self.last_number}"

    @classmethod
    def next_number(cls):
        cls.objects.get_or_create(pk=1)
        cls.objects.filter(pk=1).update(last_number=models.F("last_number") + 1)
        return cls.objects.get(pk=1).last_number


class SightingQuerySet(models.QuerySet):
    def published(self):
        return self.filter(number__isnull=False).select_related("observer").order_by("-number")

    def drafts(self):
        return self.filter(number__isnull=True).order_by("-changed_at")

    def undeveloped(self):
        return self.filter(thumbnail="").exclude(photo="").order_by("created_at")

    def matching(self, words):
        found = self
        for word in words.split():
            found = found.filter(
                models.Q(plant__icontains=word)
                | models.Q(scientific_name__icontains=word)
                | models.Q(place__icontains=word)
            )
        return found


class Sighting(models.Model):
    """A page of the field book: a draft until it is published, a numbered sheet from then on."""

    number = models.PositiveBigIntegerField("sheet number", unique=True, null=True, editable=False)
    plant = models.CharField(max_length=80, help_text="The name you would use on a walk.")
    scientific_name = models.CharField(max_length=120, blank=True, help_text="If you know it.")
    place = models.CharField(max_length=120, help_text="As exact as you want the world to know.")
    seen_on = models.DateField("seen on", default=timezone.localdate, validators=[not_in_the_future])
    notes = models.TextField(max_length=2000, blank=True)
    photo = PhotoModelField(upload_to=photo_path, blank=True, help_text="JPEG, PNG or WebP, up to 8 MB.")
    photo_description = models.CharField(
        max_length=200, blank=True, help_text="What the photo shows, read out to those who cannot see it."
    )
    thumbnail = models.ImageField(upload_to=thumbnail_path, blank=True, editable=False)
    observer = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="sightings", editable=False)
    published_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = SightingQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["created_at"],
                name="photos_to_develop",
                condition=models.Q(thumbnail="") & ~models.Q(photo=""),
            ),
        ]

    def __str__(self):
        return f"{self.plant}, {self.place}"

    def get_absolute_url(self):
        return reverse("sighting", args=[self.number]) if self.number else reverse("edit", args=[self.pk])

    @property
    def is_published(self):
        return self.number is not None

    @property
    def small_photo(self):
        """The thumbnail, or the photo itself until the thumbnail is made."""
        return self.thumbnail or self.photo

    @property
    def photo_alt(self):
        return self.photo_description or f"Photo of {self.plant}"

    def publish(self):
        """Number this draft and tell everyone who watches, at the moment it becomes visible."""
        with transaction.atomic():
            if self.number is None:
                self.number = Register.next_number()
                self.published_at = timezone.now()
            self.save()
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])

    def as_message(self):
        """This sheet as the JSON that /sightings.json and the live feed send."""
        return {
            "number": self.number,
            "plant": self.plant,
            "scientific_name": self.scientific_name,
            "place": self.place,
            "seen_on": self.seen_on.isoformat(),
            "observer": self.observer.get_username(),
            "url": self.get_absolute_url(),
            "photo": self.small_photo.url if self.small_photo else None,
            "photo_alt": self.photo_alt,
        }
