# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where an application without Django has its ASGI callable."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.vivarium.server.plugins.plugin_utils._asgi.apps.code import CALLABLE
from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import (
    Tree,
    assigned,
    dotted,
    name_of,
    string_of,
)

# Classes whose instances speak ASGI, and those that speak WSGI alone.
CLASSES = (
    "FastAPI",
    "Starlette",
    "Litestar",
    "Quart",
    "Falcon",
    "Blacksheep",
    "ProtocolTypeRouter",
    "Esmerald",
    "Lilya",
    "Ravyn",
)
WSGI = ("Flask", "Bottle")
FILES = ("asgi.py", "main.py", "app.py", "server.py", "api.py", "__init__.py")
SIGNATURE = ["scope", "receive", "send"]
NAMES = ("app", "application", "asgi", "api")
HEALTH = re.compile(r"/(?:healthz?|health[-_]?check|livez|readyz)/?")


@dataclass(frozen=True)
class Found:
    """A callable, the file that has it, and the directory from which its module is counted."""

    application: str
    path: str
    base: str
    name: str


def callables(tree: Tree, within: str = "") -> list[Found]:
    """What could be served, the likeliest first."""
    found = []
    for path, module in tree.code.items():
        if within and not path.startswith(f"{within}/"):
            continue
        inner = path[len(within) + 1 :] if within else path
        base = "src" if inner.startswith("src/") and not tree.has(f"{within}/src/__init__.py".lstrip("/")) else ""
        name = dotted(inner[len(base) + 1 :] if base else inner)
        for attribute, factory in _served(module) if name else ():
            application = f"{name}:{attribute}"
            if CALLABLE.fullmatch(application):
                found.append(Found(application + ("()" if factory else ""), path, base, attribute))
    return sorted(found, key=_rank)


def said_in(project: dict[str, Any]) -> str:
    """What a pyproject.toml says to FastAPI's own command."""
    tool = project.get("tool")
    fastapi = tool.get("fastapi") if isinstance(tool, dict) else None
    said = fastapi.get("entrypoint") if isinstance(fastapi, dict) else None
    return said if isinstance(said, str) and CALLABLE.fullmatch(said) else ""


def speaks_wsgi(tree: Tree) -> bool:
    return any(
        name_of(value.func) in WSGI
        for module in tree.code.values()
        for _name, value, _annotation in assigned(module)
        if isinstance(value, ast.Call)
    )


def health_path(tree: Tree, found: Found) -> str:
    """A path that the application itself, no router of it, answers for this."""
    for node in ast.walk(tree.parsed(found.path)):
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ():
            if (
                isinstance(mark, ast.Call)
                and isinstance(mark.func, ast.Attribute)
                and mark.func.attr in ("get", "route")
            ):
                said = string_of(mark.args[0]) if mark.args else None
                if name_of(mark.func.value) == found.name and HEALTH.fullmatch(said or ""):
                    return said or ""
    return ""


def _served(module: ast.Module) -> list[tuple[str, bool]]:
    """Names of callables, and whether each is a function that makes one."""
    found = [
        (name, False)
        for name, value, annotation in assigned(module)
        if (isinstance(value, ast.Call) and name_of(value.func) in CLASSES) or name_of(annotation) in CLASSES
    ]
    # app = create_app()
    makers = [node.name for node in module.body if isinstance(node, ast.FunctionDef) and _makes(node)]
    for name, value, _annotation in assigned(module):
        if isinstance(value, ast.Call) and (
            name_of(value.func) in makers or name_of(value.func) in ("create_app", "make_app")
        ):
            found.append((name, False))
    for node in module.body:
        if isinstance(node, ast.AsyncFunctionDef) and [argument.arg for argument in node.args.args] == SIGNATURE:
            found.append((node.name, False))
    if not found:
        found = [(name, True) for name in makers]
    return found


def _makes(function: ast.FunctionDef) -> bool:
    """Whether a function without arguments that it needs says, or shows, that it makes an application."""
    arguments = function.args
    if len(arguments.args) + len(arguments.posonlyargs) > len(arguments.defaults):
        return False
    if any(default is None for default in arguments.kw_defaults):
        return False
    return name_of(function.returns) in CLASSES or (
        function.name in ("create_app", "make_app", "get_app", "build_app", "create_application")
        and any(isinstance(node, ast.Call) and name_of(node.func) in CLASSES for node in ast.walk(function))
    )


def _rank(found: Found) -> tuple[Any, ...]:
    file = found.path.rpartition("/")[2]
    return (
        found.application.endswith("()"),
        found.path.count("/"),
        FILES.index(file) if file in FILES else len(FILES),
        NAMES.index(found.name) if found.name in NAMES else len(NAMES),
        found.path,
        found.application,
    )
