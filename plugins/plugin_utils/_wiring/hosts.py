# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hosts of a play: groups of the inventory, less what --limit and skip_unreachable leave out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.words import either, found, listed, some

Groups = Mapping[str, Sequence[str]]


def wiring_hosts(names: str, groups: Groups, reached: Collection[str], also: str = "", skip: Any = "") -> str:
    """Return the pattern for the hosts of a play; an error where it would match none, which Ansible takes for a success."""
    wanted, others = names.split(":"), also.split(":") if also else []
    pattern = wiring_without(":".join([*wanted, *others]), skip, groups)
    # Nobody runs anything then, often without an inventory.
    if any(context.CLIARGS.get(each) for each in ("syntax", "listhosts", "listtasks", "listtags")):
        return pattern
    ours = {host for name in wanted for host in groups.get(name, [])}
    if not ours:
        raise AnsibleFilterError(
            f"Nothing was done: the inventory has no host in {either(wanted)}, and this playbook is for no other."
            f" {found(groups)} Name the hosts there, or put a group of yours into it:"
            f" {wanted[0]}: {{children: {{YOUR_GROUP: {{}}}}}}"
        )
    skipped = listed(skip)
    _check_skipped(skipped, groups)
    if ours and not ours - set(skipped):
        raise AnsibleFilterError(
            f"Nothing was done: skip_unreachable leaves no host of {either(wanted)}, and this playbook is for no other"
        )
    if not ours & set(reached) - set(skipped):
        raise AnsibleFilterError(
            f"Nothing was done: of the hosts of --limit '{context.CLIARGS.get('subset')}' none is in {either(wanted)}, and this"
            f" playbook is for no other. Those that are: {some(sorted(ours))}"
        )
    return pattern


def wiring_without(pattern: str, skip: Any = "", groups: Groups | None = None) -> str:
    """Return the pattern for the hosts of a play without those of -e skip_unreachable."""
    # An inventory may do without a group; Ansible would warn of its name.
    names = [name for name in pattern.split(":") if groups is None or name in groups]
    return ":".join([*(names or ["all", "!all"]), *(f"!{host}" for host in listed(skip))])


def wiring_skipped(skip: Any) -> list[str]:
    """What is said at the end of the hosts that were left out."""
    return [
        f"{host} was left out (skip_unreachable) and is as it was. Once it is back, the same run without that brings it along"
        for host in listed(skip)
    ]


def _check_skipped(skipped: Sequence[str], groups: Groups) -> None:
    unknown = [host for host in skipped if host not in groups.get("all", [])]
    if unknown:
        raise AnsibleFilterError(
            f"Nothing was done: skip_unreachable names {some(unknown)}, and the inventory has no such host. It takes names of"
            " hosts, with commas between them"
        )
    databases = [host for host in skipped if host in groups.get("db_servers", [])]
    if databases:
        raise AnsibleFilterError(
            f"Nothing was done: skip_unreachable names {some(databases)}, a database server, and no application goes live"
            " without its database. What is live goes on as it is; bring that host back first"
        )
