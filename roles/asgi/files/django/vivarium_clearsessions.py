"""Removes sessions that have expired from where the project keeps them; does nothing where it keeps none, or where they expire
by themselves (a cache, a signed cookie). The timer `clearsessions` runs it daily.

https://docs.djangoproject.com/en/stable/topics/http/sessions/#clearing-the-session-store
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    import django
    from django.apps import apps
    from django.core.management import call_command

    django.setup()
    if apps.is_installed("django.contrib.sessions"):
        call_command("clearsessions")
