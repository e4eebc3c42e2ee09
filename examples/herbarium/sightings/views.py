from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import JsonResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.views.generic import CreateView, DeleteView, DetailView, ListView, UpdateView

from .forms import SightingForm
from .models import Sighting


class Home(ListView):
    template_name = "sightings/home.html"
    context_object_name = "sightings"
    paginate_by = 12

    @property
    def query(self):
        return self.request.GET.get("q", "").strip()[:100]

    def get_queryset(self):
        return Sighting.objects.published().matching(self.query)

    def get_context_data(self, **kwargs):
        return super().get_context_data(query=self.query, **kwargs)


class Live(ListView):
    template_name = "sightings/live.html"
    context_object_name = "sightings"

    def get_queryset(self):
        return list(Sighting.objects.published()[:8])


class Sheet(DetailView):
    template_name = "sightings/sighting.html"
    context_object_name = "sighting"
    slug_field = slug_url_kwarg = "number"

    def get_queryset(self):
        return Sighting.objects.published()


async def recent(request):
    """The newest sheets as JSON; `?after=41` gives those after number 41, oldest first."""
    sightings = Sighting.objects.published()
    after = request.GET.get("after", "")
    if after.isdecimal() and len(after) < 19:
        sightings = sightings.filter(number__gt=int(after)).order_by("number")
    return JsonResponse({"sightings": [sighting.as_message() async for sighting in sightings[:50]]})


class Mine(LoginRequiredMixin, ListView):
    template_name = "sightings/mine.html"
    context_object_name = "sightings"
    paginate_by = 24

    def get_queryset(self):
        return self.request.user.sightings.published()

    def get_context_data(self, **kwargs):
        return super().get_context_data(drafts=self.request.user.sightings.drafts(), **kwargs)


class Editor(LoginRequiredMixin):
    """Adding and changing share a form with two buttons: keep as a draft, or publish."""

    form_class = SightingForm
    template_name = "sightings/edit.html"

    def form_valid(self, form):
        sighting = form.save(commit=False)
        sighting.observer = self.request.user
        if "publish" in self.request.POST or sighting.is_published:
            sighting.publish()
            messages.success(self.request, f"Sheet № {sighting.number} is in the field book.")
            return redirect(sighting)
        sighting.save()
        messages.success(self.request, "Kept as a draft. Only you can see it.")
        return redirect("mine")


class Add(Editor, CreateView):
    pass


class Edit(Editor, UpdateView):
    context_object_name = "sighting"

    def get_queryset(self):
        return self.request.user.sightings.all()


class Delete(LoginRequiredMixin, DeleteView):
    template_name = "sightings/delete.html"
    context_object_name = "sighting"
    success_url = reverse_lazy("mine")

    def get_queryset(self):
        return self.request.user.sightings.all()

    def form_valid(self, form):
        messages.success(self.request, f"“{self.object.plant}” is gone.")
        return super().form_valid(form)
