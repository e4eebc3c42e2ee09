from django.urls import path

from . import views

urlpatterns = [
    path("", views.Home.as_view(), name="home"),
    path("live/", views.Live.as_view(), name="live"),
    path("mine/", views.Mine.as_view(), name="mine"),
    path("sightings.json", views.recent, name="recent"),
    path("sightings/new/", views.Add.as_view(), name="add"),
    path("sightings/<int:number>/", views.Sheet.as_view(), name="sighting"),
    path("drafts/<int:pk>/", views.Edit.as_view(), name="edit"),
    path("drafts/<int:pk>/delete/", views.Delete.as_view(), name="delete"),
]
