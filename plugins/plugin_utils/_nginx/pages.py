# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pages that nginx shows where nothing else answers: what stands on each, and all of a site out of one template."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import unquote

from ansible_collections.vivarium.server.plugins.plugin_utils._nginx.forms import PATH, path_problems
from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import COLLECTION
from jinja2 import Environment, StrictUndefined, Template

MOST = 200  # characters
AGAIN = {"to": "", "name": "Try again"}
FIRST = {"to": "/", "name": "Go to the start page"}
NOT_YOURS = "Nothing is wrong with your device or your connection."
LATER = {
    "title": "Back in a moment",
    "text": [f"This site cannot answer just now. {NOT_YOURS} Please try again in a minute."],
    "way": AGAIN,
}
# By the name of its file: a status, or what the status alone does not say.
PAGES: dict[str, dict[str, Any]] = {
    "401": {"title": "Please sign in", "text": ["This address asks for a name and a password."], "way": AGAIN},
    "403": {"title": "No access", "text": ["You may not see what is at this address."], "way": FIRST},
    "404": {
        "title": "Not found",
        "text": ["There is nothing at this address. It may have moved, or there may be a mistake in it."],
        "way": FIRST,
    },
    "413": {
        "title": "Too large",
        "text": ["What you sent is larger than this site accepts. Please try again with a smaller file."],
        "way": None,
    },
    "421": {
        "title": "Once more, please",
        "text": ["Your browser asked for this site over a connection to another one. The next try takes a new connection."],
        "way": AGAIN,
    },
    "429": {
        "title": "Too many requests",
        "text": ["More requests came from you than this site answers at a time. Please wait a moment, then try again."],
        "way": AGAIN,
    },
    "500": {
        "title": "Something went wrong",
        "text": [f"This site could not answer, by a mistake of its own. {NOT_YOURS}"],
        "way": AGAIN,
    },
    "502": LATER,
    "503": LATER,
    "504": LATER,
    "maintenance": {
        "title": "We are working on this site",
        "text": [
            f"It will be back soon. {NOT_YOURS}",
            "What you may just have sent has not arrived: please send it again later.",
        ],
        "way": AGAIN,
    },
}  # fmt: skip
# Under which status one is shown that is not called by it.
SHOWN = {"maintenance": "503"}


def problems(site: dict[str, Any]) -> list[str]:
    """What is wrong with what a site says of its pages."""
    found = []
    if site["title"] is not None and not is_title(site["title"]):
        found.append(f"title must be a line of at most {MOST} characters")
    if site["pages"] is not None:
        found += [f"pages: {problem}" for problem in path_problems(site["pages"])]
    return found


def is_title(title: object) -> bool:
    """Whether something can stand on a page as the name of a site."""
    return isinstance(title, str) and len(title) <= MOST and title.isprintable() and bool(title.strip())


def open_path(health: str | None) -> str | None:
    """The path that somebody watches, which is answered during maintenance too, as nginx compares it: decoded."""
    path = unquote((health or "").partition("?")[0])
    # A longer one would not fit into its table.
    return path if PATH.match(path) and len(path) <= MOST else None


def pages(site: dict[str, Any]) -> dict[str, str]:
    """The pages of a site, by the names of their files."""
    return {
        f"{name}.html": _template().render(
            title=site["title"], page={**page, "status": f"Error {SHOWN.get(name, name)}"}
        )
        for name, page in PAGES.items()
    }


@functools.cache
def _template() -> Template:
    """Not by Ansible's own way to templates, which takes 10 ms for each file, and where nothing is escaped for HTML."""
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    return environment.from_string((COLLECTION / "templates/page.html.j2").read_text(encoding="utf-8"))
