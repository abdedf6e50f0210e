"""What a test can import from `nymtw.testing` itself."""

import subprocess
import sys

import pytest

import nymtw.testing
from nymtw.testing.provider_contracts import ServiceContract

pytestmark = pytest.mark.pythons


def test_each_name_is_what_its_module_has() -> None:
    for name in nymtw.testing.__all__:
        assert getattr(nymtw.testing, name).__name__ == name
    assert nymtw.testing.ServiceContract is ServiceContract
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        nymtw.testing.Nothing  # noqa: B018


def test_importing_it_needs_neither_pytest_nor_a_reactor() -> None:
    program = "import sys, nymtw.testing.clock; assert not {'pytest', 'twisted.internet.reactor'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=300, check=False).returncode == 0
