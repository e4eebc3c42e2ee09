# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Groups and hosts of an inventory in messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_NAMES = 20  # in a message


def listed(value: Any) -> list[str]:
    """The words of a list that a command line may give as one text."""
    words = value if isinstance(value, list) else str(value or "").split(",")
    return [word for word in (str(each).strip() for each in words) if word]


def found(groups: Mapping[str, Sequence[str]]) -> str:
    """The groups of an inventory, for people."""
    own = [f"{name} ({_count(hosts)})" for name, hosts in groups.items() if name not in ("all", "ungrouped")]
    loose = groups.get("ungrouped", [])
    own += [f"{_count(loose)} in no group"] if loose else []
    return f"It has {some(own)}." if own else "It has no hosts at all (-i names it)."


def _count(hosts: Sequence[str]) -> str:
    return "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"


def some(names: Iterable[Any]) -> str:
    """Names with commas between them, of many the first."""
    names = [str(name) for name in names]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def either(names: Sequence[str]) -> str:
    """Names of which one will do."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
