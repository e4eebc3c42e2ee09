# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the environment of a release says of its database."""

from __future__ import annotations

import contextlib
import glob
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.vivarium.server.plugins.module_utils._asgi.names import text
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import variables

RELEASES = "/srv/{}/releases/*/env"
LIMIT = 16 * 1024 * 1024
# One server, spoken to by a socket or by TCP.
HERE = ("/var/run/postgresql", "/run/postgresql", "127.0.0.1", "::1", "localhost")


def database_place(environment: bytes) -> str | None:
    """Where the database of an environment file is, without who logs in there; None where it names none, or no address."""
    try:
        url = urlsplit(variables(environment.decode(errors="replace"))["DATABASE_URL"])
        query = dict(parse_qsl(url.query))
        # As libpq has it: what the query says wins.
        host = query.get("host") or url.hostname or "the default host"
        port = query.get("port") or url.port
    except (KeyError, ValueError):
        return None
    if host in HERE:
        host, port = "this host", None if str(port) == "5432" else port
    return f"{url.path.lstrip('/')} at {host}" + (f":{port}" if port else "")


def database_roles(application: str) -> list[str] | None:
    """Whom the releases of an application that are kept log in to their database as; None where one of them cannot be read."""
    found = set()
    for path in glob.glob(RELEASES.format(glob.escape(application))):
        environment = text(path, LIMIT)
        if not environment:
            return None
        said = variables(environment.decode(errors="replace"))
        with contextlib.suppress(ValueError):
            found |= {unquote(urlsplit(said.get("DATABASE_URL", "")).username or "")}
        found |= {said.get("PGUSER", "")}
    return sorted(found - {""})
