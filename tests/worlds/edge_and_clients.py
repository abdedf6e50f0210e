"""A client's link in memory: an edge with a store behind it, and clients that connect to it."""

import random

from nacl.signing import SigningKey
from raw_connections import Raw, Single

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.link.client_link import ClientLinkLimits, connect_to_provider
from nymtw.link.downlink import Downlink
from nymtw.link.edge_link import ClientLinkFactory
from nymtw.link.security import TLSSecurity
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork
from nymtw.testing.security import MemorySecurity
from nymtw.topology.address import mailbox_id

SLOTS = 4
PACKET = bytes(386)
HOP = b"h" * 32
PROVIDER = SigningKey(b"p" * 32)
IDENTITY = bytes(PROVIDER.verify_key)
LIMITS = ClientLinkLimits()


class SlowStore:
    """A store whose answers take `delay` seconds, as those of a database elsewhere do."""

    def __init__(self, store, clock, delay):
        self.inner, self.clock, self.delay = store, clock, delay
        self.asked = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def _later(self, name, *arguments):
        self.asked.append(name)
        answer = Deferred()

        def ask():
            maybeDeferred(getattr(self.inner, name), *arguments).chainDeferred(answer)

        self.clock.callLater(self.delay, ask)
        return answer

    def find(self, mailbox):
        return self._later("find", mailbox)

    def pull(self, mailbox, count, after):
        return self._later("pull", mailbox, count, after)

    def confirm(self, mailbox, numbers):
        return self._later("confirm", mailbox, numbers)


class World:
    """A provider's client link with a store behind it, and clients that connect to it."""

    def __init__(self, tls=False, store=None, rate=None, verifier=None, clock=None, **limits):
        """`rate`: of the downlink, where mail is pushed."""
        self.clock = clock or FakeClock()
        self.network = MemoryNetwork(self.clock, latency=0.001)
        self.rng = random.Random(1)
        self.tls = tls
        self.store = store or SQLiteMailboxes(":memory:", self.clock, limits=MailboxLimits(mailboxes=3))
        self.submitted = []
        self.dropped = []
        host = self.network.host("provider", "10.0.0.1")
        self.links = ClientLinkFactory(
            host,
            TLSSecurity(PROVIDER) if tls else MemorySecurity(IDENTITY, self.rng),
            submit=lambda *arguments: self.submitted.append(arguments),
            slots=SLOTS,
            downlink=None if rate is None else Downlink(host, rate),
            verifier=verifier,
            dropped=lambda reason: self.dropped.append(reason),
            random=self.rng,
            limits=ClientLinkLimits(**limits),
        )
        self.links.use_store(self.store)
        self.port = host.listenTCP(1790, self.links.factory)
        self.lost = []
        self.clients = 0

    def wait(self, deferred):
        return self.clock.wait_for(deferred, 30)

    def key(self, name):
        return SigningKey(name.encode().ljust(32, b"."))

    def connecting(self, name, identity=IDENTITY):
        self.clients += 1
        return connect_to_provider(
            self.network.host(f"client {self.clients}", f"10.1.0.{self.clients}"),
            "10.0.0.1",
            1790,
            identity,
            TLSSecurity(None) if self.tls else MemorySecurity(None, self.rng),
            mailbox_key=self.key(name),
            lost=lambda: self.lost.append(name),
        )

    def connect(self, name):
        return self.wait(self.connecting(name))

    def logged_in(self, name, token=None):
        """A connection that is logged in, and its token."""
        connection = self.connect(name)
        token = token or self.wait(connection.register())
        assert self.wait(connection.login(token)) == (
            SLOTS if self.links.downlink is None else self.links.downlink.slots
        )
        return connection, token

    def mailbox(self, name):
        return mailbox_id(bytes(self.key(name).verify_key))

    def mail(self, name, kind, content):
        self.wait(self.store.store(self.mailbox(name), kind, content))

    def raw(self):
        raw = Raw()
        self.network.host("raw", "10.2.0.1").connectTCP("10.0.0.1", 1790, Single(raw))
        self.clock.advance(0.01)
        return raw

    def close(self):
        self.port.stopListening()
        self.wait(self.links.stop())
        self.store.close()
        self.clock.advance(5)
        assert self.clock.getDelayedCalls() == []
