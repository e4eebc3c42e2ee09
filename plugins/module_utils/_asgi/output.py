# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a failed step printed, for people: the reason in a sentence, the lines of the project's own code, and what helps."""

from __future__ import annotations

import re
from typing import NamedTuple

# How much is shown (lines, letters of one).
LINES, LETTERS = 20, 300
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FRAME = re.compile(r'^\s*File "([^"\n]{1,500})", line (\d+)(?:, in (\S+))?')
# The line below frames: the name of an exception and what it says.
EXCEPTION = re.compile(r"^((?:[A-Za-z_]\w*\.){0,20}[A-Z]\w*)(?:: (.*))?$")
CARETS = re.compile(r"^[\s~^]+$")


class Failure(NamedTuple):
    """A failure in words: ``reason`` is a sentence, ``details`` are lines."""

    reason: str
    details: list
    advice: str


def failure(said: str, printed: str, code: str, application: str) -> Failure:
    """What went wrong, from the sentence of a step and what the step printed; ``code`` is where the project's own files lie."""
    lines = [COLOUR.sub("", line).rstrip() for line in printed.splitlines()]
    frames, exceptions = traceback_of(lines, code)
    details = frames or [line[:LETTERS] for line in lines if line.strip()][-LINES:]
    reason = said.rstrip(": ")
    if exceptions and exceptions[-1] not in reason:
        place = next((frame for frame in reversed(frames) if frame.startswith(OWN)), "").removeprefix(OWN)
        reason += f": {exceptions[-1]}" + (f" ({place})" if place else "")
    return Failure(reason[: 3 * LETTERS], details, advice("\n".join((said, *lines)), application))


# How a frame of the project's own is shown.
OWN = "in "


def traceback_of(lines: list[str], code: str) -> tuple[list[str], list[str]]:
    """The frames of tracebacks that lie in a project's own code, with the exceptions; and the exceptions alone."""
    shown, exceptions, inside = [], [], False
    for number, line in enumerate(lines):
        frame = FRAME.match(line)
        if frame:
            inside = True
            path, row, _function = frame.groups()
            if path.startswith(f"{code}/"):
                shown.append(f"{OWN}{path.removeprefix(f'{code}/')}, line {row}")
                if (
                    number + 1 < len(lines)
                    and not FRAME.match(lines[number + 1])
                    and lines[number + 1].startswith("    ")
                ):
                    shown.append(f"    {lines[number + 1].strip()}"[:LETTERS])
        elif inside and (found := EXCEPTION.match(line)) and not CARETS.match(line):
            inside = False
            text = line[:LETTERS]
            # What it says may go on.
            more = (
                [each for each in lines[number + 1 : number + 4] if each.strip()]
                if found[2] is None or found[2].endswith(":")
                else []
            )
            shown += [text, *(each[:LETTERS] for each in more)]
            exceptions.append(" ".join([text, *(each.strip() for each in more[:1])])[:LETTERS])
    return shown[-LINES:], exceptions


def advice(text: str, application: str) -> str:
    """What helps against a failure that is known; empty where none is. The last one that happened counts."""
    found = [(match.start(), match, words) for pattern, words in ADVICE for match in [last(pattern, text)] if match]
    if not found:
        return ""
    _place, match, words = max(found, key=lambda each: each[0])
    names = {name: value or "" for name, value in match.groupdict().items()}
    return words.format(**{"name": "", **names}, app=application)


def last(pattern: str, text: str) -> re.Match[str] | None:
    match = None
    for match in re.finditer(pattern, text[-65536:], re.MULTILINE):  # noqa: B007
        pass
    return match


# What a program says and what helps; {app} is the application, {name} what the pattern calls so. Patterns are linear: a project
# chooses what it prints, and no sentence of its own becomes a part of ours.
ADVICE = (
    (
        r"nothing says which packages it needs",
        "Add a requirements.txt with Django and psycopg[binary,pool], or what `uv lock` writes.",
    ),
    (
        r"^the deployment checks say no \((?P<name>[\w.]{1,60})",
        "Mend what they name, or say why it stays: `waivers: {{{name}: REASON}}` of the application.",
    ),
    (
        r"No module named '(psycopg2?|psycopg_pool)'|Error loading psycopg2",
        "Add psycopg[binary,pool] to the packages that the project locks, or say `database: false`.",
    ),
    (r"No module named '(?P<name>[\w.]{1,80})'", "Add the package that has {name} to those that the project locks."),
    (
        r"^KeyError: '(?P<name>[A-Z][A-Z0-9_]{1,80})'",
        "If {name} is a variable of the environment, set it in `env` or `secrets` of the application.",
    ),
    (
        r"Set the (?P<name>[A-Z][A-Z0-9_]{1,80}) environment variable",
        "Set {name} in `env` or `secrets` of the application.",
    ),
    (
        r"^decouple\.UndefinedValueError: (?P<name>[A-Z][A-Z0-9_]{1,80}) not found",
        "Set {name} in `env` or `secrets` of the application.",
    ),
    (
        r"^(?P<name>[A-Za-z_]\w{0,80})\n +Field required ",
        "Set {name} in `env` or `secrets` of the application.",
    ),
    (
        r"Missing staticfiles manifest entry for '[^'\n]{1,200}'",
        "Name a file that is there, or keep names of static files without hashes, `env: {{STATICFILES_STORAGE:"
        " django.contrib.staticfiles.storage.StaticFilesStorage}}`.",
    ),
    (
        r"The file '(?P<name>[\w./{}@+~%-]{1,200})' could not be found with",
        "A style sheet or script names {name}, which is not there: mend that, or keep names of static files without hashes,"
        " `env: {{STATICFILES_STORAGE: django.contrib.staticfiles.storage.StaticFilesStorage}}`.",
    ),
    (
        r"Read-only file system",
        "A release cannot be changed. What is written goes to MEDIA_ROOT or to the application's home, /var/lib/asgi-{app}"
        " (HOME); logs go to stderr, which is the journal.",
    ),
    (
        r"Permission denied",
        "The application can write to MEDIA_ROOT and to its home, /var/lib/asgi-{app} (HOME), and read its own release.",
    ),
    (
        r"Operation not permitted",
        "The sandbox refuses what needs privileges, a change of owner (chown) for instance, even of a file of one's own: turn"
        " that off in the project's settings. What can be let through is `sandbox_allow` and `sandbox`.",
    ),
    (
        r"Address already in use",
        "nginx reaches the application by a socket that systemd holds: nothing of it needs a port of its own.",
    ),
    (
        r"MemoryError|Cannot allocate memory|Out of memory|oom-kill|signal 9|status 137",
        "The host has too little memory for it: fewer `workers`, or a larger host.",
    ),
    (
        r"lock timeout",
        "Another transaction holds a lock on the table for longer. It is in pg_stat_activity of the database; deploy again once"
        " it has ended.",
    ),
    (
        r"relation \"(?P<name>[\w.$-]{1,100})\" does not exist",
        "The table {name} is asked for before the migration that makes it: no query on import, and no check that needs it.",
    ),
    (
        r"password authentication failed",
        "Where DATABASE_URL is of your own, see that the role has that password; the playbook site sees to a derived one.",
    ),
    (r"connection to server .{1,200} failed", "Is the database server up? The playbook status tells on its host."),
    (r"You're using the staticfiles app without having set the STATIC_ROOT", "Take STATIC_ROOT from the environment."),
)
