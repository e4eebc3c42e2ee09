# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a server says of itself: the answer to the role's templates/state.sql.j2, with pg_hba.conf in its last line."""

from __future__ import annotations

import base64
import json
from typing import Any

from ansible.errors import AnsibleFilterError


def rows_of(state: str) -> list[dict[str, Any]]:
    """One object for the server, then one per database; none where it did not answer."""
    try:
        return [json.loads(line) for line in state.splitlines() if line.startswith("{")]
    except ValueError as error:
        raise AnsibleFilterError("postgresql_plan: the server's answer is not what was asked for") from error


def access_in(answer: str) -> str:
    """What the last line of an answer holds: pg_hba.conf."""
    try:
        return base64.b64decode((answer.splitlines() or [""])[-1], validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""
