# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application's sandbox has otherwise than others'. The sandbox is a table, ``__asgi_sandbox`` in the role's vars."""

from __future__ import annotations

import re

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS, App, Wrong, is_a
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_line

DIRECTIVE = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")
# Directives that decide what runs, and as whom, rather than in what sandbox.
NO_SANDBOX = re.compile(r"Exec.*|Type|User|Group|EnvironmentFile")


def check(app: App, wrong: Wrong) -> None:
    """Its own directives, and what is allowed by name."""
    for key, value in app["sandbox"].items():
        lines = value if is_a(value, list) else ["" if value is None else str(value)]
        if (
            not is_a(key, str)
            or not DIRECTIVE.fullmatch(key)
            # A line that ends in a backslash goes on in the next one.
            or not all(is_a(line, str) and (line == "" or (is_line(line) and line[-1] != "\\")) for line in lines)
        ):
            wrong(f"sandbox: '{key}' must be a directive of systemd.exec(5) with one line of text, or a list of lines")
        elif NO_SANDBOX.fullmatch(key):
            wrong(f"sandbox: '{key}' is the role's own; it decides what runs, and as whom")
    switches = OPTIONS["sandbox_allow"]["choices"]
    for switch in app["sandbox_allow"]:
        if switch not in switches:
            wrong(f"sandbox_allow: '{switch}' is unknown (known: {', '.join(switches)})")
