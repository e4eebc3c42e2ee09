from datetime import timedelta

from django.core.management.base import BaseCommand
from django.utils import timezone

from sightings.models import Sighting


class Command(BaseCommand):
    help = "Delete drafts nobody has touched for a while, with their photos. Meant to run daily."

    def add_arguments(self, parser):
        parser.add_argument("--days", type=int, default=30, help="how long a draft is kept (30)")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    def handle(self, *, days, dry_run, **options):
        old = Sighting.objects.drafts().filter(changed_at__lt=timezone.now() - timedelta(days=days))
        count = old.count()
        if not dry_run:
            old.delete()
        would = "would be " if dry_run else ""
        self.stdout.write(f"{count} draft{'' if count == 1 else 's'} untouched for {days} days {would}deleted.")
