# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who brings which certificate: what the tasks of the certificates role do."""

from __future__ import annotations

from typing import Any

from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import (
    RECORD,
    acme_problem,
    problem,
    stand_in_problem,
    still_issued,
)
from ansible_collections.vivarium.server.plugins.plugin_utils._certificates.acme import credentials_text
from ansible_collections.vivarium.server.plugins.plugin_utils._certificates.requests import completed

# Beside what certbot has itself; the tasks know it by this name too.
CREDENTIALS = "/etc/letsencrypt/vivarium-dns.ini"


def certificates_plan(
    requests: list[dict[str, Any]],
    directory: str,
    found: dict[str, dict[str, Any]] | None = None,
    days: int | str = 397,
    acme: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return who does what: the modules' requests, and what vivarium.server.files writes for the provided ones."""
    inputs = acme or {}
    dns = inputs.get("certificates_acme_dns") or {}
    plan: dict[str, Any] = {"self_signed": [], "acme": [], "kept": [], "directories": [], "files": []}
    packages: set[str] = set()
    for request in completed(requests, inputs.get("certificates_acme_email"), dns):
        home, there = f"{directory}/{request['name']}", (found or {}).get(request["name"], {})
        asked = {"name": request["name"], "domains": request["domains"]}
        if request["type"] == "self_signed":
            # A line that is gone from the inventory is not the word for it.
            keep = {} if request["type_said"] else {"keep_issued": True}
            if problem(there, request["domains"], int(days), **keep) or there["open"]:
                plan["self_signed"].append({**asked, **keep})
            if keep and still_issued(there):
                plan["kept"].append(request["name"])
        elif request["type"] == "acme":
            if stand_in_problem(there):
                plan["self_signed"].append({**asked, "stand_in": True})
            authenticator = f"dns-{dns['plugin']}" if request["challenge"] == "dns" else "webroot"
            if acme_problem(there, request["domains"], inputs["certificates_acme_directory"], authenticator):
                plan["acme"].append({**asked, "authenticator": authenticator})
            packages |= {"certbot", "openssl"}
            if request["challenge"] == "dns":
                packages.add(f"python3-certbot-dns-{dns['plugin']}")
        else:
            plan["directories"].append({"path": home})
            plan["files"] += [
                {"path": f"{home}/{RECORD}", "state": "absent"},
                {"path": f"{home}/fullchain.pem", "content": _text(request["certificate"])},
                {"path": f"{home}/privkey.pem", "content": _text(request["key"]), "mode": "0600", "secret": True},
            ]
    if dns.get("credentials") and packages:
        text = credentials_text(dns["credentials"])
        plan["files"].append({"path": CREDENTIALS, "content": text, "mode": "0600", "secret": True})
    return {**plan, "packages": sorted(packages)}


def _text(pem: object) -> str:
    return str(pem).replace("\r\n", "\n").strip() + "\n"
