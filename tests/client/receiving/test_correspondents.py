"""Who was given reply blocks stands in the client's store for as long as one of these blocks is alive."""

import msgspec
from client_and_edge import Net, Person

from nymtw.topology.document import Topology


def in_epoch(net: Net, epoch: int) -> Topology:
    assert isinstance(net.good, Topology)
    return msgspec.structs.replace(net.good, epoch=epoch)


def test_a_correspondent_without_a_live_reply_block_is_forgotten_and_gets_another_tag_later() -> None:
    net = Net()
    alice, bob, carol = (Person(net, name) for name in ("alice", "bob", "carol"))
    bob.listen()
    alice.send(b"one", bob, surbs=3)
    alice.send(b"two", carol, surbs=1)
    net.clock.advance_until(lambda: len(bob.received) == 1, 60)
    alice.core.replies.use_topology(in_epoch(net, 8))
    assert alice.core.replies.correspondents == 2
    alice.core.replies.use_topology(in_epoch(net, 9))
    assert alice.core.replies.correspondents == 0
    alice.store.commit()
    assert alice.store.correspondents() == []
    alice.send(b"three", bob, surbs=3)
    net.clock.advance_until(lambda: len(bob.received) == 2, 60)
    assert bob.received[0].tag != bob.received[1].tag
    assert len(alice.store.correspondents()) == 1
    for person in (alice, bob, carol):
        person.stop()
