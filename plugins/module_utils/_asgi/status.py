# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells what runs on a host, and goes through Django's deployment checklist for it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time

from ansible_collections.vivarium.server.plugins.module_utils._asgi.checklist import (
    checklist,
    line_of,
    moment,
    read_json,
    total,
)
from ansible_collections.vivarium.server.plugins.module_utils._asgi.probe import LocalTLSConnection
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    ROOT,
    Application,
    run,
    systemctl_show,
    tell_of_fallen,
)
from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import times_and_issuer
from ansible_collections.vivarium.server.plugins.module_utils._maintenance.state import closed
from ansible_collections.vivarium.server.plugins.module_utils._maintenance.state import line_of as closed_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NO_CERTIFICATE = {"certificate_ends": None, "certificate_trouble": None}


def applications_here() -> Iterator[str]:
    """The applications of which there is a release."""
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.scandir(ROOT), key=lambda entry: entry.name):
            if entry.is_dir() and any(
                (release.path / "release.json").is_file() for release in Application(entry.name).releases()
            ):
                yield entry.name


def status_of(name: str, deploys: int) -> dict[str, Any]:
    application = Application(name)
    live = application.live()
    fallen = tell_of_fallen(application)
    found = {
        "live": live.id if live else None,
        "fallen": "\n".join(fallen) or None,
        "deploys": last_deploys(application, deploys),
        "units": units_of(name),
    }
    if not live:
        return {**found, **NO_CERTIFICATE, "version": None, "since": None, "checklist": None}
    record, site = live.record, read_json(live.path / "checklist.json").get("site")
    return {
        **found,
        "version": record.get("version"),
        "since": record.get("live_since"),
        **NO_CERTIFICATE,
        **(certificate_of(site["verify"]) if site and site["verify"] else {}),
        "checklist": checklist(application, live, site, thorough=True) if site else None,
    }


def last_deploys(application: Application, number: int) -> list[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        entries = []
        for line in (application.root / "deploys.log").read_text(errors="replace").splitlines()[-number:]:
            # The last line may be half written.
            with contextlib.suppress(ValueError):
                entries.append(json.loads(line))
        return entries
    return []


def units_of(name: str) -> list[dict[str, Any]]:
    """Instances, processes and timers, with the state of each and how it ended last."""
    patterns = (f"{name}@*.service", f"{name}-*.service", f"{name}-*.timer")
    listing = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", *patterns])[1]
    units = []
    for unit in (line.split()[0] for line in listing.splitlines() if line.strip()):
        shown = systemctl_show(
            unit, "ActiveState", "SubState", "Result", "ExecMainExitTimestamp", "NextElapseUSecRealtime", "NRestarts"
        )
        units.append(
            {
                "unit": unit,
                "state": shown.get("ActiveState"),
                "result": shown.get("Result"),
                "restarts": int(shown.get("NRestarts") or 0),
                "ended": shown.get("ExecMainExitTimestamp") or None,
                "next": shown.get("NextElapseUSecRealtime") or None,
            }
        )
    return units


def certificate_of(verify: dict[str, Any]) -> dict[str, Any]:
    """When the certificate ends that a visitor gets, in seconds since 1970, and what is wrong with it."""
    connection = LocalTLSConnection(verify["port"], verify["domain"], 5)
    try:
        connection.connect()
        certificate = connection.sock.getpeercert(binary_form=True)
    except OSError:
        return {}
    finally:
        connection.close()
    command = "openssl x509 -inform der -noout -startdate -enddate -subject_hash -issuer_hash".split()
    shown = subprocess.run(command, input=certificate, capture_output=True, check=False)
    lines = shown.stdout.decode(errors="replace").splitlines()
    if shown.returncode != 0 or len(lines) != 4:
        return {}
    begin, end, self_signed = times_and_issuer(lines)
    trouble = None
    if self_signed:
        trouble = "signed by itself, of which browsers warn"
    elif end - time.time() < (end - begin) / 4:
        trouble = "should have been renewed by now (docs/certificates.md)"
    return {"certificate_ends": end, "certificate_trouble": trouble}


def text_of(name: str, status: dict[str, Any]) -> Iterator[str]:
    """A status for people."""
    if not status["live"]:
        yield f"{name}: no live release"
    else:
        yield f"{name}: {status['version']}, release {status['live']}, live since {moment(status['since'] or 0)}"
    for unit in status["units"]:
        told = [unit["state"]]
        if unit["result"] not in ("success", ""):
            told.append(f"last result {unit['result']}")
        if unit["restarts"]:
            told.append(f"{unit['restarts']} restarts")
        if unit["unit"].endswith(".timer"):
            told.append(f"next {unit['next'] or 'never'}")
        elif unit["ended"]:
            told.append(f"ended {unit['ended']}")
        yield f"  {unit['unit']:<44} {', '.join(told)}"
    if status["certificate_ends"]:
        days = int((status["certificate_ends"] - time.time()) // 86400)
        trouble = f"; {status['certificate_trouble']}" if status["certificate_trouble"] else ""
        yield f"  certificate ends {moment(status['certificate_ends'])}, in {days} days{trouble}"
    for entry in status["deploys"]:
        outcome = f"{entry.get('outcome')}{' at ' + str(entry['step']) if entry.get('step') else ''}"
        yield f"  {str(entry.get('at'))[:19]}  {entry.get('action')} {entry.get('version')} by {entry.get('by')}: {outcome}"
    if not status["checklist"]:
        yield "  deployment checklist: no report, for the live release was made before there was one"
        return
    yield f"  {total(status['checklist'])}"
    for heading in status["checklist"]["headings"]:
        yield f"    {line_of(heading)}"


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    maintenance = closed()
    found = {
        name: {**status_of(name, parameters["deploys"]), "maintenance": maintenance.get(name)}
        for name in applications_here()
    }
    # What went wrong first.
    text = [line for status in found.values() for line in (status["fallen"] or "").splitlines()]
    text += [line for name, status in found.items() for line in text_of(name, status)]
    return {
        "changed": False,
        "applications": found,
        "maintenance": maintenance,
        "closed": [closed_line(name, state) for name, state in maintenance.items()],
        "text": text or ["no applications"],
    }
