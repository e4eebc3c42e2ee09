from django.contrib.auth.views import LoginView
from django.urls import include, path

from .views import SignUp

urlpatterns = [
    path("sign-up/", SignUp.as_view(), name="sign_up"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    # Log out, change or reset the password: Django's own views.
    path("", include("django.contrib.auth.urls")),
]
