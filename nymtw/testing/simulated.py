"""Parts of a `SimulatedNetwork` besides the real services: a client's user, and a record of the traffic."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from nymtw.client.core import ClientCore
from nymtw.client.sending.messages import Progress
from nymtw.client.service import ClientService
from nymtw.testing.clock import FakeClock
from nymtw.topology.address import Address
from nymtw.topology.document import Trust

ACCEPT_LIMIT: Final = 60.0  # seconds


def limit_pages(store: Any, full: bool) -> None:
    """Let SQLite find the disk of a store full: no page more than it has."""
    database = getattr(store, "_db", None) or store._database
    [(pages,)] = database.execute("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages if full else 2**30}").fetchall()


def running(name: str, among: Mapping[str, Any], known: Iterable[str]) -> Any:
    """The node or client of this name. Raises `ValueError` where it does not run, or is not known."""
    if name in among:
        return among[name]
    raise ValueError(f"{name!r} was killed: restart it first" if name in known else unknown(name, known))


def unknown(name: str, known: Iterable[str]) -> str:
    """The error about a name that nobody has."""
    return f"the network has no {name!r}: it has {', '.join(sorted(known))}"


class Transcript:
    """A digest of every byte that crossed the network, with its time and its two ends."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def __call__(self, seconds: float, sender: str, receiver: str, data: bytes) -> None:
        self._hash.update(f"{seconds!r} {sender} {receiver} {len(data)}\n".encode())
        self._hash.update(data)

    def digest(self) -> str:
        """32 hexadecimal digits that are equal if, and only if, everything was the same so far."""
        return self._hash.hexdigest()


class Simulation(Protocol):
    """The simulated network, as far as its clients need it."""

    clock: FakeClock
    trust: Trust


class SimulatedClient:
    """A client of the network, and an application that takes every message as it arrives."""

    def __init__(self, network: Simulation, name: str, service: ClientService) -> None:
        self._simulation = network
        self.name = name
        self.service = service
        self.received: list[bytes] = []

    def start(self) -> None:
        self.service.startService()
        inbox = self.core.inbox
        inbox.pump(inbox.subscribe(lambda message: self.received.append(message.data)))

    @property
    def core(self) -> ClientCore:
        """Raises `RuntimeError` while the service does not run."""
        if self.service.core is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.service.core

    @property
    def address(self) -> Address:
        """The address for messages to it."""
        return Address.parse(self.core.own_address(), self._simulation.trust.network)

    def is_ready(self) -> bool:
        """Whether it is logged in and can send."""
        return bool(self.core.status()["ready"])

    def send(self, recipient: "SimulatedClient | Address", message: bytes, surbs: int = 0) -> bytes:
        """Hand over a message and let time pass until it is accepted; returns its id (16 bytes)."""
        address = recipient if isinstance(recipient, Address) else recipient.address
        sent = Deferred.fromCoroutine(self.core.send(message, address, surbs=surbs))
        return self._simulation.clock.wait_for(sent, ACCEPT_LIMIT).message_id

    def progress(self, message_id: bytes) -> Progress | None:
        """The progress of a message of this client."""
        return self.core.progress(message_id)
