# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application's code comes from, what of it is installed, and what of it a server is told to serve."""

from __future__ import annotations

import ast
import re
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.schema import OPTIONS, App, Wrong, filled, is_a
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import MODULE, is_form, is_line

# What each kind of source may have; exactly one of the kinds is there.
SOURCE_KEYS = {
    "git": ("git", "version", "key", "subdirectory", "exclude"),
    "path": ("path", "subdirectory", "include", "exclude"),
    "archive": ("archive", "subdirectory"),
    "package": ("package",),
}
# What git-check-ref-format(1) allows, without a '-' at the head.
VERSION = re.compile(r"(?!-)(?!.*\.\.)[^\s~^:?*\[\\]{1,255}")
# A path inside the code: neither absolute nor with '..'.
INSIDE = re.compile(
    r"(?!\.{1,2}(/|\Z))[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,99}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,99}){0,19}"
)
INSIDE_MEANING = (
    "must be a path inside the code, such as frontend/dist: relative, without '..', and with no '/' at its end"
)
# PEP 508 and PEP 735; a file of requirements lies in the code, and is no option.
EXTRA = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
REQUIREMENTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){0,9}")
# A path, a name such as cpython@3.13, or a range of versions.
INTERPRETER = re.compile(r"[A-Za-z0-9/<>=~!][A-Za-z0-9/_.@+=<>~!,-]{0,254}")
CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# The module that a release gets where a call makes the application.
MADE = "vivarium_application"


def complete(app: App, version: Any, wrong: Wrong) -> None:
    """Its source at the version that was asked for, its interpreter, what is installed, and its callable."""
    _check_source(app, version, wrong)
    if not INTERPRETER.fullmatch(app["python"]) or ".." in app["python"].split("/"):
        wrong("python must be a path, a name or a version of an interpreter")
    _complete_install(app, wrong)
    try:
        app["callable"], app["made_by"] = callable_of(app["application"])
    except ValueError as error:
        app["callable"], app["made_by"] = "", None
        wrong(f"application {error}")


def _check_source(app: App, version: Any, wrong: Wrong) -> None:
    source = app["source"]
    kinds = [kind for kind in SOURCE_KEYS if source.get(kind)]
    if len(kinds) != 1:
        wrong(f"source needs exactly one of {', '.join(SOURCE_KEYS)}")
        return
    kind = kinds[0]
    for key, value in source.items():
        if key not in SOURCE_KEYS[kind]:
            wrong(f"source: unknown key '{key}' beside {kind}")
        elif key in ("include", "exclude"):
            listed = is_a(value, list) or value is None
            for item in (value or []) if listed else [value]:
                # The letters of a text would each be a path.
                if not listed or not is_form(INSIDE, item):
                    wrong(f"source.{key}: '{item}' {INSIDE_MEANING}, in a list")
        elif value is not None and not is_a(value, str):
            wrong(f"source.{key} must be a string (quote a version that looks like a number)")
        elif value and key != "key" and not is_line(value):
            wrong(f"source.{key} must be one line of text")
        elif value and value.startswith("-") and key != "key":
            wrong(f"source.{key} must not begin with '-'")
        elif value and "\0" in value:
            wrong(f"source.{key} holds a NUL character")
    inside = source.get("subdirectory")
    if is_a(inside, str) and inside and not INSIDE.fullmatch(inside):
        wrong(f"source.subdirectory: '{inside}' {INSIDE_MEANING}")
    if kind == "git":
        for key, value in (("source.version", source.get("version")), ("asgi_version", version)):
            if value and (not is_line(str(value)) or not VERSION.fullmatch(str(value))):
                wrong(f"{key} must be the name of a branch or a tag, or a full commit, and must not begin with '-'")
        own = str(source.get("version") or "")
        if version and own and own != str(version):
            source["inventory_version"] = own
        source["version"] = str(version or own)
        if not source["version"]:
            wrong("source.version is required for git: a branch, tag or full commit")


def _complete_install(app: App, wrong: Wrong) -> None:
    """Which packages of the project are installed."""
    app["install"], sound = filled(app["install"], OPTIONS["install"]["options"], wrong, "install")
    if not sound:
        return
    for key, form, meaning in (
        ("extras", EXTRA, "names of extras"),
        ("groups", EXTRA, "names of dependency groups"),
        ("requirements", REQUIREMENTS, "paths of files in the code, such as requirements/production.txt"),
    ):
        if not all(is_form(form, item) for item in app["install"][key]):
            wrong(f"install.{key} must be a list of {meaning}")
    if any(app["install"].values()) and app["source"].get("package"):
        wrong("install has no meaning for a source that is a package: its extras belong into source.package")
    if app["install"]["requirements"] and (app["install"]["extras"] or app["install"]["groups"]):
        wrong("install.requirements says which packages there are; extras and groups are of uv.lock and pyproject.toml")


def callable_of(application: str) -> tuple[str, dict[str, str] | None]:
    """What a server is told to serve, and, where a call makes the application, how it is made."""
    if CALLABLE.fullmatch(application):
        return application, None
    module, _, expression = application.partition(":")
    try:
        tree = ast.parse(expression, mode="eval").body if is_line(expression) else None
    except (SyntaxError, RecursionError, MemoryError):
        tree = None
    try:
        name = _called(tree) if isinstance(tree, ast.Call) and MODULE.fullmatch(module) else None
    except RecursionError:
        name = None
    if not name:
        raise ValueError("must look like 'package.module:callable' or 'package.module:factory(…)'")
    return f"{MADE}:application", {"module": module, "name": name, "expression": expression}


def _called(node: ast.AST) -> str | None:
    """The name that a chain of attributes and calls begins with; None where it is anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return _called(node.value)
    if not isinstance(node, ast.Call):
        return None
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        try:
            # What differs from host to host, or is secret, comes from the environment.
            _is_from_environment(argument) or ast.literal_eval(argument)
        except (ValueError, TypeError):
            raise ValueError(
                "may call with literals and environ['NAME'] alone; what needs more belongs into a module of the code"
            ) from None
    return _called(node.func)


def _is_from_environment(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "environ"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    )
