from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A member. Nothing is added to Django's user yet, but a project that starts with its own can add later."""
