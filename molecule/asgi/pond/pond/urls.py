from django.http import JsonResponse
from django.templatetags.static import static
from django.urls import path

from pond.models import Duck


def index(request):
    return JsonResponse({"ducks": Duck.objects.count(), "style": static("pond/site.css")})


urlpatterns = [path("", index)]
