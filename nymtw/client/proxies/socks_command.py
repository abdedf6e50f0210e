"""`nym-client socks5`: a SOCKS proxy for the connections of any program through the mixnet."""

import contextlib
from random import SystemRandom
from typing import Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import globalLogBeginner

from nymtw.client.options import ClientOptions
from nymtw.client.proxies.exit_streams import ExitStreams
from nymtw.client.proxies.fetch import run
from nymtw.client.proxies.socks_server import MAX_CONNECTIONS, MAX_HANDSHAKES, SocksFactory
from nymtw.client.service import LOOPBACK, ClientService
from nymtw.node.process.descriptors import raise_limit
from nymtw.node.process.log import observer
from nymtw.node.service import Listener
from nymtw.node.tap import port_number

DESCRIPTORS: Final = MAX_CONNECTIONS + MAX_HANDSHAKES + 256  # and those of the client itself


class SocksOptions(ClientOptions):
    """`nym-client socks5`."""

    optParameters: ClassVar[list[Any]] = [
        ["exit", None, None, "Address of an exit [default: one from the topology, another one if it fails]"],
        ["port", None, 1080, "Port on 127.0.0.1", port_number],
    ]


def socks(options: SocksOptions) -> int:
    """Serve programs until Ctrl-C."""
    raise_limit(DESCRIPTORS)
    globalLogBeginner.beginLoggingTo([observer()], redirectStandardIO=False)

    async def work(service: ClientService, reactor: Any) -> None:
        core = service.core
        assert core is not None
        streams = ExitStreams(core, reactor, SystemRandom(), lambda: service.watch.current, options["exit"])
        factory = SocksFactory(streams, reactor)
        listener = Listener(reactor, LOOPBACK, options["port"], factory)
        try:
            listener.startService()
            service.log.info("A SOCKS proxy is at 127.0.0.1:{port}", port=listener.port)
            await Deferred()
        finally:
            await maybeDeferred(listener.stopService)
            factory.close()
            streams.close()

    with contextlib.suppress(CancelledError):
        run(options, work)
    return 0
