# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The workflow that deploys: for whom it is, where it lies, and its text (templates/init)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import Tree

COLLECTION = Path(__file__).resolve().parents[3]
FILES = {"github": ".github/workflows/deploy.yml", "gitlab": ".gitlab-ci.yml"}
# Where a pipeline of the project's own is there already; it has a line to include this one.
GITLAB_BESIDE = ".gitlab/deploy.yml"
DEPLOYS = "vivarium.server.deploy"


def kind(said: str, places: list[Path], origins: list[str]) -> str:
    """Whose CI it is: as somebody says, or where its files or the repository are."""
    if said:
        return said
    hosts = [origin.partition("://")[2] or origin for origin in origins]
    hosts = [host.rpartition("@")[2].replace(":", "/").partition("/")[0] for host in hosts]
    if any((place / FILES["gitlab"]).is_file() for place in places) or any("gitlab" in host for host in hosts):
        return "gitlab"
    return "github"


def path(which: str, top: Path) -> str:
    """Where the workflow goes, from the top of the repository."""
    if which != "gitlab":
        return FILES[which]
    own = Tree(top).text(FILES["gitlab"])
    return GITLAB_BESIDE if own is not None and DEPLOYS not in own else FILES["gitlab"]


def text(which: str, **values: Any) -> str:
    """The workflow. Braces belong to GitHub, so what is filled in stands between others."""
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (not HTML; each value has a form that needs no quotes)
    )
    template = (COLLECTION / "templates" / "init" / f"{which}.yml.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(version=version(), **values)


def version() -> str:
    """This collection's, as it was installed, or of a clone."""
    try:
        installed = json.loads((COLLECTION / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(installed["collection_info"]["version"])
    except (OSError, ValueError, KeyError):
        lines = (COLLECTION / "galaxy.yml").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("version:"))
