"""The wrapper that puts the inventory's middleware around an application."""

from __future__ import annotations

import importlib.util
import pathlib

FILES = pathlib.Path(__file__).resolve().parents[2] / "roles/asgi/files"
MODULE = FILES / "django/vivarium_asgi.py"
CODE = """
class site:
    application = "application"

def Inner(app):
    return f"inner({app})"

class Outer:
    def __new__(cls, app):
        return f"outer({app})"
"""


def test_the_first_is_the_outermost(monkeypatch, tmp_path):
    (tmp_path / "wrapped_site.py").write_text(CODE)
    monkeypatch.syspath_prepend(FILES / "server")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VIVARIUM_ASGI_APPLICATION", "wrapped_site:site.application")
    monkeypatch.setenv("VIVARIUM_ASGI_MIDDLEWARE", "wrapped_site.Outer,wrapped_site.Inner")
    spec = importlib.util.spec_from_file_location("vivarium_asgi_here", MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.application == "outer(inner(application))"
