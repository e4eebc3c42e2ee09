# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the collection's modules have in common on the host.

A module has a function ``main(parameters, check_mode, diff)`` that returns the module's result and raises Failed where it
cannot do what was asked for. Its action has checked the parameters and filled in the defaults.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Failed(Exception):
    """Ends a module with a message for people; what else is given is returned beside it."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details
