"""A directory on fake clocks, and nodes that announce themselves to it."""

from typing import Any

from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from nymtw.directory.consensus.publisher import Publisher
from nymtw.directory.core import Directory
from nymtw.directory.registry import Registry
from nymtw.directory.traffic_windows import TrafficWindows
from nymtw.directory.unsigned_presence import UnsignedPresence
from nymtw.testing.clock import FakeClock

DIRECTORY_KEY = SigningKey(bytes([255]) * 32)


class Clocks(FakeClock):
    """The monotonic clock, and beside it a wall clock that a test can step."""

    step = 0.0

    def wall_clock(self) -> float:
        return super().wall_clock() + self.step


class World:
    """A directory, and nodes that announce themselves to it."""

    def __init__(self, previous: bytes | None = None, clock: Clocks | None = None, **registry: Any) -> None:
        self.clock = clock or Clocks()
        self.registry = Registry(self.clock.seconds, self.clock.wall_clock, **registry)
        self.publisher = self.make_publisher(previous)
        metrics = TrafficWindows(self.clock.seconds, self.clock.wall_clock)
        unsigned_presence = UnsignedPresence(self.clock.seconds, self.clock.wall_clock)
        self.directory = Directory(self.registry, self.publisher, metrics, self.clock.wall_clock, unsigned_presence)

    def make_publisher(self, previous: bytes | None = None, **options: Any) -> Publisher:
        return Publisher(
            self.registry, [DIRECTORY_KEY], self.clock.seconds, self.clock.wall_clock, previous=previous, **options
        )

    @property
    def now(self) -> int:
        return int(self.clock.wall_clock() * 1e9)

    def heartbeat(self, number: int, role: str = "mixnode", **changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 2000 + number,
            "keys": {7: bytes([number]) * 32, 8: bytes([number, 1]) * 16},
            "timestamp": self.now,
            **({"layer": 1 + number % 3} if role == "mixnode" else {"client_port": 3000 + number}),
            **changes,
        }
        return signed_heartbeat(role, signing_key=node_key(number), version="0.1", **values)

    def announce(
        self, number: int, path: str = "mixnodes", role: str = "mixnode", source: str = "127.0.0.1", **changes: Any
    ) -> None:
        self.directory.announce(path, self.heartbeat(number, role, **changes), source)

    def serials(self) -> tuple[int, list[bytes]]:
        topology = self.publisher.topology()
        return topology.serial, [node.identity for node in topology.nodes]


def node_key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


def identity(number: int) -> bytes:
    return bytes(node_key(number).verify_key)
