# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the words of a site look like where they reach nginx's configuration."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
NUMBER = re.compile(r"[0-9]{1,9}\Z")
SIZE = re.compile(r"[0-9]{1,9}[kKmMgG]?\Z")
DURATION = re.compile(r"(?:[0-9]{1,6}(?:ms|[smhdwMy]))+\Z|[0-9]{1,9}\Z")
URL = re.compile(r"/(?:[A-Za-z0-9._~-]+/)+\Z")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}\Z")
# What can be printed, but for " $ and the backslash; nginx takes no word of its configuration that is much longer.
HEADER_VALUE = re.compile(r"[ !#%-\[\]-~]{1,3000}\Z")
PATH = re.compile(r"/[A-Za-z0-9._~/@+:,=-]*\Z")
NETWORK = re.compile(r"[0-9a-fA-F.:]+(?:/[0-9]{1,3})?\Z")

# What the sandbox of nginx's unit hides from it.
HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108, nothing is written there


def is_number(value: Any, least: int, most: int) -> bool:
    """Whether a value is a whole number in a range, also as text."""
    return not isinstance(value, bool) and bool(NUMBER.match(str(value))) and least <= int(value) <= most


def path_problems(path: object) -> list[str]:
    """What is wrong with a path of files for nginx."""
    path = str(path)
    if not PATH.match(path) or path.strip("/") == "" or "/../" in f"{path}/":
        return [f"path '{path}' must be absolute, without blanks or special characters"]
    if f"{path}/".startswith(HIDDEN):
        return [f"path '{path}' lies where the sandbox of nginx sees nothing: {', '.join(HIDDEN)}"]
    return []


def is_network(value: object) -> bool:
    """Whether a value is an address or a network, as nginx takes them."""
    try:
        # Python takes anything for the zone of an address (fe80::1%anything), nginx takes none.
        return bool(NETWORK.match(str(value)) and ipaddress.ip_network(str(value), strict=False))
    except ValueError:
        return False


def networks(values: Iterable[object]) -> list[str]:
    """Addresses and networks, each once, as nginx takes them without a warning."""
    found = (ipaddress.ip_network(str(value), strict=False) for value in values)
    return list(dict.fromkeys(str(network).removesuffix(f"/{network.max_prefixlen}") for network in found))


def repeated(values: Iterable[T]) -> list[T]:
    """What is there more than once."""
    values = list(values)
    return sorted({value for value in values if values.count(value) > 1}, key=str)


def address_and_port(text: object) -> tuple[str, int] | None:
    """An address and a port, as nginx writes them; None where a text is something else."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):([0-9]{1,5})", str(text))
    if not match or not 0 < int(match[3]) < 65536:
        return None
    try:
        return str(ipaddress.ip_address(match[1] or match[2])), int(match[3])
    except ValueError:
        return None


def identifier(name: object) -> str:
    """The name as part of an nginx variable."""
    return str(name).replace("-", "_")
