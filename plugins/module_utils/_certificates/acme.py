# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask an authority (ACME, RFC 8555) by certbot for the certificates that are not good, all in one run."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._certificates.certificates import (
    DAY,
    RECORD,
    acme_problem,
    canonical,
    look,
    read_record,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CERTBOT = Path("/etc/letsencrypt")
LINEAGE = "vivarium-{}"  # what a certificate is called in certbot, where other people's may be
SECRETS = Path("/run/vivarium-certbot")
LOG = Path("/var/log/letsencrypt/letsencrypt.log")
WEBROOT = "webroot"
CHALLENGES = ".well-known/acme-challenge"
# Seconds: for the authority and for a server of this host to answer, for one certificate, for another certbot to end.
ANSWER, OWN, ASK, BUSY = 30, 5, 300, 120
TRIES = 6
# What certbot says of each name that could not be proven.
REPORT = re.compile(r"^ *Domain: (?P<domain>.+)\n *Type: +(?P<type>.+)\n *Detail: (?P<detail>.+)$", re.MULTILINE)
# What its log has of the authority's errors.
ERROR = re.compile(r"^acme\.messages\.Error: urn:ietf:params:acme:error:(.+)$", re.MULTILINE)
# Those of them that say that it does not know the account, or no longer. Of what an authority quotes from a site none begins so.
ACCOUNT = re.compile(r"accountDoesNotExist|unauthorized :: .*account.*(not valid|deactivated|revoked)", re.IGNORECASE)
LONGEST = 500  # characters of somebody else's message
AGAIN = "The next run of this playbook asks again"


class Trouble(Exception):
    """Why there is no certificate."""


class Unanswered(Trouble):
    """The web server of this host does not answer, perhaps not yet."""


def main(parameters: dict[str, Any], check_mode: bool, diff: bool) -> dict[str, Any]:
    """The module."""
    wanted = []
    before = ""
    for request in parameters["requests"]:
        found = look(home(parameters, request))
        if reason := acme_problem(found, request["domains"], parameters["authority"], request["authenticator"]):
            wanted.append(request)
            before += f"{request['name']}: {reason}\n"
    result: dict[str, Any] = {"changed": bool(wanted), "made": [], "refused": [], "late": [], "unanswered": []}
    result["diff"] = {"before": before, "after": "".join(f"{request['name']}: good\n" for request in wanted)}
    if check_mode or not wanted:
        return result
    troubles = ask_for(parameters, wanted)
    done = subprocess.run(parameters["install"], capture_output=True, text=True, check=False, timeout=ASK)
    for request in wanted:
        name, found = request["name"], look(home(parameters, request))
        good = acme_problem(found, request["domains"], parameters["authority"], request["authenticator"]) is None
        if good and name not in troubles:
            result["made"].append(name)
            continue
        kind, said = sentence(
            request,
            found,
            troubles.get(name) or Trouble(done.stderr or "certbot has got nothing"),
            parameters["authority"],
        )
        result[kind].append(said)
    if done.returncode != 0 and not troubles:
        result["refused"].append(shortened(done.stderr))
    return {**result, "changed": bool(result["made"])}


def home(parameters: dict[str, Any], request: dict[str, Any]) -> str:
    """The directory of a certificate."""
    return os.path.join(parameters["directory"], request["name"])


def sentence(request: dict[str, Any], found: dict[str, Any], trouble: Trouble, authority: str) -> tuple[str, str]:
    """What is said of a certificate that was not got, and before it of what kind that is: whether it can wait."""
    said = f"{request['name']}: {shortened(str(trouble))}"
    covered = found and {canonical(name) for name in request["domains"]} <= set(found.get("names", []))
    issued = found.get("acme") or {}
    # One of another authority may be that of a trial.
    if covered and not found["self_signed"] and found["left"] > 0 and issued.get("authority") in (authority, None):
        end = time.strftime("%Y-%m-%d", time.gmtime(time.time() + found["left"]))
        later = next_try() if issued else AGAIN
        return "late", f"{said}. The site keeps its certificate, which is good until {end}. {later}"
    kept = "a self-signed certificate, of which browsers warn" if found.get("self_signed") else "the certificate it had"
    kind = "unanswered" if isinstance(trouble, Unanswered) else "refused"
    return kind, f"{said}. The site goes on with {kept}. {AGAIN}"


def next_try() -> str:
    """When the timer asks again."""
    command = ["systemctl", "show", "--value", "--property", "NextElapseUSecRealtime", "certbot.timer"]
    moment = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"The next try is {moment} (certbot.timer)" if moment else AGAIN


def ask_for(parameters: dict[str, Any], requests: list[dict[str, Any]]) -> dict[str, Trouble]:
    """Ask for each certificate; return why one was not got, by name."""
    troubles: dict[str, Trouble] = {}
    silent = authority_problem(parameters["authority"])
    for request in requests:
        note(parameters, request)
        try:
            if has(parameters, request):
                continue
            if silent:
                raise Trouble(silent)
            if request["authenticator"] == WEBROOT:
                check_own_answer(parameters, request["domains"])
            ask(parameters, request)
        except Trouble as trouble:
            troubles[request["name"]] = trouble
    return troubles


