# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application meets the packages of Debian that its own packages need."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import App


def libraries(apps: Sequence[App]) -> list[str]:
    """What the role python installs beside the interpreter."""
    return ["libpq5"] if any(_speaks_postgresql(app) for app in apps) else []


def _speaks_postgresql(app: App) -> bool:
    """Whether an application has a database of the inventory's, or one elsewhere."""
    environment = {**app["public_env"], **app["secret_env"]}
    return app["database"] or str(environment.get("DATABASE_URL", "")).startswith("postgres")
