# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Goes through Django's deployment checklist for a live release: each heading is proven, waived, failed, or cannot be told.

What the settings say was found out by the gate when the release was made (gate.json). What visitors see is asked of the running
thing. Nothing is changed.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import ssl
import stat
import time
from pathlib import Path

from ansible_collections.vivarium.server.plugins.module_utils._asgi.headings import HEADINGS, PLAIN, STRANGER
from ansible_collections.vivarium.server.plugins.module_utils._asgi.probe import (
    LocalTLSConnection,
    UnixConnection,
    answer_of,
)
from ansible_collections.vivarium.server.plugins.module_utils._asgi.releases import (
    PROGRAMS,
    Application,
    Release,
    printable,
    read_regular,
    run,
    systemctl_show,
    wait_until,
)
from ansible_collections.vivarium.server.plugins.module_utils._asgi.running import ask, differences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DEBUG_PAGE = "DEBUG = True"
STOCK_PAGE = "The requested resource was not found on this server."
BACKUP_CONFIG = Path("/etc/postgresql-backup.json")
# What of an application's description the report needs later, when nobody has the inventory at hand.
SITE = (
    "name",
    "framework",
    "domains",
    "path",
    "verify",
    "static_url",
    "media_url",
    "timers",
    "processes",
    "server",
    "database",
    "hsts_header",
)
# nginx may use connections to the release before for this long after a switch (seconds).
SETTLED = 10
# How long the instance may take to say what it runs with (seconds).
ASK_PATIENCE = 10
# How long to look at uploads (seconds).
UPLOADS_PATIENCE = 30
# What is read of a process's command (bytes).
COMMAND_LIMIT = 4096
# What is told of a heading (letters).
HOW_LIMIT = 2000
# How long a line may take to the journal (seconds).
JOURNAL_PATIENCE = 1


class Unproven(Exception):
    """A heading that this host cannot tell."""


class Broken(Exception):
    """A heading that does not hold: what was seen, and the ids of messages whose waiver covers it."""

    def __init__(self, seen: str, *ids: str) -> None:
        super().__init__(seen)
        self.ids = ids


def checklist(
    application: Application, release: Release, site: dict[str, Any], thorough: bool = False
) -> dict[str, Any]:
    """The report on a release that is live; `site` is the application's description, or what an earlier report kept of it.

    `thorough` looks at uploads too, however many there are.
    """
    report = _Report(application, release, {key: site.get(key) for key in SITE}, thorough)
    headings = report.headings()
    counts = {
        state: sum(each["state"] == state for each in headings) for state in ("proven", "waived", "failed", "unknown")
    }
    return {
        "application": application.name,
        "release": release.id,
        "made": time.time(),
        "site": report.site,
        "counts": counts,
        "headings": headings,
    }


def summary(report: dict[str, Any]) -> list[str]:
    """The report in a line, and what does not hold or cannot be told."""
    told = [line_of(each) for state in ("failed", "unknown") for each in report["headings"] if each["state"] == state]
    return [total(report), *told]


def total(report: dict[str, Any]) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in report["counts"].items() if number)
    # The page is Django's; what of it concerns any site is asked of other applications too.
    whose = "Django's deployment" if report["site"]["framework"] == "django" else "Deployment"
    return f"{whose} checklist: {counts} of {len(report['headings'])}"


def line_of(heading: dict[str, Any]) -> str:
    waived = "".join(f"; waived: {each['id']} ({each['reason']})" for each in heading["waived"])
    return f"{heading['state']:<8} {heading['title']}: {heading['how']}{waived}"


