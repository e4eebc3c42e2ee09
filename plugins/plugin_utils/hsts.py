# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a site decides about HTTP Strict Transport Security, as an application and a site of nginx both say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_switch, is_true

# Two years, as Mozilla's guideline has it. Names below the site's own may not be its to bind.
DEFAULTS = {"max_age": 63072000, "include_subdomains": False, "preload": False}
SWITCHES = ("include_subdomains", "preload")
NUMBER = re.compile(r"[0-9]{1,9}\Z")
# What https://hstspreload.org asks for.
PRELOAD_AGE = 31536000


def hsts_problems(hsts: object) -> list[str]:
    """Return a sentence for everything that is wrong with a decision: true, false, or a dictionary."""
    if hsts is None or isinstance(hsts, bool):
        return []
    if not isinstance(hsts, Mapping):
        return ["hsts must be true, false, or a dictionary of max_age, include_subdomains and preload"]
    problems = [
        f"hsts: unknown key '{key}' (known: {', '.join(DEFAULTS)})" for key in map(str, hsts) if key not in DEFAULTS
    ]
    wanted = _filled(hsts)
    if isinstance(wanted["max_age"], bool) or not NUMBER.match(str(wanted["max_age"])):
        problems.append(f"hsts: max_age '{wanted['max_age']}' is not a number of seconds")
    problems += [
        f"hsts: {key} '{wanted[key]}' is neither true nor false" for key in SWITCHES if not is_switch(wanted[key])
    ]
    if problems or not is_true(wanted["preload"]):
        return problems
    if not is_true(wanted["include_subdomains"]) or int(wanted["max_age"]) < PRELOAD_AGE:
        problems.append(
            f"hsts: preload needs include_subdomains: true and a max_age of {PRELOAD_AGE} at least: browsers take no other site"
            " into their list"
        )
    return problems


def decided(hsts: object) -> dict[str, Any] | None:
    """A decision without problems, completed; None where nothing is to be sent."""
    if hsts is False:
        return None
    wanted = _filled(hsts if isinstance(hsts, Mapping) else {})
    return {"max_age": int(wanted["max_age"]), **{key: is_true(wanted[key]) for key in SWITCHES}}


def header(decision: dict[str, Any] | None) -> str:
    """What Strict-Transport-Security says; empty where it is not sent."""
    if decision is None:
        return ""
    flags = [f"max-age={decision['max_age']}"]
    flags += ["includeSubDomains"] if decision["include_subdomains"] else []
    flags += ["preload"] if decision["preload"] else []
    return "; ".join(flags)


def _filled(hsts: Mapping[str, Any]) -> dict[str, Any]:
    return {**DEFAULTS, **{key: value for key, value in hsts.items() if value is not None}}
