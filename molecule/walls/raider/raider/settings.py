"""What `django-admin startproject` writes, shortened; vivarium_settings makes it fit for production."""

import os

SECRET_KEY = "django-insecure-of-the-project"
DEBUG = True
ALLOWED_HOSTS = []
ROOT_URLCONF = "raider.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "raider"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = os.environ.get("STATIC_URL", "/static/")
