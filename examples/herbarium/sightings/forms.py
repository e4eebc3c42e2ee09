from django import forms

from .models import Sighting


class SightingForm(forms.ModelForm):
    class Meta:
        model = Sighting
        fields = ["plant", "scientific_name", "place", "seen_on", "notes", "photo", "photo_description"]
        widgets = {
            "seen_on": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
            "notes": forms.Textarea(attrs={"rows": 5}),
        }
