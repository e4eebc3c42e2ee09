# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists the files that the asgi role owns on a host, for vivarium.server.files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import PROGRAMS

UNITS = "/etc/systemd/system"
COMMANDS = f"{PROGRAMS}/commands"
# Where a word of ours belongs in the command of the role's table of servers.
PLACE = re.compile(r"\{([a-z_]+)\}")
# Longer than a worker of Uvicorn's can be silent without a heartbeat that ends it (seconds).
NO_LIMIT = 86400


def asgi_files(
    apps: list[dict[str, Any]], stale_units: Iterable[str] = (), sandbox: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The files of every application, and the removal of units that none has any more."""
    return [
        *(entry for app in apps for entry in _of(app, sandbox or {})),
        *({"path": f"{UNITS}/{unit}", "state": "absent"} for unit in stale_units),
        *(
            {"path": f"{COMMANDS}/{unit.removesuffix('.timer')}", "state": "absent"}
            for unit in stale_units
            if unit.endswith(".timer")
        ),
    ]


def asgi_commands(app: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """The commands of an application's processes, which lie in a release."""
    return [
        _command(f"{path}/commands/{process}", f"The process {process} of {app['name']}", settings)
        for process, settings in app["processes"].items()
    ]


def _command(path: str, title: str, settings: dict[str, Any]) -> dict[str, Any]:
    # Its words are split here as a shell would; neither systemd nor a shell on the host ever sees anything but single words.
    variables = {"title": title, "words": shlex.split(settings["command"])}
    return {"path": path, "template": "command.j2", "mode": "0644", "vars": variables}


def asgi_serve(app: dict[str, Any], server: dict[str, Any], release: str, supervise: str, graceful: int) -> str:
    """The command line of a release's server: its row of the table, with our words in their places.

    They are put there in one pass, so that nothing in a word is taken for a place.
    """
    hang = app["hang_timeout"]
    words = {
        "wrapper": "vivarium_server:application",
        "application": app["callable"],
        "path": f"{app['root']}/releases/{release}",
        "socket": f"{app['runtime']}/{release}.sock",
        "workers": app["workers"],
        "worker_class": app["worker_class"] or "",
        "lifespan": app["lifespan"],
        "graceful": graceful,
        "hang_timeout": hang,
        "parent_patience": max(60, hang + 2) if hang else NO_LIMIT,
        "close_code": server["close_code"],
        "access_log": server["access_log"]["on" if app["access_log"] else "off"],
        "options": " ".join(shlex.quote(str(option)) for option in app["server_options"]),
    }
    command = server["command"].replace("{supervise}", supervise)
    return PLACE.sub(lambda place: str(words[place[1]]), command)


def asgi_sandbox(app: dict[str, Any], table: dict[str, Any], build: bool = False) -> list[str]:
    """The sandbox as lines of a unit; ``build`` is for what makes the application's releases."""
    allowed = [table.get("switches", {})[switch] for switch in app["sandbox_allow"]]
    allowed += [table["build"]] if build and "build" in table else []
    directives: dict[str, Any] = {}
    filters = ["@system-service", "~@privileged @resources"]
    for layer in (table.get("service", {}), *allowed, app["sandbox"]):
        directives |= {key: value for key, value in layer.items() if key != "SystemCallFilter"}
        # Filters add up: what services need, less what needs privileges or raises limits, and what was asked for.
        filters += _lines(layer.get("SystemCallFilter"))
    lines = [f"{key}={line}" for key, value in directives.items() for line in _lines(value)]
    lines += [f"SystemCallFilter={line}" for line in filters]
    state, media = f"/var/lib/asgi-{app['name']}", f"{app['root']}/media"
    if build:
        # It sees nothing that the application has written, and leaves nothing there for it: both are empty, and gone afterwards.
        return [*lines, *(f"TemporaryFileSystem={place}:mode=1777" for place in (state, media))]
    return [*lines, f"ReadWritePaths={state} -{media}"]


def _lines(value: Any) -> list[str]:
    """The lines that a directive's value stands for: null is none, a list is one for each element."""
    if value is None:
        return []
    return [str(line) for line in value] if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]


def _of(app: dict[str, Any], table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name = app["name"]
    service, build = asgi_sandbox(app, table), asgi_sandbox(app, table, build=True)

    def entry(path: str, template: str, mode: str = "0644", **variables: Any) -> dict[str, Any]:
        return {
            "path": path,
            "template": template,
            "mode": mode,
            "vars": {"app": app, "sandbox": service, **variables},
        }

    yield entry(f"/etc/sysusers.d/asgi-{name}.conf", "sysusers.conf.j2")
    yield entry(f"/etc/tmpfiles.d/asgi-{name}.conf", "tmpfiles.conf.j2")
    yield entry(f"{UNITS}/{name}.service", "live.service.j2")
    yield entry(f"{UNITS}/{name}@.socket", "instance.socket.j2")
    yield entry(f"{UNITS}/{name}@.service", "instance.service.j2")
    yield entry(f"{UNITS}/{name}-drain@.service", "drain.service.j2")
    yield entry(f"{PROGRAMS}/{name}-run", "run.sh.j2", mode="0755", build=False)
    yield entry(f"{PROGRAMS}/{name}-build", "run.sh.j2", mode="0755", build=True, sandbox=build)
    if app["framework"] == "django":
        yield entry(f"/usr/local/bin/{name}-manage", "manage.sh.j2", mode="0755")
    for process, settings in app["processes"].items():
        yield entry(f"{UNITS}/{name}-{process}@.service", "process.service.j2", process=process, settings=settings)
    for timer, settings in app["timers"].items():
        yield entry(f"{UNITS}/{name}-{timer}.service", "timed.service.j2", timer=timer, settings=settings)
        yield entry(f"{UNITS}/{name}-{timer}.timer", "timed.timer.j2", timer=timer, settings=settings)
        yield _command(f"{COMMANDS}/{name}-{timer}", f"The timer {timer} of {name}", settings)


def asgi_names(apps: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the applications are called on a host, by their names."""
    return {
        app["name"]: {
            "account": True,
            "units": app["units"],
            "programs": [f"/usr/local/bin/{app['name']}-manage"] if app["framework"] == "django" else [],
        }
        for app in apps
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "asgi_files": asgi_files,
            "asgi_commands": asgi_commands,
            "asgi_names": asgi_names,
            "asgi_serve": asgi_serve,
        }
