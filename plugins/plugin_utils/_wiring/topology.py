# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host among those of the inventory: the groups that it is in, the others there, and how they reach each other."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Topology:
    """Of ``host``; a host may be in any of the groups, and a group may have any number of hosts."""

    def __init__(
        self,
        host: str,
        groups: Mapping[str, Sequence[str]],
        hostvars: Any,
        https_port: int = 443,
        http_port: int = 80,
        skipped: Collection[str] = (),
    ) -> None:
        self.host, self.groups = host, groups
        self.web, self.app, self.db = (list(groups.get(f"{kind}_servers", [])) for kind in ("web", "app", "db"))
        self.hostvars = hostvars
        self.https_port = https_port
        self.http_port = http_port
        self.skipped = skipped

    @property
    def is_web(self) -> bool:
        return self.host in self.web

    @property
    def is_app(self) -> bool:
        return self.host in self.app

    @property
    def is_db(self) -> bool:
        return self.host in self.db

    @property
    def remote_apps(self) -> list[str]:
        return [host for host in self.app if host != self.host]

    @property
    def remote_webs(self) -> list[str]:
        return [host for host in self.web if host != self.host]

    def raw(self, host: str) -> Mapping[str, Any]:
        """A host's variables without their templates resolved, which would cost as much as everything else here."""
        variables = self.hostvars
        return (variables.raw_get(host) if hasattr(variables, "raw_get") else variables.get(host)) or {}

    def address(self, host: str) -> Address:
        """The IP address at which the other hosts of the inventory reach this one."""
        address = self.hostvars[host].get("vivarium_address") or self._own_address(host)
        if not address and host in self.skipped:
            address = self._address_of_skipped(host)
        if not address:
            raise AnsibleFilterError(
                f"the address of host '{host}' is not known: it does not answer, or --limit leaves it out, and the inventory does"
                " not say vivarium_address for it. Say it for every host: runs then go on for the others while one is down, and"
                f" -e skip_unreachable={host} leaves it out of a run until it is back"
            )
        try:
            # What follows a '%' in an IPv6 address may be any text.
            return ipaddress.ip_address(str(address).replace("%", " "))
        except ValueError:
            # nginx and PostgreSQL resolve a name when they start, and nginx refuses to start when it cannot.
            raise AnsibleFilterError(f"vivarium_address of host '{host}' must be an IP address, not a name") from None

    def _own_address(self, host: str) -> Any:
        """The address that a host which answered has itself."""
        return ((self.hostvars[host].get("ansible_facts") or {}).get("default_ipv4") or {}).get("address")

    def _address_of_skipped(self, host: str) -> str:
        """The one that the controller knows it by, where all hosts that answered have no other: it may be a gateway's."""
        known = {each: self._own_address(each) for each in [*self.web, *self.app, *self.db]}
        known = {each: address for each, address in known.items() if address}
        address = str(self.hostvars[host].get("ansible_host") or host)
        if known and all(self.hostvars[each].get("ansible_host", each) == known[each] for each in known):
            with contextlib.suppress(ValueError):
                return str(ipaddress.ip_address(address.replace("%", " ")))
        raise AnsibleFilterError(
            f"the address of host '{host}', which skip_unreachable leaves out, is not known, and the other hosts have to know it:"
            " say vivarium_address for it in the inventory"
        )

    def endpoint(self, host: str, port: int) -> str:
        """Where something answers on a host, as nginx writes it."""
        address = self.address(host)
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
