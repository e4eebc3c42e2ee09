"""Is this process fit to serve? Asked by whoever switches traffic to it."""

import asyncio
import logging

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.http import JsonResponse
from django.views.decorators.cache import never_cache

from .reports import one_line

logger = logging.getLogger(__name__)

TIMEOUT = 4


@never_cache
async def health(request):
    try:
        async with asyncio.timeout(TIMEOUT):
            await sync_to_async(ask_database, thread_sensitive=False)()
        database = "ok"
    except Exception as error:
        # The reason goes to the log, not to whoever asks.
        logger.error("Health: the database does not answer: %s", one_line(error))
        database = "unavailable"
    return JsonResponse(
        {
            "status": "ok" if database == "ok" else "unavailable",
            "release": settings.RELEASE or None,
            "checks": {"database": database},
        },
        status=200 if database == "ok" else 503,
    )


def ask_database():
    """One query on a connection of its own: a pool that is busy or stale neither delays nor hides the answer."""
    probe = connection.copy()
    if probe.vendor == "postgresql":
        probe.settings_dict["OPTIONS"].pop("pool", None)
        probe.settings_dict["OPTIONS"]["connect_timeout"] = TIMEOUT - 2
    try:
        with probe.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    finally:
        probe.close()
