# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of an environment file that systemd and sh read alike; the code is plugin_utils/env_file.py."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.vivarium.server.plugins.plugin_utils.env_file import env_file

DOCUMENTATION = r"""
name: env_file
short_description: Turn variables into the text of an environment file
version_added: 0.1.0
description:
  - Every value arrives unchanged, whatever is in it, both through systemd's C(EnvironmentFile=) and through C(. file) in a shell.
  - Names are sorted, so that the text changes only when a variable does.
  - An error names the variable, never its value.
options:
  _input:
    description:
      - The variables. A name is made of letters, digits and underscores and does not start with a digit.
      - A value is text, a number, a boolean (which becomes V(True) or V(False)) or a list of these (joined by commas).
      - Tab and newline are the only control characters allowed; systemd would silently leave out a variable with any other.
    type: dict
    required: true
author: Vivarium maintainers (@vivarium)
"""

EXAMPLES = r"""
# DEBUG="False"
# PASSWORD="a \"b\" \$c"
content: "{{ {'DEBUG': false, 'PASSWORD': 'a \"b\" $c'} | vivarium.server.env_file }}"
"""

RETURN = r"""
_value:
  description: The text, one assignment after the other.
  type: str
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Their names."""
        return {"env_file": env_file}
