"""Unit tests run against this tree, as the collection vivarium.server, with Ansible's own loader and templar."""

from __future__ import annotations

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".cache" / "hypothesis"))

from ansible.plugins.loader import init_plugin_loader  # noqa: E402  (reads the configuration named above)
from ansible.utils.display import Display  # noqa: E402

init_plugin_loader([str(ROOT / ".collections")])


@pytest.fixture(autouse=True)
def _deprecations_fail(monkeypatch):
    """What Ansible will no longer know is found here, not on the day that it does not."""

    def fail(self, msg, *args, **kwargs):
        pytest.fail(f"Ansible's deprecation: {msg}")

    monkeypatch.setattr(Display, "_deprecated_with_plugin_info", fail)
