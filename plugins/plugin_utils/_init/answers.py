# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody says to ``init``: checked, asked for at a terminal, and otherwise missed by name."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.names import NAME, RESERVED
from ansible_collections.vivarium.server.plugins.plugin_utils._init.project import InitError
from ansible_collections.vivarium.server.plugins.plugin_utils.domains import DOMAIN, domain_problem
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import ACCOUNT, is_form, is_line

EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?=.{3,253}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# A path that stands in commands and in a workflow without quotes.
PLACE = re.compile(r"(?!-)[A-Za-z0-9_./~-]{1,200}")
LONGEST = 24
CI = ("github", "gitlab", "none")
# Directories that are called after what they are, not after the project.
COMMON = (
    "app",
    "apps",
    "backend",
    "code",
    "project",
    "repo",
    "server",
    "service",
    "site",
    "source",
    "src",
    "web",
    "www",
)
REQUIRED = {
    "project": ("Where is the project? Its directory", "-e project=../shop"),
    "domain": ("Which domain leads to it? Several with commas", "-e domain=shop.example.com"),
    "host": ("Which server? Its address or name", "-e host=203.0.113.5"),
}


# Puts a question to somebody; NobodyThereError where there is no terminal.
Ask = Callable[[str], str]


class NobodyThereError(Exception):
    """There is no terminal."""


@dataclass
class Answers:
    """What is known before the project is read."""

    project: Path
    domains: list[str]
    host: str
    email: str = ""
    user: str = "root"
    name: str = ""
    inventory: str = "inventories/prod"
    ci: str = ""
    application: str = ""
    settings: str = ""


def complete(given: dict[str, Any], ask: Ask, offered_email: Callable[[], str]) -> Answers:
    """The answers, or one error with all that is wrong; ``ask`` puts a question to whoever sits at a terminal."""
    said = {key: str(value).strip() if value is not None else "" for key, value in given.items()}
    problems = [problem for key in said if (problem := problem_of(key, said[key]))]
    missing = [key for key in REQUIRED if not said[key]]
    try:
        for key in missing if not problems else ():
            said[key] = _asked(ask, key, REQUIRED[key][0])
        if not said["email"] and not problems:
            said["email"] = _email(ask, offered_email())
    except NobodyThereError:
        problems += [f"{key} is not said, and there is no terminal to ask at: {REQUIRED[key][1]}" for key in missing]
    if problems:
        raise InitError("\n".join(problems))
    return Answers(
        Path(os.path.expanduser(said["project"])).resolve(),
        [name.strip() for name in said["domain"].split(",")],
        said["host"],
        said["email"],
        said["user"] or "root",
        said["name"],
        said["inventory"].rstrip("/") or "inventories/prod",
        said["ci"],
        said["application"],
        said["settings"],
    )


def problem_of(key: str, value: str) -> str | None:
    """What is wrong with one answer, in a sentence that names it."""
    if not value:
        return None
    if key == "project":
        sound = is_line(value) and not re.search(r"\{[{%#]", str(Path(os.path.expanduser(value)).resolve()))
        return None if sound else "project must be the path of a directory, without '{{' and control characters in it"
    if key == "domain":
        names = [name.strip() for name in value.split(",")]
        problem = next(
            (said for index, name in enumerate(names) if (said := domain_problem(name, wildcard=index > 0))), None
        )
        return f"domain: {problem}" if problem else None
    if (
        key == "host"
        and not is_address(value)
        and not (is_form(DOMAIN, value) and not value.rpartition(".")[2].isdigit())
    ):
        return f"host must be an address such as 203.0.113.5 or a name such as server1.example.com, not {value!r:.80}"
    if key == "email" and not EMAIL.fullmatch(value):
        return "email must be an address such as admin@example.com"
    if key == "user" and not is_form(ACCOUNT, value):
        return "user must be the name of an account on the server: root, or one that may use sudo"
    if key == "name" and (not NAME.fullmatch(value) or value in RESERVED):
        return "name must be 1 to 24 lower-case letters, digits and underscores, begin with a letter, and be no system name"
    if key == "inventory" and not PLACE.fullmatch(value):
        return "inventory must be the path of a directory: letters, digits and ._-/"
    if key == "ci" and value not in CI:
        return f"ci must be one of {', '.join(CI)}"
    return None


def is_address(value: str) -> bool:
    try:
        return ipaddress.ip_address(value) is not None and "%" not in value
    except ValueError:
        return False


def application_name(answers: Answers, project_name: str) -> str:
    """What the application is called: as somebody says, or after its directory, its package, its domain."""
    if answers.name:
        return answers.name
    directory = answers.project.name
    for candidate in (
        "" if directory.lower() in COMMON else directory,
        project_name,
        answers.domains[0].partition(".")[0],
    ):
        name = re.sub(r"[^a-z0-9]+", "_", candidate.lower()).strip("_")
        # Of a long one, the words that fit.
        name = name if len(name) <= LONGEST else name[: LONGEST + 1].rpartition("_")[0] or name[:LONGEST]
        if NAME.fullmatch(name) and name not in RESERVED:
            return name
    raise InitError("name: neither the directory nor the domain makes a name for the application: -e app=shop")


def _asked(ask: Ask, key: str, question: str) -> str:
    for _try in range(3):
        answer = ask(question).strip()
        problem = problem_of(key, answer) if answer else f"{key} is needed"
        if not problem:
            return answer
        question = f"{problem}. {question.rpartition('. ')[2]}"
    raise InitError(problem or key)


def _email(ask: Ask, offered: str) -> str:
    """An address that somebody has said, or has seen and let stand."""
    offered = offered if EMAIL.fullmatch(offered) else ""
    question = "Who gets the mail of the certificates' authority and of errors?"
    default = f"Enter for {offered}, - for nobody" if offered else "Enter for nobody"
    answer = ask(f"{question} An address ({default})").strip()
    if answer == "-":
        return ""
    if answer and (problem := problem_of("email", answer)):
        raise InitError(problem)
    return answer or offered
