# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What people are told of changes: nothing secret, and nothing that a terminal would take for a command."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import pwd

from ansible_collections.vivarium.server.plugins.module_utils._files.changes import ABSENT, Change, State, Unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def difference(change: Change) -> dict[str, str]:
    """A change, for people to read."""
    have, want = change.have, change.want
    if have.kind == want.kind and have.content == want.content:
        before, after = f"{attributes(have)}\n", f"{attributes(want)}\n"
    else:
        before, after = text(have, change.secret and "old"), text(want, change.secret and "new")
    return {
        "before_header": f"{printable(change.path)} ({attributes(have)})",
        "after_header": f"{printable(change.path)} ({attributes(want)})",
        "before": before,
        "after": after,
    }


def attributes(state: State) -> str:
    """Kind, owner, group and mode in a few words."""
    if state.mode is None:
        return state.kind
    owner, group = state.uid, state.gid
    with contextlib.suppress(KeyError, TypeError):
        owner = pwd.getpwuid(owner).pw_name
    with contextlib.suppress(KeyError, TypeError):
        group = grp.getgrgid(group).gr_name
    return f"{state.kind} {owner}:{group} {state.mode:04o}"


def text(state: State, hidden: str) -> str:
    """What a diff shows of a file's content."""
    if state is ABSENT:
        return ""
    if state.kind == "directory":
        return f"{attributes(state)}\n"
    if state.kind == "link":
        return f"link to {printable(state.content)}\n"
    if hidden:
        return f"({hidden} content, secret)\n"
    if isinstance(state.content, Unread):
        return f"({state.content.size} bytes)\n"
    with contextlib.suppress(UnicodeDecodeError):
        if len(state.content) < 100_000:
            shown = state.content.decode()
            if printable(shown) == shown.replace("\r\n", "\n"):
                return shown
    return f"({len(state.content)} bytes, sha256 {hashlib.sha256(state.content).hexdigest()})\n"


def printable(text: str) -> str:
    """A text that changes nothing on a terminal: who could write a file or name one may not speak to the operator's."""
    text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def secrets_in(changes: list[Change]) -> Iterator[str]:
    """Lines and values of secret files, so that a validator that quotes them does not give them away."""
    for change in changes:
        for content in (change.have.content, change.want.content) if change.secret else ():
            lines = content.decode("utf-8", "replace").splitlines() if isinstance(content, bytes) else []
            for line in lines:
                yield from (part for part in (line.strip(), line.partition("=")[2].strip(" \"'")) if len(part) > 3)


def without(secrets: Iterable[str], text: str) -> str:
    """A text in which nothing secret stands."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "********")
    return text
