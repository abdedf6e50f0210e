"""The files of a new distribution with a provider. `$name`, `$package`, `$identifier` and `$Class` are filled in."""

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
"""The plugin that nymtw finds. No other distribution may use the name of this file. Do not import the reactor here."""

from nymtw.provider.plugin import ProviderFactory

$identifier = ProviderFactory("$name", "$summary", "$package.provider")
''',
    "$package/__init__.py": "",
    "$package/provider.py": '''\
"""The service. The plugin uses `Options` and `make_provider`; `$Class` handles the requests."""

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from nymtw.interfaces import IProviderContext
from nymtw.provider.api import Request, Service, ServiceLimits


class Options(usage.Options):
    """This provider's options on the command line of `nym-provider`."""

    # One row for each option: name, letter, default, help. `options["limit"]` is then the value.
    # ["limit", None, 100, "The longest answer, in bytes", int],
    optParameters: list[list[Any]] = []


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "$Class":
    """Called once, when the node is made. Nothing runs yet."""
    return $Class(context)


class $Class(Service):
    """$summary"""

    limits = ServiceLimits(concurrent=100, seconds=30)

    def __init__(self, context: IProviderContext) -> None:
        self._context = context

    async def handle(self, request: Request) -> bytes:
        """Called for each whole message. The returned bytes go back to the sender."""
        self._context.metrics.count("handled")
        return request.message  # your own work goes here
''',
    "tests/test_$package.py": '''\
"""The service answers, and fulfils the contract of all services."""

from $package.provider import Options

from nymtw.provider.services.installed_plugins import find_implementations, load_options
from nymtw.testing.provider_contracts import ServiceContract
from nymtw.testing.service_bench import ServiceBench


class TestContract(ServiceContract):
    implementation = "$name"
    request = b"world"


def test_it_is_found_with_its_options() -> None:
    assert load_options(find_implementations().choose("$name")) is Options


def test_it_answers() -> None:
    with ServiceBench("$name") as bench:
        assert bench.ask(b"hello") == [b"hello"]
        assert bench.metrics["handled"] == 1
''',
    "README.md": """\
# nymtw-$name

A provider for [nymtw](https://pypi.org/project/nymtw/): a service that people reach through a mixnet. It was written by
`nymtw new-provider $name`, and returns each message to its sender. Replace `$Class.handle` with your own code.

    pip install -e '.[test]' && pytest
    twistd nym-provider --impl=list                # $name is in the list
    twistd nym-provider --impl=$name --help        # the help includes its options
    twistd -n nym-provider --impl=$name

The log shows the address of the service, and the network's topology contains it under its name.

| file | purpose |
|---|---|
| `twisted/plugins/${package}_provider.py` | the plugin; no other distribution may have a file of this name |
| `$package/provider.py` | `Options`, `make_provider(context, options)`, and the service itself |
| `setup.cfg` | lists `twisted.plugins` among the packages; `package_dir` makes `pip install -e` work |
| `tests/` | the contract of all services, and tests of this one |

`twisted/` and `twisted/plugins/` must not have an `__init__.py`. Your options must not have the name of an option of
the command (`twistd nym-provider --help`). nymtw's `docs/writing-a-provider.md` explains what a service can do, and
what it must not do.
""",
}
