"""The contract suites of `nymtw.testing`, run against every provider that comes with nymtw."""

from nymtw.testing.provider_contracts import ProviderContract, ServiceContract
from nymtw.testing.service_bench import ServiceBench


class TestEcho(ServiceContract):
    implementation = "echo"


class TestStore(ProviderContract):
    implementation = "store"

    def prepare(self, bench: ServiceBench) -> bytes:
        mailbox = b"m" * 32
        bench.clock.wait_for(bench.multiplexer.mailboxes.register(mailbox, b"k" * 32, b"t" * 32), 1)
        return mailbox
