# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Applies migrations, and waits for no lock so long that visitors would feel it."""

from __future__ import annotations

import re
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import ReleaseError
from ansible_collections.vivarium.server.plugins.module_utils._asgi.running import facts_of
from ansible_collections.vivarium.server.plugins.module_utils._deploy.steps import Step

# How long a migration waits for a lock before it lets others through, and how long it is tried (seconds).
MIGRATE_LOCK_TIMEOUT, MIGRATE_PATIENCE = 2, 60
# What PostgreSQL says of that (its own words, or the name of its error).
LOCKED_OUT = "lock timeout"
# What migrate says of each.
MIGRATION = re.compile(r"^ *Applying (\S+?)\.\.\. OK", re.MULTILINE)


class Migrate(Step):
    """The step migrated."""

    def migrated(self) -> bool:
        hooks, applied = self.app["hooks"], False
        self.run_hooks("before_migrate")
        if self.app["framework"] == "django" and self.app["migrate"]:
            self.migrate()
            applied = "No migrations to apply" not in self.printed
        self.run_hooks("after_migrate")
        return applied or bool(hooks["before_migrate"] + hooks["after_migrate"])

    def migrate(self) -> None:
        """Apply migrations. One that waits for a lock holds up whoever comes after it: it waits briefly, and tries again."""
        facts, options = facts_of(self.release), []
        # One that is not atomic cannot be begun anew after half of it; a pooler may refuse options.
        if self.app["database"] and facts.get("atomic_migrations") is True:
            options = [f"--setenv=PGOPTIONS=-clock_timeout={MIGRATE_LOCK_TIMEOUT}s"]
        applied, pause, deadline = [], 1, time.monotonic() + MIGRATE_PATIENCE
        while True:
            code = self.run(options, *self.django(), "migrate", "--noinput")
            applied += MIGRATION.findall(self.printed)
            self.release.note(migrations=applied)
            if code == 0:
                return
            if not options or LOCKED_OUT not in self.printed or time.monotonic() + pause > deadline:
                raise ReleaseError(f"manage.py migrate --noinput failed:\n{self.output}")
            time.sleep(pause)
            pause = min(2 * pause, 10)
