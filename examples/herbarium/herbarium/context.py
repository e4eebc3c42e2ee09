"""What every page may show."""

from django.conf import settings


def site(request):
    return {"release": settings.RELEASE, "sign_up_open": settings.SIGN_UP_OPEN}
