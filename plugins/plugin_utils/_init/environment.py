# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which variables of the environment the code of a project reads, and what they are for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ansible_collections.vivarium.server.plugins.plugin_utils._init.tree import name_of, string_of

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
# What reads the environment with a function or a method of it: django-environ, environs, python-decouple.
READERS = ("env", "config", "environ_config")
# What is derived for every application, or is always there.
DERIVED = re.compile(
    r"DEBUG|SECRET_KEY|ALLOWED_HOSTS|CSRF_TRUSTED_ORIGINS|DATABASE_URL|(STATIC|MEDIA)_(ROOT|URL)|DJANGO_SETTINGS_MODULE|HOME|PATH"
    r"|PYTHONPATH|USER|LANG|PG[A-Z]+"
)
ADDRESS = re.compile(r"(?:[A-Z0-9]+_)*?(?:DATABASE|DB|POSTGRES|POSTGRESQL|SQLALCHEMY)_(?:DATABASE_)?(?:URL|URI|DSN)")
PART = re.compile(r"(?:[A-Z0-9]+_)*?(?:DB|DATABASE|POSTGRES|POSTGRESQL|SQL)_([A-Z]+)")
PARTS = {
    "HOST": "host", "HOSTNAME": "host", "SERVER": "host", "PORT": "port", "USER": "user", "USERNAME": "user",
    "PASSWORD": "password", "PASS": "password", "NAME": "name", "DB": "name", "DATABASE": "name",
}  # fmt: skip
# What is read behind one of them may never be asked for.
CONDITIONS = (ast.If, ast.IfExp, ast.Try, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# Keys that only the application itself knows: any random text will do.
OWN_KEYS = re.compile(r"(?:APP_|DJANGO_|FLASK_)?SECRET(?:_KEY)?|(?:SESSION|JWT|COOKIE)_SECRET(?:_KEY)?")


@dataclass
class Environment:
    """``read`` says of each variable whether it must be there; ``secret_key`` are those that the secret key is read from."""

    read: dict[str, bool] = field(default_factory=dict)
    secret_key: list[str] = field(default_factory=list)

    def database_variables(self, scheme: str = "", needed: bool = False) -> dict[str, str]:
        """What the database is called otherwise than it is called anyway, perhaps only what must be there."""
        found = {}
        for name in [name for name, must in self.read.items() if must or not needed]:
            part = PART.fullmatch(name)
            if ADDRESS.fullmatch(name):
                if scheme or name != "DATABASE_URL":
                    found[name] = scheme or "url"
            elif part and part[1] in PARTS:
                found[name] = PARTS[part[1]]
        return found

    def own_keys(self) -> list[str]:
        """Variables for which a secret is made."""
        own = [name for name, needed in self.read.items() if needed and OWN_KEYS.fullmatch(name)]
        return sorted({*own, *self.secret_key})

    def left(self, said: Iterable[str]) -> list[str]:
        """What must be there and nobody has said yet."""
        known = {*said}
        return sorted(
            name for name, needed in self.read.items() if needed and name not in known and not DERIVED.fullmatch(name)
        )


def read(modules: Iterable[ast.Module]) -> Environment:
    found = Environment()
    for module in modules:
        for name, needed in (*_looked_up(module), *_fields(module)):
            # Where one place can do without, somebody has thought of that.
            found.read[name] = found.read.get(name, True) and needed
        for node in ast.walk(module):
            if isinstance(node, ast.Assign) and any(name_of(target) == "SECRET_KEY" for target in node.targets):
                found.secret_key += [name for name, _needed in _looked_up(node.value)]
    return found


def _looked_up(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Variables, and whether each must be there; what a condition or a function stands before need not be."""
    waiting = [(tree, True)]
    while waiting:
        node, always = waiting.pop()
        found = _read_by(node)
        if found and NAME.fullmatch(found[0]):
            yield found[0], found[1] and always
        always = always and not isinstance(node, CONDITIONS)
        waiting += [(child, always) for child in ast.iter_child_nodes(node)]


def _read_by(node: ast.AST) -> tuple[str, bool] | None:
    """What one expression reads: os.environ["X"], os.getenv("X"), "X" in os.environ, env("X"), env.str("X"), config("X")."""
    if isinstance(node, ast.Subscript) and name_of(node.value) == "environ":
        return string_of(node.slice) or "", isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Compare) and name_of(node.comparators[0]) == "environ":
        return string_of(node.left) or "", False
    if isinstance(node, ast.Call) and node.args:
        name, function = string_of(node.args[0]) or "", node.func
        default = len(node.args) > 1 or any(keyword.arg == "default" for keyword in node.keywords)
        owner = name_of(function.value) if isinstance(function, ast.Attribute) else ""
        if name_of(function) == "getenv" or owner == "environ":
            return name, False
        if owner in READERS or name_of(function) in READERS:
            return name, not default
    return None


def _fields(module: ast.Module) -> Iterator[tuple[str, bool]]:
    """The fields of pydantic's settings."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and any(name_of(base) == "BaseSettings" for base in node.bases):
            prefix = ""
            for part in ast.walk(node):
                if isinstance(part, ast.keyword) and part.arg == "env_prefix":
                    prefix = string_of(part.value) or ""
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    name = f"{prefix}{statement.target.id}".upper()
                    if statement.target.id != "model_config" and NAME.fullmatch(name):
                        yield name, statement.value is None
