from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import Http404
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.views.generic import CreateView

from .forms import SignUpForm


class SignUp(CreateView):
    form_class = SignUpForm
    template_name = "registration/sign_up.html"
    success_url = reverse_lazy("mine")

    def dispatch(self, request, *args, **kwargs):
        if not settings.SIGN_UP_OPEN:
            raise Http404("Sign-up is closed.")
        if request.user.is_authenticated:
            return redirect("mine")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form):
        response = super().form_valid(form)
        login(self.request, self.object)
        messages.success(self.request, f"Welcome, {self.object.get_username()}. The first page is yours.")
        return response
