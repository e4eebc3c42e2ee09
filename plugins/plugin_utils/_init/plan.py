# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From answers and a project to the files, and to what is said of them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.vivarium.server.plugins.plugin_utils._init import ci, inventory, repository
from ansible_collections.vivarium.server.plugins.plugin_utils._init.answers import PLACE, Answers, application_name
from ansible_collections.vivarium.server.plugins.plugin_utils._init.project import InitError, Project
from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import Tree
from ansible_collections.vivarium.server.plugins.plugin_utils._init.write import File
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import is_form

OURS = ("hosts.yml", "group_vars")


@dataclass(frozen=True)
class Ansible:
    """How this run of Ansible is configured: its file of settings, and that of the vault's password, perhaps said by option."""

    settings: Path | None = None
    password_file: str = ""
    said_by_option: bool = False
    # Other options of this run that say a password, and have to be said again.
    options: str = ""
    # Makes a text one of the vault's; None where no password is known.
    encrypt: Callable[[str], str] | None = None


@dataclass
class Plan:
    """``commands`` are the three that follow, each with what it is for."""

    name: str
    files: list[File] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)


def make(answers: Answers, project: Project, here: Path, ansible: Ansible) -> Plan:
    place = Path(os.path.expanduser(answers.inventory))
    below = not place.is_absolute() and ".." not in place.parts
    base, inside_base = (here, str(place)) if below else (here / place, "")
    directory = Path(os.path.normpath(here / place))
    _refuse_other_inventory(directory)
    own, top = repository.of(project.root), repository.top_of(here) or here
    inside = top == project.root or top in project.root.parents
    name = application_name(
        answers, str(_dict(Tree(project.root).toml("pyproject.toml").get("project")).get("name", ""))
    )
    entry = inventory.application(project, answers, name, inventory.source_of(project, directory, inside, own))
    groups = inventory.groups_of(project)
    inventory.check(entry, inventory.host_name(answers), groups)
    plan = Plan(name, found=list(project.found), notes=[note.replace("{name}", name) for note in project.notes])
    if "git" in entry["source"]:
        plan.found.append(f"what is pushed to {entry['source']['git']}, branch {entry['source']['version']}")

    def add(path: str, text: str, mode: int = 0o644, remark: str = "") -> None:
        plan.files.append(File(base, os.path.join(inside_base, path), text, mode, remark))

    hosts, main = inventory.texts(entry, answers, project, groups)
    add("hosts.yml", hosts)
    add("group_vars/all/main.yml", main)
    if inventory.secret_names(project):
        _add_secrets(plan, add, project, directory, answers, ansible)
    _add_settings(plan, here, ansible)
    _add_workflow(plan, answers, project, here, directory, top, inside, own)
    if not answers.email:
        plan.notes.append(
            "No address was said (email), so the certificate is self-signed"
            + (" and nobody hears of errors (vivarium.W008 is waived)" if "waivers" in entry else "")
            + ": certificates_acme_email" + (" and `env: {ADMINS: …}`" if "waivers" in entry else "")
        )  # fmt: skip
    option = f" --vault-password-file {shlex.quote(ansible.password_file)}" if _needs_option(plan, ansible) else ""
    for playbook, meaning in (
        ("site", "makes the server ready and brings the site live"),
        ("status", "how it is, heading by heading of the deployment checklist"),
        ("deploy", "the next release, after a change of the project"),
    ):
        plan.commands.append(
            (f"ansible-playbook vivarium.server.{playbook} -i {answers.inventory}{option}{ansible.options}", meaning)
        )
    return plan


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _refuse_other_inventory(directory: Path) -> None:
    """One that somebody has made otherwise is not added to: Ansible reads whatever lies in the directory."""
    try:
        others = sorted(name for name in os.listdir(directory) if name not in OURS and not name.startswith("."))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InitError(f"inventory: {directory} is no directory that can be read: {error.strerror}") from error
    if others and "hosts.yml" not in os.listdir(directory):
        raise InitError(
            f"Nothing was written: {directory} holds {others[0]!r:.80} already, an inventory of another form."
            " For one beside it: -e inventory=inventories/NAME"
        )


def _add_secrets(
    plan: Plan, add: Callable[..., None], project: Project, directory: Path, answers: Answers, ansible: Ansible
) -> None:
    path = "group_vars/all/vault.yml"
    there = os.path.lexists(directory / path)
    # What is there stays, so no secret is made for it.
    text = "" if there else inventory.secrets_text(plan.name, project)
    if ansible.encrypt:
        add(path, text and ansible.encrypt(text), 0o600, "encrypted")
        return
    add(path, text, 0o600, "NOT encrypted, readable for you alone")
    if not there:
        add("group_vars/all/.gitignore", "vault.yml\n", remark="keeps vault.yml out of git until it is encrypted")
        plan.notes.insert(
            0,
            f"No password for the vault is configured. `ansible-vault encrypt {answers.inventory}/{path}`, then remove the"
            " .gitignore beside it",
        )


def _add_settings(plan: Plan, here: Path, ansible: Ansible) -> None:
    """An ansible.cfg, where no other one counts here; one in this directory would take its place."""
    if ansible.settings and ansible.settings != here / "ansible.cfg":
        return
    password = ansible.password_file
    home = os.path.expanduser("~")
    if password.startswith(f"{home}/"):
        password = f"~{password[len(home) :]}"
    lines = ["[defaults]", "interpreter_python = /usr/bin/python3", "callback_result_format = yaml"]
    # A file of settings has no quotes: what follows a ; would be a comment.
    if password.isprintable() and ";" not in password and password:
        lines.append(f"vault_password_file = {password}")
    lines += ["", "[ssh_connection]", "pipelining = true"]
    plan.files.append(File(here, "ansible.cfg", "\n".join(lines) + "\n"))


def _needs_option(plan: Plan, ansible: Ansible) -> bool:
    written = any(file.path == "ansible.cfg" and not file.is_there() for file in plan.files)
    return ansible.said_by_option and bool(ansible.password_file) and not written


def _add_workflow(
    plan: Plan,
    answers: Answers,
    project: Project,
    here: Path,
    directory: Path,
    top: Path,
    inside: bool,
    own: repository.Repository | None,
) -> None:
    around = repository.of(top)
    which = ci.kind(answers.ci, [top, project.root], [one.origin for one in (around, own) if one])
    if which == "none":
        return
    below, place = os.path.relpath(here, top), os.path.relpath(directory, here)
    if top not in directory.parents or not is_form(PLACE, below) or not is_form(PLACE, place):
        plan.notes.append(
            f"No CI workflow was written: the inventory lies outside of {top}, or has a name that none can have"
        )
        return
    path = ci.path(which, top)
    values = {
        "app": plan.name,
        "inventory": place,
        "inside": inside,
        "directory": "" if below == "." else below,
    }
    plan.files.append(
        File(top, path, ci.text(which, **values), remark="deploys, once it has a key (docs/deploy-from-ci.md)")
    )
    if path == ci.GITLAB_BESIDE:
        plan.notes.append(f"CI: `include: [{{local: {path}}}]` in .gitlab-ci.yml")
    if not inside and not (own and own.url):
        plan.notes.append(
            "CI cannot fetch the project, which is pushed nowhere: once it is, `source: {git: URL, version: main}`"
        )
    elif not inside and own and "@" in own.url:
        plan.notes.append(
            "CI fetches the project by ssh: a deploy key of it, `key` of `source` (docs/deploy-from-ci.md)"
        )
