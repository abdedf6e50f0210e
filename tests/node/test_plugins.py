"""What twistd finds must not choose a reactor for it."""

import subprocess
import sys
from pathlib import Path

import pytest

import nymtw

pytestmark = pytest.mark.pythons

ROOT = Path(nymtw.__file__).parent.parent
PLUGINS = sorted((ROOT / "twisted" / "plugins").glob("*.py"))
TAPS = ["directory", "mixnode", "provider", "client", "nym_node", "validator"]

CHECK = """
import sys, importlib, importlib.util
for name in sys.argv[1:]:
    if name.endswith(".py"):
        spec = importlib.util.spec_from_file_location("plugin", name)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    else:
        importlib.import_module(name).Options()
    assert "twisted.internet.reactor" not in sys.modules, name
"""


def assert_no_reactor(*names: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHECK, *names], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_no_plugin_module_imports_the_reactor() -> None:
    assert ROOT / "twisted" / "plugins" / "nymtw_roles.py" in PLUGINS
    assert_no_reactor(*map(str, PLUGINS))


def test_no_tap_module_imports_the_reactor() -> None:
    assert_no_reactor(*(f"nymtw.{role}.tap" for role in TAPS))
