# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The texts of an inventory for one project: hosts, the application, secrets. YAML's own library quotes every value."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.complete import asgi_apps
from ansible_collections.vivarium.server.plugins.plugin_utils._init.answers import Answers, is_address
from ansible_collections.vivarium.server.plugins.plugin_utils._init.project import InitError, Project
from ansible_collections.vivarium.server.plugins.plugin_utils._init.repository import Repository
from ansible_collections.vivarium.server.plugins.plugin_utils._wiring.inputs import wiring

GROUPS = ("web_servers", "app_servers", "db_servers")
MOST_LINES = 25
NOBODY = "init was not told an address: say ADMINS in env, and take this out"


def application(project: Project, answers: Answers, name: str, source: dict[str, Any]) -> dict[str, Any]:
    """The entry of asgi_apps; ``secrets`` holds the names of variables in the place of their values."""
    env = dict(project.env)
    waivers = {}
    if project.framework == "django" and not project.says_admins:
        if answers.email:
            env = {"ADMINS": answers.email, **env}
        else:
            waivers = {"vivarium.W008": NOBODY}
    packages = project.packages
    entry: dict[str, Any] = {
        "name": name,
        "source": source,
        "framework": None if project.framework == "django" else project.framework,
        "application": project.application,
        "settings": project.settings or None,
        "domains": answers.domains,
        "health_path": project.health_path or None,
        "python": f"python{packages.python_wanted}" if packages.python_wanted else None,
        "install": packages.install or None,
        # Without Django, false is the default.
        "database": None if project.framework == "none" and project.database is False else project.database,
        "env": env or None,
        "secrets": secret_names(project) or None,
        "hooks": project.hooks or None,
        "processes": _processes(project, name) or None,
        "waivers": waivers or None,
    }
    return {key: value for key, value in entry.items() if value is not None}


def has_database(project: Project) -> bool:
    return project.database is not False and (project.framework == "django" or project.database is not None)


def secret_names(project: Project) -> list[str]:
    return [*project.secret_key, *project.keys, *(["DATABASE_PASSWORD"] if has_database(project) else [])]


def check(entry: dict[str, Any], host: str, groups: list[str]) -> None:
    """The collection's own checks, with secrets that are made up: what is written is what they let through."""
    made_up = dict.fromkeys(entry.get("secrets", []), "x7Kq" * 16)
    whole = {**entry, "secrets": made_up}
    asgi_apps([whole])
    wiring([whole], host, {group: [host] for group in groups}, {host: {"asgi_apps": [whole]}})


def groups_of(project: Project) -> list[str]:
    return [group for group in GROUPS if group != "db_servers" or has_database(project)]


def host_name(answers: Answers) -> str:
    """What the inventory calls the server: its name, or one for an address."""
    return "server1" if is_address(answers.host) else answers.host


def texts(entry: dict[str, Any], answers: Answers, project: Project, groups: list[str]) -> tuple[str, str]:
    """hosts.yml and main.yml, no more than MOST_LINES with the secrets: where much is said, with fewer words about it."""
    found = ("", "")
    for words, apart in ((True, True), (False, True), (False, False)):
        found = hosts_text(answers, groups, words), main_text(entry, answers, project, words, apart)
        if "".join(found).count("\n") + len(secret_names(project)) + 1 <= MOST_LINES:
            break
    return found


def hosts_text(answers: Answers, groups: list[str], words: bool = True) -> str:
    host = host_name(answers)
    said = {"ansible_host": answers.host} if host != answers.host else {}
    lines = [
        *["# Where things run. One machine is in all groups; move a host to another group and the rest follows."]
        * words,
        "all:",
        f"  hosts: {_flow({host: {**said, 'ansible_user': answers.user}})}",
        "  children:",
        *(f"    {group}: {_flow({'hosts': {host: {}}})}" for group in groups),
    ]
    return "\n".join(lines) + "\n"


def main_text(entry: dict[str, Any], answers: Answers, project: Project, words: bool = True, apart: bool = True) -> str:
    lines = [
        "# What runs. Everything not said here is derived, and whatever you say wins: roles/asgi/README.md has every key."
    ] * words
    if answers.email:
        lines.append(f"certificates_acme_email: {_flow(answers.email)}")
    else:
        lines.append("# certificates_acme_email: you@example.com    # for a certificate that browsers trust")
    if project.packages.python_wanted:
        lines.append(f"python_versions: {_flow([project.packages.python_wanted])}")
    lines.append("asgi_apps:")
    for index, (key, value) in enumerate(entry.items()):
        begin = f"  {'-' if index == 0 else ' '} {key}:"
        if key == "secrets":
            lines.append(f'{begin} "{{{{ vault_{entry["name"]}_secrets }}}}"')
        elif key == "processes" and apart:
            lines.append(begin)
            lines += [f"      {process}: {_flow(options)}" for process, options in value.items()]
        else:
            lines.append(f"{begin} {_flow(value)}")
    return "\n".join(lines) + "\n"


def secrets_text(name: str, project: Project) -> str:
    """Secrets that nobody has seen; the same key under each of the names that it is read by."""
    key = secrets.token_urlsafe(50)
    made = dict.fromkeys(project.secret_key, key)
    made |= {variable: secrets.token_urlsafe(50) for variable in project.keys}
    if has_database(project):
        made["DATABASE_PASSWORD"] = secrets.token_hex(24)
    lines = [f"vault_{name}_secrets:", *(f"  {variable}: {_flow(value)}" for variable, value in made.items())]
    return "\n".join(lines) + "\n"


def source_of(project: Project, inventory: Path, inside: bool, repository: Repository | None) -> dict[str, Any]:
    """Where a deploy gets the code: what is pushed, or the directory itself where CI has it anyway or nothing is pushed."""
    root, within = project.root, project.within
    if repository and repository.url and not inside:
        below = os.path.relpath(root / within, repository.top)
        return {"git": repository.url, "version": repository.branch} | ({} if below == "." else {"subdirectory": below})
    path = os.path.relpath(root, inventory)
    # Over the top of everything, a path from there is shorter and says more.
    if os.path.commonpath([root, inventory]) == os.sep:
        path = str(root)
    source: dict[str, Any] = {"path": path}
    if within:
        source["subdirectory"] = within
    if root in inventory.parents:
        # A change of the inventory is no new release, and its secrets go nowhere.
        source["exclude"] = [inventory.relative_to(root).parts[0]]
    return source


def _processes(project: Project, name: str) -> dict[str, Any]:
    if not project.celery:
        return {}
    celery = f"celery -A {project.celery}"
    found: dict[str, Any] = {"worker": {"command": f"{celery} worker --loglevel INFO", "stop_timeout": 60}}
    if project.beat:
        found["beat"] = {
            "command": f"{celery} beat --loglevel INFO{project.beat.replace('{name}', name)}",
            "overlap": False,
        }
    return found


def _flow(value: Any) -> str:
    """A value on one line of YAML. What Ansible would take for a template is refused: it would be run."""
    _refuse_templates(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, sort_keys=False, allow_unicode=True)
    return re.sub(r"\n\.\.\.\n\Z", "", text).strip()


def _refuse_templates(value: Any) -> None:
    for text in value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else [value]:
        if isinstance(text, dict | list):
            _refuse_templates(text)
        elif isinstance(text, str) and (re.search(r"\{[{%#]", text) or not text.isprintable()):
            raise InitError(f"{text!r:.120} cannot be written into an inventory: Ansible would take it for a template")
