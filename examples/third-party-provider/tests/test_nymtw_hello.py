"""The service answers, and fulfils the contract of all services."""

from nymtw_hello.provider import Options

from nymtw.provider.services.installed_plugins import find_implementations, load_options
from nymtw.testing.provider_contracts import ServiceContract
from nymtw.testing.service_bench import ServiceBench


class TestContract(ServiceContract):
    implementation = "hello"
    request = b"world"


def test_it_is_found_with_its_options() -> None:
    assert load_options(find_implementations().choose("hello")) is Options


def test_it_answers() -> None:
    with ServiceBench("hello") as bench:
        assert bench.ask(b"hello") == [b"hello"]
        assert bench.metrics["handled"] == 1
