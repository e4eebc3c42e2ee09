# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the environment of a release says of its database."""

from __future__ import annotations

import contextlib
import glob
import shlex
from urllib.parse import unquote, urlsplit

from ansible_collections.vivarium.server.plugins.module_utils.asgi_names import text

RELEASES = "/srv/{}/releases/*/env"
LIMIT = 16 * 1024 * 1024


def database_url(environment):
    """The DATABASE_URL of an environment file as urlsplit has it, None where there is none; ValueError where it is no address."""
    for line in environment.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key == "DATABASE_URL":
            return urlsplit("".join(shlex.split(value)))
    return None


def database_roles(application):
    """Whom the releases of an application that are kept log in to their database as; None where one of them cannot be read."""
    found = set()
    for path in glob.glob(RELEASES.format(glob.escape(application))):
        environment = text(path, LIMIT)
        if not environment:
            return None
        with contextlib.suppress(ValueError):
            url = database_url(environment)
            found |= {unquote(url.username)} if url and url.username else set()
    return sorted(found)