class _Report:
    """One method for each heading; it returns what proves the heading, or None where it does not concern the application."""

    def __init__(self, application: Application, release: Release, site: dict[str, Any], thorough: bool) -> None:
        self.application, self.release, self.site, self.thorough = application, release, site, thorough
        self.domain = site["domains"][0]
        # A report made by an older version knows of none.
        self.path = site["path"] or "/"
        self.verify = site["verify"] or {}
        self.django = site["framework"] == "django"
        self.gate = read_json(release.path / "gate.json")
        self.facts = self.gate.get("facts", {})
        self.messages = messages_of(self.gate)
        self.page: tuple[int, dict[str, str], str, str] | None = None
        self.answer: dict[str, str] | None = None
        self.nonsense = f"vivarium-probe-{secrets.token_hex(8)}"

    def headings(self) -> list[dict[str, Any]]:
        found = []
        for title, method, ids in HEADINGS:
            covers: tuple[str, ...] = ()
            state: str
            how: str | None
            title = title if self.django else PLAIN.get(title, title)
            if self.django and not self.facts:
                state, how = "unknown", "the release was made before there was a report"
            else:
                state, how, covers = self.ask(getattr(self, method))
            if how is None:
                continue
            messages = [each for each in self.messages if each["id"] in ids]
            failed = [each for each in messages if each["state"] == "failed"]
            waived = [{"id": each["id"], "reason": each["reason"]} for each in messages if each["state"] == "waived"]
            if failed:
                state, how = "failed", "; ".join(f"{each['id']}: {each['message']}" for each in failed)
            elif state == "failed" and any(each["id"] in covers for each in waived):
                state = "waived"
            found.append({"title": title, "state": state, "how": words(str(how)), "waived": waived})
        return found

    def ask(self, method: Callable[[], str | None]) -> tuple[str, str | None, tuple[str, ...]]:
        try:
            return "proven", method(), ()
        except Unproven as reason:
            return "unknown", str(reason), ()
        except Broken as reason:
            return "failed", str(reason), reason.ids
        # Whatever it is: a report does not stop the deploy that it is about.
        except Exception as error:
            return "failed", f"no answer ({type(error).__name__}: {error})", ()

    # What a visitor does.

    def visit(self, path: str) -> tuple[int, dict[str, str], str, str]:
        """The application's answer to a path: through nginx, or on its socket while nginx may still ask the release before."""
        since = self.release.record.get("live_since") or 0
        if self.verify and time.time() - since > SETTLED:
            answer = self.site_answer(path)
            # Whom nginx keeps out (protect) has not seen the application.
            if answer[0] not in (401, 403):
                return (*answer, "through nginx")
        return (*answer_of(UnixConnection(self.release.socket, 10), path, self.domain), "on its socket")

    def site_answer(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        port = self.verify["port"]
        host = self.domain if port == 443 else f"{self.domain}:{port}"
        return answer_of(LocalTLSConnection(port, self.domain, 10), path, host, method=method)

    def missing_page(self) -> tuple[int, dict[str, str], str, str]:
        """What the application says of a page that is not there; asked once."""
        if not self.page:
            self.page = self.visit(self.path + self.nonsense)
        return self.page

    def as_checked(self, *names: str) -> str:
        """What the checks saw of these settings is what the running instance has: it is asked once."""
        checked = self.facts.get("running")
        if not isinstance(checked, dict):
            return ""  # the release was made before an instance could say so, or has nothing to say
        if self.answer is None:
            try:
                self.answer = differences(checked, ask(self.release, self.domain, ASK_PATIENCE) or checked)
            except (OSError, http.client.HTTPException) as error:
                raise Unproven(f"the running instance does not say what it runs with ({error})") from error
        others = [said for name, said in self.answer.items() if name in ("settings module", *names)]
        if others:
            raise Broken(f"the running instance does not have what was checked: {'; '.join(others)}")
        return ", as the running instance says"

    def needs_site(self) -> None:
        if not self.verify:
            raise Unproven("the web servers are other hosts")

    # The headings.

    def checks(self) -> str:
        if not self.gate:
            raise Unproven("the release was made before there was a report")
        waived = sum(each["state"] == "waived" for each in self.messages)
        when = moment(self.gate["made"])
        return f"passed at level {self.gate['fail_level']} before the release got a request ({when}), {waived} messages waived"

    def server(self) -> str:
        properties = systemctl_show(self.release.unit, "MainPID", "ActiveState")
        if properties.get("ActiveState") != "active":
            raise Broken(f"{self.release.unit} is {properties.get('ActiveState') or 'not there'}")
        # A process says itself where its words lie (prctl(2), PR_SET_MM_MAP), gigabytes perhaps.
        with open(f"/proc/{properties['MainPID']}/cmdline", "rb", buffering=0) as stream:
            command = stream.read(COMMAND_LIMIT).replace(b"\0", b" ").decode(errors="replace")
        if "runserver" in command:
            raise Broken(f"{self.release.unit} runs manage.py runserver")
        if self.site["server"] not in command:
            raise Unproven(f"{self.release.unit} runs {command[:60]}")
        return f"{self.site['server']} runs as {self.release.unit}"

    def secret_key(self) -> str | None:
        mode = stat.S_IMODE((self.release.path / "env").stat().st_mode)
        if mode & 0o077:
            raise Broken(f"its environment file can be read by others (mode {mode:04o})")
        if not self.django:
            number, asked = self.facts.get("secrets"), self.as_checked("secrets")
            return f"{number} from a file that root alone reads{asked}; none stands in the code" if number else None
        key = self.facts["secret_key"]
        if not key["from_environment"]:
            raise Broken("it is not the one of the environment")
        asked = self.as_checked("SECRET_KEY")
        fallbacks = f", {key['fallbacks']} fallbacks" if key["fallbacks"] else ""
        return f"{key['length']} characters{fallbacks}, from a file that root alone reads{asked}; it stands nowhere in the code"

    def debug(self) -> str | None:
        asked = self.as_checked("DEBUG", "debug")
        if not self.django:
            # Not every callable has an attribute that tells.
            return f"it is off{asked}" if self.facts.get("debug") is False else None
        status, _headers, body, way = self.missing_page()
        if DEBUG_PAGE in body or self.facts["debug"]:
            raise Broken(f"a missing page shows Django's debug page ({way})", "security.W018")
        return f"it is off{asked}; a missing page answers {status} {way}, without a word of the code"

    def allowed_hosts(self) -> str:
        seen = []
        if self.verify:
            seen.append(self.stranger_at_nginx())
        if self.django:
            self.as_checked("ALLOWED_HOSTS")
            if not self.facts["refuses_strangers"]:
                raise Broken("the application takes any name", "vivarium.E001")
            if self.facts["strangers_are_reported"]:
                seen.append("Django refused one when the release was checked")
            else:
                status, *_rest = answer_of(UnixConnection(self.release.socket, 10), self.path, STRANGER)
                if status != 400:
                    raise Broken(f"an unknown name got {status} from the application")
                seen.append("400 from the application itself")
        if not seen:
            raise Unproven("the web servers are other hosts")
        return f"an unknown name gets {', '.join(seen)}"

    def stranger_at_nginx(self) -> str:
        try:
            status, *_rest = answer_of(
                http.client.HTTPConnection("127.0.0.1", self.verify["http_port"], timeout=5), "/", STRANGER
            )
            raise Broken(f"an unknown name got {status} from nginx")
        except (http.client.RemoteDisconnected, ConnectionResetError):
            pass
        try:
            answer_of(LocalTLSConnection(self.verify["port"], STRANGER, 5), "/", STRANGER)
            raise Broken("an unknown name got an answer over TLS from nginx")
        except (ssl.SSLError, http.client.RemoteDisconnected, ConnectionResetError):
            return "no answer and no TLS handshake from nginx"

    def caches(self) -> str | None:
        if not self.django:
            return None
        self.as_checked("CACHES", "CHANNEL_LAYERS")
        kinds = sorted(set(self.facts["caches"].values()))
        alone = any(each["id"] == "vivarium.I005" for each in self.messages)
        return (
            "the project sets none" if alone else f"{', '.join(kinds)}, which all processes share" if kinds else "none"
        )

    def databases(self) -> str | None:
        if not self.django and not self.site["database"]:
            return None
        self.as_checked("DATABASES")
        seen = []
        database = self.facts.get("database", {})
        if database.get("limits"):
            seen.append(f"PostgreSQL {database['limits']['version']} let in a role that may do nothing else")
            if database["password_refused"]:
                seen.append("with its password alone")
        elif self.django:
            seen.append(f"{database['vendor']}, not on the inventory's server")
        seen.append(self.backups())
        return ", ".join(filter(None, seen))

    def backups(self) -> str:
        if not self.site["database"]:
            return "backups are yours"
        config = read_json(BACKUP_CONFIG)
        # This host may have been the database's server once.
        host = self.facts.get("database", {}).get("host") or ""
        if not config or not (host == "" or host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")):
            return "its backups are on the database's host"
        if config.get("databases") and self.site["name"] not in config["databases"]:
            raise Broken("it is not among the databases that are backed up (postgresql_backup_databases)")
        status = (
            read_json(Path(config["state_directory"], "status.json")).get("databases", {}).get(self.site["name"], {})
        )
        if status.get("result", "ok") != "ok":
            raise Broken(f"its last backup failed ({status.get('error') or status['result']})")
        if not status.get("last_success"):
            return "the first backup is for tonight"
        return f"backed up and restored on {str(status['last_success'])[:16]}"

    def mail(self) -> str | None:
        if not self.django:
            return None
        mail, senders = self.facts["mail"], " and ".join(dict.fromkeys(self.facts["senders"]))
        if mail["answers"] is False:
            host = mail["host"] or "localhost (EMAIL_HOST is empty)"
            raise Broken(
                f"no mail server answered at {host}:{mail['port']} when the release was checked", "vivarium.I019"
            )
        if mail["answers"] is None:
            raise Unproven(f"mail goes through {mail['backend']}, as {senders}")
        return f"{mail['host']}:{mail['port']} answered when the release was checked; mail is sent as {senders}"

    def static(self) -> str | None:
        if not self.site["static_url"]:
            return "none are served" if self.django else None
        self.needs_site()
        name, hashed = self.static_file()
        if not name:
            return "there are none"
        status, headers, _body = self.site_answer(self.site["static_url"] + name)
        if status != 200:
            raise Broken(f"{name} answers {status}")
        if hashed and "immutable" not in headers.get("cache-control", ""):
            raise Broken(f"{name} has a hash in its name, but is not cached for good")
        return f"nginx serves {name}{', cached for good' if hashed else ''}"

    def static_file(self) -> tuple[str | None, bool]:
        manifest = read_json(self.release.path / "static/staticfiles.json").get("paths", {})
        if manifest:
            return next(iter(sorted(manifest.values(), key=lambda name: (not name.endswith(".css"), name)))), True
        for directory, _directories, files in os.walk(self.release.path / "static"):
            for name in sorted(files):
                return os.path.relpath(os.path.join(directory, name), self.release.path / "static"), False
        return None, False

    def media(self) -> str | None:
        if not self.site["media_url"]:
            return "there are no uploads" if self.django else None
        self.needs_site()
        # There may be no upload, and what is missing has a page of nginx's. This is refused by the location of uploads itself.
        status, headers, _body = self.site_answer(f"{self.site['media_url']}{self.nonsense}.php", "OPTIONS")
        if headers.get("x-content-type-options") != "nosniff" or "sandbox" not in headers.get(
            "content-security-policy", ""
        ):
            raise Broken(f"uploads are not served as untrusted (OPTIONS of one answers {status} without the headers)")
        unreadable = self.unreadable_upload() if self.thorough else ""
        if unreadable:
            raise Broken(
                f"nginx cannot read {unreadable}: what writes it gives it mode 0600; chmod it to 0640", "vivarium.W032"
            )
        return "nginx serves uploads as files, never runs them, and tells browsers to trust none; their backup is yours"

    def unreadable_upload(self) -> str:
        """One that visitors get 403 for. Whoever wrote it looks, in its own sandbox: root does not walk there."""
        name = self.application.name
        look = (
            "/usr/bin/find",
            str(self.application.root / "media"),
            "-type",
            "f",
            "!",
            "-perm",
            "-g=r",
            "-print",
            "-quit",
        )
        limit = f"--property=RuntimeMaxSec={UPLOADS_PATIENCE}"
        code, output = run([f"{PROGRAMS}/{name}-run", "live", limit, "--", *look], timeout=None)
        return words(output.strip()) if code == 0 else ""

    def https(self) -> str:
        if not self.verify:
            self.one_decision()
        self.needs_site()
        connection = http.client.HTTPConnection("127.0.0.1", self.verify["http_port"], timeout=5)
        status, headers, _body = answer_of(connection, self.path, self.domain)
        if status not in (301, 308) or not headers.get("location", "").startswith(f"https://{self.domain}"):
            raise Broken(f"plain HTTP answers {status} {headers.get('location', '')}")
        said = hsts_of(self.site_answer(self.path))
        decided = self.site["hsts_header"]
        # A report made by an older version does not know what was decided.
        if decided is not None and not same(said, decided):
            raise Broken(
                f"nginx says {said or 'no Strict-Transport-Security'}, and the inventory (hsts) {decided or 'none'}: the playbook"
                " site brings it there"
            )
        if decided is not None and self.site["static_url"]:
            of_files = hsts_of(self.site_answer(f"{self.site['static_url']}{self.nonsense}"))
            if not same(of_files, decided):
                raise Broken(
                    f"files are served with {of_files or 'no Strict-Transport-Security'}, pages with {said or 'none'}"
                )
        self.one_decision()
        if said.startswith("max-age=") and not said.startswith("max-age=0"):
            return f"plain HTTP answers {status} to HTTPS, which says {said}"
        if decided is None or self.django:
            raise Broken("there is no Strict-Transport-Security header", "security.W004")
        return f"plain HTTP answers {status} to HTTPS; the inventory turns Strict-Transport-Security off (hsts)"

    def one_decision(self) -> None:
        """What the project means to send differs from what visitors get: nginx sends what the inventory says."""
        decided = self.site["hsts_header"]
        if decided is None:
            return
        for each in self.gate.get("messages", []):
            if each["id"] == "vivarium.I028":
                raise Broken(each["message"], "vivarium.I028")
        own = hsts_of(answer_of(UnixConnection(self.release.socket, 10), self.path, self.domain))
        if own and not same(own, decided):
            raise Broken(
                f"the application sends {own}, and the inventory (hsts) says {decided or 'none'}, which visitors get"
            )

    def csrf_cookie(self) -> str | None:
        if not self.django:
            return None
        if not self.facts["cookies"]["csrf"]:
            raise Broken("it is off", "security.W016")
        # One of a project that does not know its path may be another application's.
        if not self.facts["login"] or not self.facts["login"].startswith(self.path):
            return "it is on; there is no login page to see it at"
        _status, headers, _body, way = self.visit(self.facts["login"])
        cookie = next((value for value in headers.get("set-cookie", "").split("\n") if value.startswith("csrf")), None)
        if cookie and "secure" not in cookie.lower():
            raise Broken(f"{self.facts['login']} sets its cookie without Secure")
        return f"{self.facts['login']} sets its cookie with Secure ({way})" if cookie else "it is on"

    def session_cookie(self) -> str | None:
        if not self.django:
            return None
        if not self.facts["cookies"]["session"]:
            raise Broken("it is off", "security.W010", "security.W011", "security.W012")
        return "it is on" if self.facts["sessions"] else "there are no sessions"

    def sessions(self) -> str | None:
        if not self.django:
            return None
        engine = self.facts["sessions"]
        if not engine:
            return "there are none"
        if "db" not in engine:
            return f"kept in {engine}"
        timer = next((name for name, entry in self.site["timers"].items() if "clearsessions" in entry["command"]), None)
        where = "the database and the cache" if engine == "cached_db" else "the database"
        if not timer:
            raise Broken(f"they are in {where}, and no timer removes old ones")
        unit = f"{self.application.name}-{timer}"
        if systemctl_show(f"{unit}.timer", "ActiveState").get("ActiveState") != "active":
            raise Broken(f"{unit}.timer is not active")
        if systemctl_show(f"{unit}.service", "Result").get("Result") not in ("success", ""):
            raise Broken(f"{unit}.service failed when it ran last")
        return f"in {where}; {unit}.timer removes old ones"

    def kept_connections(self) -> str | None:
        if not self.django:
            return None
        database = self.facts["database"]
        if database["kept"]:
            raise Broken(
                f"connections of {', '.join(database['kept'])} are kept, which ASGI's threads cannot share",
                "vivarium.E002",
            )
        if not database["pool"]:
            return "0, as ASGI needs it; no pool"
        return (
            f"0, as ASGI needs it; pools of {database['pool']} instead, {database['connections']} connections at most of"
            f" {database['limits']['connections']} while two releases overlap"
        )

    def templates(self) -> str | None:
        if not self.django:
            return None
        if not self.facts["compiled_templates"]:
            raise Broken("templates are read and compiled for each request")
        return "compiled templates are kept in memory"

    def logging(self) -> str | None:
        if not self.django:
            return None
        status, *_rest = self.missing_page()
        if status == 404 and not wait_until(self.silence, JOURNAL_PATIENCE, 0.1):
            return "the missing page that was asked for stands in the journal"
        if not self.facts["logs_to_stderr"]:
            raise Broken("nothing goes to the journal")
        return "errors go to the journal"

    def silence(self) -> str | None:
        """None once the journal has the request that was asked before."""
        said = run(
            ["journalctl", "--unit", f"{self.application.name}@*", "--since", "-1min", "--output", "cat", "--no-pager"]
        )[1]
        return None if self.nonsense in said else "it is not there"

    def admins(self) -> str | None:
        if not self.django:
            return None
        seen = [f"{self.facts['admins']} hear of errors"] if self.facts["admins"] else []
        seen += ["Sentry gets them"] if self.facts["sentry"] else []
        seen += [f"{self.facts['managers']} hear of broken links"] if self.facts["managers"] else []
        if not self.facts["admins"] and not self.facts["sentry"]:
            raise Broken("nobody hears of errors", "vivarium.W008")
        return ", ".join(seen)

    def error_views(self) -> str | None:
        if not self.django:
            return None
        status, _headers, body, way = self.missing_page()
        own = ", ".join(self.facts["error_pages"])
        kind = "Django's own page, which is enough" if STOCK_PAGE in body else "a page of the project's"
        return f"a missing page answers {status} with {kind} ({way})" + (f"; templates for {own}" if own else "")


def messages_of(gate: dict[str, Any]) -> list[dict[str, str]]:
    """The messages of the gate, each of single lines: the project's own code had a hand in them."""
    messages = gate.get("messages")
    return [
        {key: words(each.get(key)) for key in ("id", "state", "reason", "message")}
        for each in (messages if isinstance(messages, list) else [])
        if isinstance(each, dict)
    ]


def words(value: object) -> str:
    """A text as one line of bounded length; anything else is none."""
    return printable(" ".join(value.split()))[:HOW_LIMIT] if isinstance(value, str) else ""


def hsts_of(answer: tuple[int, dict[str, str], str]) -> str:
    return answer[1].get("strict-transport-security", "")


def same(one: str, other: str) -> bool:
    """Whether two values of Strict-Transport-Security say the same, however they are written."""
    return directives(one) == directives(other)


def directives(value: str) -> list[str]:
    return sorted(filter(None, (each.strip().lower() for each in value.split(";"))))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