def note(parameters: dict[str, Any], request: dict[str, Any]) -> None:
    """Write down what is asked for; whoever brings certificates in place goes by it."""
    directory = Path(home(parameters, request))
    for each in (directory.parent, directory):
        if not each.is_dir():
            each.mkdir()
            each.chmod(0o755)  # whatever the umask
    asked = {"authority": parameters["authority"], "domains": request["domains"]}
    record = {**read_record(str(directory)), **asked}
    replace(directory / RECORD, json.dumps(record, indent=2))


def replace(path: Path, text: str) -> None:
    """Write a file that others read, in one step."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    scratch.chmod(0o644)
    scratch.rename(path)


def has(parameters: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether certbot has a good one already, which a killed run did not bring in place: then nothing is asked."""
    name = LINEAGE.format(request["name"])
    with contextlib.suppress(OSError):
        text = (CERTBOT / "renewal" / f"{name}.conf").read_text(encoding="utf-8")
        way = (f"server = {parameters['authority']}", f"authenticator = {request['authenticator']}")
        if not all(f"\n{line}\n" in text for line in way):
            return False
    found = look(str(CERTBOT / "live" / name))
    good = found and found["self_signed"] is False and found["paired"] and found["left"] >= found["life"] / 3
    return bool(good) and found["names"] == sorted({canonical(domain) for domain in request["domains"]})


def authority_problem(url: str) -> str | None:
    """Why an authority could not be asked, or None: no certificate of many has to wait for a silent one."""
    # No stricter than certbot: Python 3.13 of itself asks for extensions that an authority of one's own may do without.
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with urllib.request.urlopen(url, timeout=ANSWER, context=context) as answer:  # noqa: S310, https by the role's check
            known = json.loads(answer.read(100_000))
        if isinstance(known, dict) and "newOrder" in known:
            return None
        problem = "what it answers is not the directory of an ACME server"
    except ValueError:
        problem = "what it answers is not the directory of an ACME server"
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        problem = str(reason)
        if isinstance(reason, ssl.SSLCertVerificationError):
            problem = (
                f"this host does not trust its certificate, {reason.verify_message}"
                " (docs/certificates.md, A company's own authority)"
            )
    return f"the authority {url} cannot be asked: {problem}"


def check_own_answer(parameters: dict[str, Any], domains: list[str]) -> None:
    """The authority counts what fails: what this host's own server does not answer, it is not asked about."""
    token = secrets.token_urlsafe(24)
    directory = Path(parameters["webroot"], CHALLENGES)
    with public_umask():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / token).write_text(token, encoding="ascii")
    try:
        for domain in domains:
            if own_answer(parameters["port"], domain, token) != token:
                raise Unanswered(
                    f"the web server of this host does not show {domain} what lies in {parameters['webroot']} (port"
                    f" {parameters['port']}), so nothing was asked for. It has to run before certificates can be had"
                )
    finally:
        (directory / token).unlink()


def own_answer(port: int, domain: str, token: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=OWN)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", f"/{CHALLENGES}/{token}", headers={"Host": domain})
        return connection.getresponse().read(1000).decode(errors="replace").strip()
    return ""


