from django.contrib.auth.forms import UserCreationForm

from .models import User


class SignUpForm(UserCreationForm):
    class Meta:
        model = User
        fields = ["username", "email"]
        help_texts = {
            "username": "Shown beside your sightings. Letters, digits and @ . + - _",
            "email": "Only for a new password, should you forget yours. Never shown.",
        }
