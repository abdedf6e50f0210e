"""The files of a new distribution with a provider in it. `$name`, `$package` and `$Class` are filled in."""

from typing import Final

FILES: Final = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
""",
    "setup.cfg": """\
[metadata]
name = nymtw-$name
version = 0.1.0
description = A provider for nymtw: $name
long_description = file: README.md
long_description_content_type = text/markdown

[options]
python_requires = >=3.11
packages =
    $package
    twisted.plugins
# These two lines make `pip install -e .` write a plain .pth, which twisted.plugin can see.
package_dir =
    = .
install_requires =
    nymtw

[options.extras_require]
test =
    nymtw[test]

[tool:pytest]
testpaths = tests
""",
    "conftest.py": '''\
"""Tests have the fixtures of nymtw; `pytest --seed=random` looks for new cases."""

pytest_plugins = ["nymtw.testing.pytest_plugin"]
''',
    "MANIFEST.in": """\
graft tests
global-exclude dropin.cache *.py[cod]
""",
    "twisted/plugins/${package}_provider.py": '''\
"""What nymtw finds. The name of this file must be one that no other distribution uses; import no reactor here."""

from nymtw.provider.plugin import ProviderFactory

$identifier = ProviderFactory("$name", "Greets whoever sends it a message.", "$package.provider")
''',
    "$package/__init__.py": "",
    "$package/provider.py": '''\
"""The service: `Options` and `make_provider` are what the plugin looks for, `$Class` is what it does."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service, ServiceLimits


class Options(usage.Options):
    """What this provider adds to the command line of `nym-provider`."""

    optParameters = [["greeting", None, "Hello", "The first word of every answer"]]


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "$Class":
    """Called once, when the node is made. Nothing runs yet."""
    return $Class(context, options["greeting"])


class $Class(Service):
    """Greets whoever sends it a message, and counts how often."""

    limits = ServiceLimits(concurrent=100, seconds=30)

    def __init__(self, context: IProviderContext, greeting: str) -> None:
        self._context = context
        self._greeting = greeting

    async def handle(self, request: Request) -> bytes:
        """Called for each whole message; what is returned goes back to whoever sent it."""
        self._context.metrics.count("greeted")
        return f"{self._greeting}, ".encode() + request.message
''',
    "tests/test_$package.py": '''\
"""The service greets, and keeps to everything that nymtw asks of a service."""

from $package.provider import Options

from nymtw.provider.services.installed_plugins import find_implementations, load_options
from nymtw.testing.provider_contracts import ServiceContract
from nymtw.testing.service_bench import ServiceBench


class TestContract(ServiceContract):
    implementation = "$name"
    request = b"world"


def test_it_is_found_with_its_options() -> None:
    assert load_options(find_implementations().choose("$name")) is Options


def test_it_greets_as_it_is_told() -> None:
    with ServiceBench("$name", ["--greeting=Good morning"]) as bench:
        assert bench.ask(b"world") == [b"Good morning, world"]
        assert bench.metrics["greeted"] == 1
''',
    "README.md": """\
# nymtw-$name

A provider for [nymtw](https://pypi.org/project/nymtw/): a service that people reach through a mixnet. It was written by
`nymtw new-provider $name`, and greets whoever sends it a message; replace `$Class.handle` with what yours does.

    pip install -e '.[test]' && pytest
    twistd nym-provider --impl=list                # $name is in the list
    twistd nym-provider --impl=$name --help        # its option stands among those of the command
    twistd -n nym-provider --impl=$name --greeting=Hi --directory http://127.0.0.1:8080 --directory-key KEY

The log says the address that the service is reached at, and the network's topology lists it by its name.

| file | why |
|---|---|
| `twisted/plugins/${package}_provider.py` | what is found; no other distribution may have a file of this name |
| `$package/provider.py` | `Options`, `make_provider(context, options)`, and the service itself |
| `setup.cfg` | lists `twisted.plugins` among the packages; `package_dir` makes `pip install -e` work |
| `tests/` | the contract that every service keeps, and what this one does |

`twisted/` and `twisted/plugins/` have no `__init__.py`. An option of yours may not have the name of one of those that
the command has (`twistd nym-provider --help`). nymtw's `docs/writing-a-provider.md` says what a service can do, and
what it may not.
""",
}
