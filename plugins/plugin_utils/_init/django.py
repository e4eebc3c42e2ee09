# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which settings and which callable a Django project has for production."""

from __future__ import annotations

import ast
import posixpath
import re

from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import (
    Tree,
    assigned,
    calls,
    dotted,
    name_of,
    string_of,
)
from ansible_collections.vivarium.server.plugins.plugin_utils.forms import MODULE

# What the settings of production are called, beside others in a package or at the end of a name.
PRODUCTION = ("production", "prod", "live", "deploy")
# The callable of a project without a module for ASGI.
WITHOUT_MODULE = "django.core.asgi:get_asgi_application()"
HEALTH = re.compile(r"\^?/?((?:healthz?|health[-_]?check|livez|readyz)/?)\$?")


def settings_module(tree: Tree, within: str = "") -> str:
    """The dotted path of the settings: what asgi.py, wsgi.py or manage.py name, or what lies beside it for production."""
    named = [name for path in _entries(tree, within) if (name := _named_settings(tree.parsed(path)))]
    named = [name for name in named if settings_file(tree, within, name)]
    if not named:
        return next((module for path in tree.named("settings.py") if (module := _inside(path, within))), "")
    for name in named:
        if name.rpartition(".")[2].rpartition("_")[2] in PRODUCTION:
            return name
    package, _dot, last = named[0].rpartition(".")
    # shop.settings is a package, or shop.settings.dev a module of one; shop.settings_dev has siblings.
    others = [f"{place}.{word}" for place in (named[0], package) for word in PRODUCTION if place]
    others += [f"{package}.{last.partition('_')[0]}_{word}".lstrip(".") for word in PRODUCTION]
    return next((name for name in others if settings_file(tree, within, name)), named[0])


def settings_file(tree: Tree, within: str, module: str) -> str | None:
    """The file of a module of the project."""
    if not MODULE.fullmatch(module):
        return None
    path = posixpath.join(within, module.replace(".", "/"))
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if tree.text(name) is not None), None)


def callable_module(tree: Tree, within: str, settings: str) -> str:
    """What a server is told to serve."""
    for path in settings_files(tree, within, settings):
        for name, value, _annotation in assigned(tree.parsed(path)):
            said = string_of(value) if name == "ASGI_APPLICATION" else None
            module, _dot, attribute = (said or "").rpartition(".")
            if settings_file(tree, within, module):
                return f"{module}:{attribute}"
    beside = settings.partition(".")[0]
    found = [
        inside
        for path in tree.named("asgi.py")
        if (inside := _inside(path, within)) and any(which == "application" for which in _names(tree.parsed(path)))
    ]
    # The one of the package that has the settings, if there are several.
    found.sort(key=lambda name: (name.partition(".")[0] != beside, name.count("."), name))
    return f"{found[0]}:application" if found else WITHOUT_MODULE


def settings_files(tree: Tree, within: str, settings: str) -> list[str]:
    """The file of the settings, and those of the project that it imports everything from."""
    waiting, found = [settings], list[str]()
    while waiting and len(found) < 20:
        module = waiting.pop(0)
        path = settings_file(tree, within, module)
        if not path or path in found:
            continue
        found.append(path)
        package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        for node in ast.walk(tree.parsed(path)):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                parts = package.split(".") if node.level else []
                parts = parts[: len(parts) - node.level + 1] if node.level else parts
                waiting.append(".".join([*parts, *([node.module] if node.module else [])]))
    return found


def health_path(tree: Tree, within: str, files: list[str]) -> str:
    """A path that the project's own list of URLs has for this, at its top."""
    said = [
        string_of(value)
        for path in files
        for name, value, _annotation in assigned(tree.parsed(path))
        if name == "ROOT_URLCONF"
    ]
    urls = settings_file(tree, within, said[0] or "") if said else None
    for name, value, _annotation in assigned(tree.parsed(urls)) if urls else ():
        for entry in value.elts if name == "urlpatterns" and isinstance(value, ast.List) else ():
            if isinstance(entry, ast.Call) and name_of(entry.func) in ("path", "re_path") and len(entry.args) > 1:
                matched = HEALTH.fullmatch(string_of(entry.args[0]) or "")
                if matched and not (isinstance(entry.args[1], ast.Call) and name_of(entry.args[1].func) == "include"):
                    return f"/{matched[1]}"
    return ""


def _entries(tree: Tree, within: str) -> list[str]:
    """Files that name the settings, those that a server would run first."""
    return [
        path
        for name in ("asgi.py", "wsgi.py", "manage.py")
        for path in tree.named(name)
        if _inside(path, within) is not None
    ]


def _named_settings(tree: ast.Module) -> str:
    for call in calls(tree):
        words = [string_of(argument) for argument in call.args[:2]]
        if len(words) == 2 and words[0] == "DJANGO_SETTINGS_MODULE" and words[1]:
            return words[1]
    for node in ast.walk(tree):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        slot = target.slice if isinstance(target, ast.Subscript) else None
        if isinstance(node, ast.Assign) and string_of(slot) == "DJANGO_SETTINGS_MODULE":
            return string_of(node.value) or ""
    return ""


def _names(tree: ast.Module) -> list[str]:
    """What the top of a module has: values, functions, and what it imports."""
    names = [name for name, _value, _annotation in assigned(tree)]
    for node in (tree).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return names


def _inside(path: str, within: str) -> str | None:
    """The module that a file is for commands that run in ``within``."""
    if within and not path.startswith(f"{within}/"):
        return None
    return dotted(path[len(within) + 1 :] if within else path)
