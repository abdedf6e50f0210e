"""What a dummy of a padded line costs the processor, beside a packet: over real TLS, both ends in this process.

Prints microseconds of processor time for each: a dummy made, sent in its slot, received and dropped; a packet
sent, received and unwrapped. The bar: a dummy costs at most a third of a packet.
"""

import random
import sys
import time
from typing import Any

from nacl.signing import SigningKey

from nymtw.link.node_link import NodeLinks
from nymtw.link.security import TLSSecurity
from nymtw.sphinx import Hop, SizeClass, Unwrapper, build_packet, generate_keypair

COUNT = 4000
RATE = 1000.0  # dummies a second
BAR = 1 / 3


def main() -> None:
    from twisted.internet import reactor as module
    from twisted.internet.task import deferLater

    reactor: Any = module
    source = random.SystemRandom()
    private, public = generate_keypair(source)
    _, behind = generate_keypair(source)
    unwrapper = Unwrapper({0: private})
    keys = [SigningKey.generate() for _ in range(2)]
    received = [0]

    def receive(peer: bytes, frames: list[Any]) -> None:
        unwrapper.unwrap_many([(0, frame.body) for frame in frames], lambda tag: True)
        received[0] += len(frames)

    def links(key: SigningKey) -> NodeLinks:
        return NodeLinks(
            reactor,
            TLSSecurity(key),
            receive=receive,
            admit=lambda peer: True,
            sent=lambda count: None,
            dropped=lambda reason, count: None,
            random=source,
        )

    one, other = map(links, keys)
    port = reactor.listenTCP(0, other.factory, interface="127.0.0.1")
    peer = bytes(keys[1].verify_key)
    one.set_peers({peer: ("127.0.0.1", port.getHost().port)})
    route = [Hop(bytes(32), public), Hop(bytes(32), behind)]
    packets = [build_packet(b"", route, [0], bytes(32), random=source) for _ in range(COUNT)]

    async def work() -> None:
        one.send(peer, 0, packets[0])
        while not received[0]:
            await deferLater(reactor, 0.01)
        began, before = time.process_time(), received[0]
        for start in range(0, COUNT, 20):
            for packet in packets[start : start + 20]:
                one.send(peer, 0, packet)
            await deferLater(reactor, 0)
        while received[0] - before < COUNT:
            await deferLater(reactor, 0.001)
        packet_cost = (time.process_time() - began) / COUNT * 1e6
        # A line with nothing to send, its slots and timers included.
        one.set_lines({peer: {SizeClass.REGULAR: RATE}})
        began, dummies = time.process_time(), other.padding.received
        await deferLater(reactor, COUNT / RATE)
        dummy_cost = (time.process_time() - began) / (other.padding.received - dummies) * 1e6
        share = dummy_cost / packet_cost
        print(f"packet {packet_cost:.0f} us, dummy {dummy_cost:.0f} us: {share:.2f} of it, at most {BAR:.2f}")
        reactor.callLater(0, reactor.stop)
        status.append(0 if share <= BAR else 1)

    status: list[int] = []
    from twisted.internet.defer import Deferred

    Deferred.fromCoroutine(work()).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
    sys.exit(status[0] if status else 2)


if __name__ == "__main__":
    main()
