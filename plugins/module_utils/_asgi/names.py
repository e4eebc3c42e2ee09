# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether what an application would be called on a host belongs to somebody else there.

The host is asked, not a list: its unit directories, accounts and files. Something counts as the application's own by what root
alone could have written: the text of a unit, the home of an account, a file in /etc.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import PROGRAMS
from ansible_collections.vivarium.server.plugins.module_utils.host_code import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")

OWN_UNITS = "/etc/systemd/system"
# systemd.unit(5); /lib is /usr/lib.
UNIT_PLACES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    OWN_UNITS,
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
BUS_PLACES = (
    "/usr/share/dbus-1/system-services",
    "/usr/local/share/dbus-1/system-services",
    "/etc/dbus-1/system-services",
)
# Where nginx's configuration is the role nginx's own, it has this file; otherwise what lies in these places is somebody's site.
NGINX_OWN = "/etc/nginx/sites.d/_default.conf"
SITES = (
    "/etc/nginx/sites.d/{}.conf",
    "/etc/nginx/sites-enabled/{}",
    "/etc/nginx/sites-enabled/{}.conf",
    "/etc/nginx/conf.d/{}.conf",
)
# Not those whose names begin with asgi-: they are the role's, and data may lie in /var/lib/asgi-NAME before the first deploy.
DIRECTORIES = ("/srv/{}",)
# What the role's units and programs say of themselves.
MARK = b"vivarium.server.asgi"
# What they did before they said it.
OWN = f"{PROGRAMS}/".encode()
# What starts a service of its own name.
STARTERS = ("socket", "timer", "path")


def taken(applications: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence for each application whose names are taken.

    Given are the applications by their names, and of each its ``units``, the ``programs`` it brings, the ``sites`` that nginx
    would have, and whether it has an ``account`` and directories on this host.
    """
    units = unit_files() if any(wanted.get("units") for wanted in applications.values()) else {}
    found = {name: list(dict.fromkeys(of_others(name, wanted, units))) for name, wanted in applications.items()}
    return [sentence(name, things) for name, things in found.items() if things]


def installed_applications() -> list[str]:
    """The applications that the role has set up on this host."""
    # What makes their users is the first of their files, and the last to go.
    files = [name for name in listed("/etc/sysusers.d") if name.startswith("asgi-") and name.endswith(".conf")]
    return [name.removeprefix("asgi-").removesuffix(".conf") for name in files]


def sentence(name: str, things: Iterable[tuple[str, str | None]]) -> str:
    ways = [way for _thing, way in things if way]
    return (
        f"asgi_apps ({name}): this host has {', '.join(thing for thing, _way in things)} already, not of this application."
        " Nothing was changed. Give the application another name"
        + (f", or put away what nobody needs any more: {'  '.join(f'({way})' for way in ways)}" if ways else "")
    )


def of_others(name: str, wanted: dict[str, Any], units: dict[str, list[str]]) -> Iterator[tuple[str, str | None]]:
    """What is somebody else's, and what to type if it is of no use any more."""
    user, group = entry(pwd.getpwnam, name), entry(grp.getgrnam, name)
    mine = bool(user and user.pw_uid and user.pw_dir == f"/var/lib/asgi-{name}")
    # Written before the account is made: a run may have been killed between the two.
    known = mine or os.path.isfile(f"/etc/sysusers.d/asgi-{name}.conf")
    if wanted.get("account"):
        if user and not mine:
            yield f"a user {name} (home {user.pw_dir})", None
        # Who is in the application's group reads what is the application's; and a group's rights would be the application's.
        if group and not (group.gr_gid == user.pw_gid if user and mine else known and not user):
            yield f"a group {name}", None
        builder = entry(pwd.getpwnam, f"{name}-build")
        if builder and builder.pw_dir != f"/var/cache/asgi-{name}-build":
            yield f"a user {name}-build (home {builder.pw_dir})", None
        for directory in (place.format(name) for place in DIRECTORIES):
            if os.path.lexists(directory) and not known:
                yield f"a directory {directory}", f"mv {directory} {directory}.before"
    yield from foreign_units(name, wanted.get("units", []), units, mine)
    for program in wanted.get("programs", []):
        if os.path.lexists(program) and OWN not in text(program):
            yield f"a program {program}", f"mv {program} {program}.before"
    if wanted.get("sites") and not os.path.lexists(NGINX_OWN):
        for path in (place.format(site) for place in SITES for site in wanted["sites"]):
            if os.path.lexists(path):
                yield f"a site {path}", f"mv {path} /root/"


def foreign_units(
    name: str, wanted: list[str], units: dict[str, list[str]], mine: bool
) -> Iterator[tuple[str, str | None]]:
    """Units of the names that are wanted, and what would start them, unless the role wrote them."""
    core = (f"{name}.service", f"{name}@.service", f"{name}-drain@.service")
    missing = set()
    for unit in wanted:
        stem, _, kind = unit.rpartition(".")
        names = [unit, *(f"{stem}.{other}" for other in STARTERS if kind == "service")]
        if stem.endswith("@"):
            names += sorted(
                known for known in units if known.startswith(stem) and known.endswith(f".{kind}") and known != unit
            )
        paths = [path for known in dict.fromkeys(names) for path in units.get(known, [])]
        # Before units said whose they are, those that each application has were known by what they run.
        own = {
            path
            for path in paths
            if os.path.dirname(path) == OWN_UNITS
            and (
                MARK in (content := text(path))
                or (mine and unit in core and (OWN in content or f"/srv/{name}/".encode() in content))
            )
        }
        if not own:
            missing.add(unit)
        for path in paths:
            if path not in own:
                yield f"a unit {path}", None
    for path in bus_services(missing) if missing else []:
        yield f"a D-Bus service {path}", None


def unit_files() -> dict[str, list[str]]:
    """The paths of every unit, alias and generated unit, by its name."""
    found: dict[str, list[str]] = {}
    for place in UNIT_PLACES:
        for name in listed(place):
            found.setdefault(name, []).append(f"{place}/{name}")
    return found


def bus_services(units: Iterable[str]) -> list[str]:
    """What D-Bus would start one of the units for."""
    wanted = {f"SystemdService={unit}".encode() for unit in units}
    paths = [f"{place}/{name}" for place in BUS_PLACES for name in listed(place)]
    return [path for path in paths if wanted & {line.strip() for line in text(path).splitlines()}]


def listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def text(path: str | os.PathLike[str], limit: int = 65536) -> bytes:
    """The beginning of a file; nothing where it is a link or no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def entry(ask: Callable[[str], T], name: str) -> T | None:
    try:
        return ask(name)
    except KeyError:
        return None


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    sentences = taken(parameters["applications"])
    if sentences:
        raise Failed("\n".join(sentences))
    return {"changed": False}
