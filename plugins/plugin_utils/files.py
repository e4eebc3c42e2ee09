# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks and renders what is to be written on a host, for the actions that write files."""

from __future__ import annotations

import os
import re
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.template import trust_as_template
from ansible_collections.vivarium.server.plugins.plugin_utils.host_code import COLLECTION, HostAction

# What an entry of each list may hold: the type, and the default of what need not be said.
OWNERSHIP: dict[str, tuple[Any, Any]] = {"owner": ((str, int), "root"), "group": ((str, int), "root")}
COMMON: dict[str, tuple[Any, Any]] = {"path": (str, None), "concerns": (list, [])}
ENTRIES: dict[str, dict[str, tuple[Any, Any]]] = {
    "directories": {**COMMON, **OWNERSHIP, "mode": (str, "0755"), "unlisted": (str, None)},
    "files": {
        **COMMON,
        **OWNERSHIP,
        "mode": (str, "0644"),
        "template": (str, None),
        "content": (str, None),
        "source": (str, None),
        "vars": (dict, {}),
        "mark": (str, None),
        "secret": (bool, False),
        "validate": (str, None),
        "state": (str, "present"),
    },
    "links": {**COMMON, "target": (str, None)},
}


class FilesAction(HostAction):
    """An action whose files come from templates, contents and sources."""

    def order(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """The arguments of vivarium.server.files with every default filled in and every content rendered."""
        self._templars: dict[str, Any] = {}
        order = checked(args)
        for entry in order["files"]:
            if entry["state"] == "present":
                entry["content"] = self._content(entry, task_vars)
                if entry["mark"] and entry["mark"] not in entry["content"]:
                    raise AnsibleActionFail(f"{entry['path']}: its mark is not in it")
            del entry["template"], entry["source"], entry["vars"]
        return order

    def _content(self, entry: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """The bytes of a file, as text in which any byte survives JSON."""
        origin = entry["template"] or entry["source"] or "content"
        try:
            if entry["template"] is not None:
                content = self._render(entry, task_vars)
            elif entry["source"] is not None:
                content = self._read(entry["source"])
            else:
                content = str(entry["content"])
            content.encode("utf-8", "surrogateescape")
        except (AnsibleError, OSError, UnicodeError) as error:
            raise AnsibleActionFail(f"{entry['path']}: cannot make it from {origin}") from error
        return content

    def _read(self, name: str) -> str:
        """A file as it is, decrypted if need be."""
        real = self._loader.get_real_file(self._find("files", name))
        try:
            with open(real, "rb") as file:
                return file.read().decode("utf-8", "surrogateescape")
        finally:
            self._loader.cleanup_tmp_file(real)

    def _find(self, kind: str, name: str) -> str:
        """A file of the role or the playbook; else one that the roles of this collection share."""
        shared = os.path.join(COLLECTION, kind, name)
        try:
            return self._find_needle(kind, name)
        except AnsibleError:
            if os.path.isfile(shared):
                return shared
            raise

    def _render(self, entry: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """Render a template as ansible.builtin.template does."""
        source = self._find("templates", entry["template"])
        folder = os.path.dirname(source)
        if folder not in self._templars:
            roots = [*self._task.get_search_path(), self._loader.get_basedir(), folder, str(COLLECTION)]
            search = [path for root in roots for path in (os.path.join(root, "templates"), root)]
            self._templars[folder] = self._templar.copy_with_new_env(searchpath=search)
        templar = self._templars[folder]
        templar.available_variables = {
            "ansible_managed": "Ansible managed",
            **task_vars,
            "template_path": entry["template"],
            "template_fullpath": source,
            "template_destpath": entry["path"],
            **entry["vars"],
        }
        text = trust_as_template(self._loader.get_text_file_contents(source))
        rendered = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})
        return "" if rendered is None else str(rendered)


def checked(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments with every default filled in, or an error that names the key and the path, never a content."""
    known = [*ENTRIES, "unmarked", "validate"]
    unknown = set(args) - set(known)
    if unknown:
        raise AnsibleActionFail(f"unknown key {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    order: dict[str, Any] = {"unmarked": args.get("unmarked") or "leave", "validate": args.get("validate")}
    if order["unmarked"] not in ("leave", "keep", "replace"):
        raise AnsibleActionFail("unmarked: must be leave, keep or replace")
    seen: set[str] = set()
    for kind, fields in ENTRIES.items():
        entries = args.get(kind) or []
        if not isinstance(entries, list):
            raise AnsibleActionFail(f"{kind}: must be a list")
        order[kind] = [check_entry(f"{kind}[{index}]", entry, fields) for index, entry in enumerate(entries)]
        for entry in order[kind]:
            if entry["path"] in seen:
                raise AnsibleActionFail(f"{kind}: {entry['path']} is listed twice")
            seen.add(entry["path"])
    if order["validate"] is not None and not isinstance(order["validate"], str):
        raise AnsibleActionFail("validate: must be a command")
    return order


def check_entry(where: str, entry: Any, fields: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """One entry of a list: known keys of the right types, and what they must be together."""

    def require(good: object, problem: str) -> None:
        if not good:
            raise AnsibleActionFail(f"{where}: {problem}")

    require(isinstance(entry, dict), "must be a mapping")
    given = {key: value for key, value in entry.items() if value is not None}
    path: Any = given.get("path")
    require(isinstance(path, str), "path is required")
    where = f"{where} ({path})"
    unknown = set(given) - set(fields)
    require(not unknown, f"unknown key {', '.join(sorted(map(str, unknown)))}; known are {', '.join(fields)}")
    for key, value in given.items():
        kinds = fields[key][0]
        hint = "; quote it" if key == "mode" else ""
        good = isinstance(value, kinds) and not (isinstance(value, bool) and kinds is not bool)
        require(good, f"{key} must be of type {kinds.__name__ if isinstance(kinds, type) else 'str or int'}{hint}")
    full = {key: default for key, (kinds, default) in fields.items()} | given
    full["path"] = path.rstrip("/")
    clean = os.path.isabs(path) and os.path.normpath(full["path"]) == full["path"] and "\0" not in path
    require(clean, "path must be absolute, without . and ..")
    require(all(isinstance(label, str) for label in full["concerns"]), "concerns must be a list of labels")
    if "mode" in fields:
        require(
            re.fullmatch("[0-7]{3,4}", full["mode"]), f'mode must be octal digits such as "0644", not {full["mode"]}'
        )
    if "target" in fields:
        require(full["target"], "target is required")
    if "state" in fields:
        require(full["state"] in ("present", "absent"), "state must be present or absent")
        sources = [key for key in ("template", "content", "source") if full[key] is not None]
        wanted = 1 if full["state"] == "present" else 0
        require(len(sources) <= 1 and len(sources) >= wanted, "needs exactly one of template, content and source")
        require("%s" in (full["validate"] or "%s"), "validate must contain %s, the new file's path")
    return full
