"""Unit tests run against this tree, as the collection vivarium.server, with Ansible's own loader and templar."""

from __future__ import annotations

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".cache" / "hypothesis"))

from ansible.plugins.loader import init_plugin_loader  # noqa: E402  (reads the configuration named above)

init_plugin_loader([str(ROOT / ".collections")])
