# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nginx reads on a host that somebody else has set up."""

from __future__ import annotations

import re
from collections.abc import Container

CONFIGURATION = "/etc/nginx/nginx.conf"
# What the role's nginx.conf reads, whoever put it there.
OWN = ("/etc/nginx/sites.d/", "/etc/nginx/modules-enabled/", "/etc/nginx/mime.types", "/run/vivarium-nginx/")


def nginx_used(answer: str, include: Container[str] = ()) -> list[str]:
    """Return the files that nginx would read no more if the role's nginx.conf took the place of the one that is there."""
    untouched, read, lost = set(), set(), []
    for line in answer.splitlines():
        if line.startswith("=\t"):
            _sign, digest, real, path = [*line.split("\t"), "", "", ""][:4]
            read.add(path)
            if (real, digest) not in untouched and path not in include and not path.startswith(OWN):
                lost.append(re.sub("[^ -~]", "?", path)[:200])
        elif line.startswith(" /"):
            untouched.add(tuple(line.split()[:2]))
    # Of a file that is a link to nowhere there is no line.
    return lost if CONFIGURATION in read else [CONFIGURATION, *lost]
