# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paths that a site limits or protects, in every spelling in which an application takes them for the same.

nginx matches its locations with a path that it has decoded and put in order; an application gets what the client wrote, and
decodes it only. So what is compared here is the request line itself: each character may be percent-encoded, in any case, a slash
may be doubled, and parameters (``;``) may follow. Dot segments, which no browser sends, are nginx.conf's ``$vivarium_crooked``.
"""

from __future__ import annotations

import re
from typing import Any

# No longer, so that its expression fits into a word of nginx's configuration.
PATH = re.compile(r"/(?!/)[A-Za-z0-9._~/@+:,=-]{0,127}\Z")
END = "(?:[/;?#]|%(?:25)*(?:2f|3b|3f|23)|$)"
SLASHES = "(?:/|%(?:25)*2f)+"


def rule_path_problem(path: object) -> str | None:
    """Say in one sentence why something is no path for a rule, or return None."""
    if isinstance(path, str) and PATH.match(path) and "//" not in path and not {".", ".."} & set(path.split("/")):
        return None
    return (
        "must be a path of at most 128 characters that begins with '/', of letters, digits and . _ ~ @ + : , = - ; it stands"
        " for all below it"
    )


def rules_problems(rules: dict[Any, Any], where: str, most: int) -> tuple[list[str], dict[str, Any]]:
    """What is wrong with the paths of rules, and the rules whose path is one."""
    problems = [f"{where}: more than {most} paths"] if len(rules) > most else []
    problems += [f"{where}: '{path}' is there more than once" for path in repeated_paths(rules)]
    wrong = {path: problem for path in rules if (problem := rule_path_problem(path))}
    problems += [f"{where}: {path!r:.80} {problem}" for path, problem in wrong.items()]
    return problems, {path: rule for path, rule in rules.items() if path not in wrong}


def same(path: str) -> str:
    """A path as its rules know it: with or without a slash at its end it is the same."""
    return path.rstrip("/") or "/"


def spelled(path: str) -> str:
    """The expression that request lines for a path and for all below it match; to be used without regard to case."""
    segments = [segment for segment in path.split("/") if segment]
    if not segments:
        return ""
    # A file's compressed copy, which lies beside it, is the same file.
    copy = "|".join("".join(map(_character, ending)) for ending in (".br", ".gz"))
    return "".join(SLASHES + "".join(map(_character, segment)) for segment in segments) + f"(?:{copy})?{END}"


def exactly(path: str) -> str:
    """The expression for request lines that have this path as it is written."""
    return "".join(f"[{character}]" if character in ".+" else character for character in path) + "(?:[?]|$)"


def repeated_paths(rules: dict[Any, Any]) -> list[str]:
    """What is there more than once, as it is known to rules."""
    paths = [same(path) for path in rules if isinstance(path, str)]
    return sorted({path for path in paths if paths.count(path) > 1})


def _character(character: str) -> str:
    """Itself or its code, of a letter in either case, also where that is to be decoded more than once."""
    plain = f"[{character}]" if character in ".+" else character
    code = f"{ord(character):02x}"
    if character.isalpha():
        code = ("[46]" if code[0] in "46" else "[57]") + code[1]
    return f"(?:{plain}|%(?:25)*{code})"