@contextlib.contextmanager
def public_umask() -> Iterator[None]:
    """Files that the workers of a web server read."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def ask(parameters: dict[str, Any], request: dict[str, Any]) -> None:
    """Have certbot ask for a certificate; with a new account, once, where the authority does not know the old one."""
    remove_half_made(LINEAGE.format(request["name"]))
    refused: str | None = None
    for _try in range(TRIES):
        code, said, error = certbot(parameters, request)
        if code == 0:
            if refused:
                renew_with(parameters["authority"], refused)
            return
        if ACCOUNT.match(error) and not refused:
            refused = put_aside_account(parameters["authority"])
            if refused:
                continue
        # An authority may find any nonce too old; certbot takes two such answers for an end.
        if not error.startswith("badNonce") and "error:badNonce" not in said:
            break
    raise Trouble(explained(said, error))


def remove_half_made(name: str) -> None:
    """What a certbot that was killed left of a certificate: with it there, the next one would get another name."""
    configuration = CERTBOT / "renewal" / f"{name}.conf"
    with contextlib.suppress(FileNotFoundError):
        if "[renewalparams]" in configuration.read_text(encoding="utf-8", errors="replace"):
            return
        configuration.unlink()
    for part in ("live", "archive"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(CERTBOT / part / name)


def certbot(parameters: dict[str, Any], request: dict[str, Any]) -> tuple[int, str, str]:
    """certbot's exit status, what it said, and the authority's last error. Secrets are in a file of root's, not its arguments."""
    with contextlib.suppress(FileExistsError):
        SECRETS.mkdir(mode=0o700)
    for left in SECRETS.iterdir():  # of a run that was killed
        if left.stat().st_mtime < time.time() - DAY:
            left.unlink()
    handle, path = tempfile.mkstemp(suffix=".ini", dir=SECRETS)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("".join(f"{key} = {value}\n" for key, value in options(parameters, request).items()))
        # certbot's service may be at work.
        until = time.monotonic() + BUSY
        while True:
            since = LOG.stat().st_size if LOG.is_file() else 0
            try:
                done = subprocess.run(
                    ["certbot", "certonly", "--config", path],
                    env={**os.environ, "LC_ALL": "C.UTF-8"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    check=False,
                    timeout=ASK + int(parameters["propagation_seconds"]) * len(request["domains"]),
                )
            except subprocess.TimeoutExpired:
                raise Trouble("certbot did not end in time") from None
            if "Another instance of Certbot is already running" not in done.stdout or time.monotonic() > until:
                return done.returncode, done.stdout, last_error(since)
            time.sleep(2)
    finally:
        os.unlink(path)


def last_error(since: int) -> str:
    """The authority's last error in certbot's log, without its prefix: Debian 12's fails while it tells some of them."""
    text = ""
    with contextlib.suppress(OSError), open(LOG, encoding="utf-8", errors="replace") as file:
        file.seek(since if LOG.stat().st_size >= since else 0)
        text = file.read(1_000_000)
    return next(reversed(ERROR.findall(text)), "")


def options(parameters: dict[str, Any], request: dict[str, Any]) -> dict[str, str]:
    """certbot's options for a certificate; those of Debian's configuration, which this takes the place of, among them."""
    values = {
        "non-interactive": "true",
        "agree-tos": "true",
        "no-eff-email": "true",
        "max-log-backups": "0",
        "email": parameters["email"],
        "server": parameters["authority"],
        "cert-name": LINEAGE.format(request["name"]),
        "domains": ",".join(request["domains"]),
        "key-type": "ecdsa",
        "elliptic-curve": "secp256r1",
        "force-renewal": "true",
        "renew-with-new-domains": "true",
    }
    plugin = request["authenticator"]
    if plugin != WEBROOT:
        values |= {"authenticator": plugin, f"{plugin}-propagation-seconds": str(parameters["propagation_seconds"])}
        if parameters["dns_credentials"]:
            values[f"{plugin}-credentials"] = parameters["dns_credentials"]
    else:
        with public_umask():
            Path(parameters["webroot"]).mkdir(parents=True, exist_ok=True)
        values |= {"authenticator": WEBROOT, "webroot-path": parameters["webroot"]}
    if parameters["profile"]:
        values["preferred-profile"] = parameters["profile"]
    if parameters["eab_kid"]:
        values |= {"eab-kid": parameters["eab_kid"], "eab-hmac-key": parameters["eab_hmac_key"]}
    if account := newest_account(parameters["authority"]):
        values["account"] = account
    return values


def accounts(authority: str) -> Path:
    """Where certbot keeps its accounts at an authority."""
    return CERTBOT / "accounts" / authority.partition("://")[2]


def newest_account(authority: str) -> str | None:
    """The account to go on with, where certbot would ask which."""
    with contextlib.suppress(OSError):
        known = [path for path in accounts(authority).iterdir() if (path / "regr.json").is_file()]
        if known:
            return max(known, key=lambda path: path.stat().st_mtime).name
    return None


def put_aside_account(authority: str) -> str | None:
    """Put the account aside that an authority does not know, so that certbot makes a new one; its name."""
    name = newest_account(authority)
    if name:
        aside = CERTBOT / "accounts-refused"
        aside.mkdir(mode=0o700, exist_ok=True)
        (accounts(authority) / name).rename(aside / f"{name}-{int(time.time())}")
    return name


def renew_with(authority: str, refused: str) -> None:
    """Have the other certificates renewed with the new account as well."""
    new = newest_account(authority)
    for path in (CERTBOT / "renewal").glob(LINEAGE.format("*.conf")):
        text = path.read_text(encoding="utf-8")
        if new and f"\naccount = {refused}\n" in text:
            replace(path, text.replace(f"\naccount = {refused}\n", f"\naccount = {new}\n"))


def explained(said: str, error: str) -> str:
    """What certbot says, in short: of each name that could not be proven why, and where the name leads as this host sees it."""
    found = list(REPORT.finditer(said))
    if not found and error:
        return shortened(error)
    if not found:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        noise = (
            "Saving debug log",
            "Ask for help",
            "See the logfile",
            "Requesting a",
            "Renewing an",
            "Plugins selected",
        )
        return shortened(" ".join(line for line in lines if not line.startswith(noise)) or "certbot failed")
    return "; ".join(
        f"{match['domain']} ({match['type']}): {shortened(match['detail'])}{leads(match['domain'])}" for match in found
    )


def leads(domain: str) -> str:
    """The addresses that a name has from this host's view."""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(domain.removeprefix("*."), None)})
    except OSError:
        return ". As this host sees it, the name has no address"
    return f". As this host sees it, the name leads to {', '.join(found[:4])}"


def shortened(text: str) -> str:
    """Somebody else's message on one line."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
