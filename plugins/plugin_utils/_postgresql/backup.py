# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with the inputs of the role postgresql_backup."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._postgresql.names import SCRATCH
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.inputs import check_range
from ansible_collections.vivarium.server.plugins.plugin_utils._postgresql.words import NAME, NAME_RULE

CRON_FIELD = "[0-9A-Za-z*/,-]+"
SCHEDULE = re.compile(rf"@(hourly|daily|midnight|weekly)|{CRON_FIELD}( +{CRON_FIELD}){{4}}")
DIRECTORY = re.compile(r"(/[A-Za-z0-9_.@+-]{1,255}){2,40}")
MAIL = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._%+@,-]{0,999})?")


def postgresql_backup_problems(inputs: dict[str, Any]) -> list[str]:
    """Return what is wrong with the inputs of the role postgresql_backup, one sentence each."""
    problems = []
    for variable in ("postgresql_backup_databases", "postgresql_backup_superuser_databases", "postgresql_backup_purge"):
        names = inputs.get(variable, [])
        if not isinstance(names, list):
            problems.append(f"{variable}: must be a list")
            continue
        for index, name in enumerate(names):
            if not isinstance(name, str) or not NAME.fullmatch(name):
                problems.append(f"{variable}[{index}]: '{name}' is not a valid name ({NAME_RULE})")
            elif name in ("template0", "template1") or name.startswith(SCRATCH):
                problems.append(f"{variable}[{index}]: '{name}' is not a database to back up")
            elif name in names[:index]:
                problems.append(f"{variable}[{index}]: '{name}' is there twice")
    timeouts = inputs["postgresql_backup_timeouts"] or {}
    if not isinstance(timeouts, dict):
        problems.append("postgresql_backup_timeouts: must be a dictionary of databases and seconds")
        timeouts = {}
    for name, seconds in timeouts.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(f"postgresql_backup_timeouts: '{name}' is not a valid name ({NAME_RULE})")
        else:
            check_range(f"postgresql_backup_timeouts: {name}", seconds, 1, 7 * 86400, problems)
    directory = str(inputs["postgresql_backup_directory"] or "")
    if not DIRECTORY.fullmatch(directory) or "/.." in directory:
        problems.append("postgresql_backup_directory: must be an absolute path with two parts at least and no spaces")
    if not SCHEDULE.fullmatch(str(inputs["postgresql_backup_schedule"])):
        problems.append(
            "postgresql_backup_schedule: must be five fields as in crontab(5), or @hourly, @daily or @weekly"
        )
    if not MAIL.fullmatch(str(inputs["postgresql_backup_mailto"] or "")):
        problems.append("postgresql_backup_mailto: must be an address, or several with commas and no spaces")
    for variable, lowest, highest in (
        ("postgresql_backup_keep_days", 1, 36500),
        ("postgresql_backup_keep_last", 1, 10000),
        ("postgresql_backup_reserve_mb", 0, 10**9),
        ("postgresql_backup_port", 1, 65535),
    ):
        check_range(variable, inputs[variable], lowest, highest, problems)
    return problems
