"""What a dump says of itself: its list of contents, and the one kind of statement that is taken out of it.

An application chose the names in it, so a line is matched as a whole: what fits no form is an error, or is left to the scratch
role, which may do nothing elsewhere.
"""

from __future__ import annotations

import re
from typing import Any

from .messages import BackupError
from .names import unquoted

# Lines of pg_restore --list: what they are for, in which schema (- for none), the name and the owner.
EXTENSION_ENTRY = re.compile(r"\d+; \d+ \d+ (COMMENT - )?EXTENSION (- )?(.*)")
EXTENSION_NAME = re.compile(r"([A-Za-z0-9_-]+) ?\S*")
SCHEMA_ENTRY = re.compile(r"\d+; \d+ \d+ SCHEMA - (.*) \S*")
ROW_SECURITY_ENTRY = re.compile(r"\d+; \d+ \d+ ROW SECURITY ")
DEFAULT_ACL_ENTRY = re.compile(r"\d+; \d+ \d+ DEFAULT ACL ")
# What pg_dump writes of default privileges, the only statements of a dump that need the owner: they say FOR ROLE, and the scratch
# role may not speak for another. The owner's rights are not given to a text out of a dump, so they are made anew from words.
IDENTIFIER = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"\n]|"")+")'
DEFAULT_ACL = re.compile(
    rf"ALTER DEFAULT PRIVILEGES FOR ROLE (?P<role>{IDENTIFIER})(?: IN SCHEMA (?P<schema>{IDENTIFIER}))?"
    r" (?P<verb>GRANT|REVOKE) (?P<privileges>[A-Z]+(?:,[A-Z]+)*) ON (?P<kind>TABLES|SEQUENCES|FUNCTIONS|TYPES|SCHEMAS)"
    rf" +(?:TO|FROM) (?P<grantee>{IDENTIFIER}|PUBLIC)(?P<option> WITH GRANT OPTION)?;"
)
KINDS_OF_PRIVILEGES = {
    "ALL", "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN", "USAGE", "EXECUTE", "CREATE",
}  # fmt: skip


def owners_of(listing: str) -> set[str]:
    """The roles that own something in a dump: what pg_restore --list ends its lines with, after the names of the objects."""
    entries = (line for line in listing.split("\n") if re.match(r"\d+; ", line))
    return {entry.rpartition(" ")[2] for entry in entries} - {""}


def default_privileges(script: str) -> list[dict[str, Any]]:
    """The words of each ALTER DEFAULT PRIVILEGES in what pg_restore wrote; anything else that looks like one is an error."""
    found = []
    for line in script.split("\n"):
        if not line.startswith("ALTER DEFAULT PRIVILEGES"):
            continue
        words = DEFAULT_ACL.fullmatch(line)
        privileges = words["privileges"].split(",") if words else []
        if words is None or not set(privileges) <= KINDS_OF_PRIVILEGES:
            raise BackupError("the dump has default privileges of a kind that is not known here")
        plain = {key: unquoted(words[key]) if words[key] else None for key in ("role", "schema", "grantee")}
        plain["grantee"] = None if words["grantee"] == "PUBLIC" else plain["grantee"]
        found.append(
            {
                **plain,
                "verb": words["verb"],
                "kind": words["kind"],
                "privileges": privileges,
                "option": bool(words["option"]),
            }
        )
    return found
