"""What happened to one message, as its sender alone can tell: nothing of it is recorded at a node."""

from dataclasses import dataclass, field
from typing import Any

from nymtw.encoding import key_text
from nymtw.message.packets import Outgoing
from nymtw.topology.document import Topology

MOST_PACKETS = 1000  # of one message


@dataclass(slots=True)
class _Packet:
    fragment: int
    attempt: int
    at: float
    route: list[dict[str, Any]]
    delays: list[float]
    predicted: float
    why: str
    acknowledged: float | None = None
    refused: float | None = None


@dataclass(slots=True)
class MessageTrace:
    """The packets of one message: route, drawn delays, predicted and actual arrival of the ack, and why it was sent.

    Times are in seconds after the first packet.
    """

    _packets: list[_Packet] = field(default_factory=list)
    _by_ack: dict[bytes, _Packet] = field(default_factory=dict)
    _left_out: int = 0

    def sent(self, fragment: int, attempt: int, now: float, topology: Topology, packet: Outgoing) -> None:
        """A packet went out."""
        why = "first" if attempt == 1 else f"no ack of attempt {attempt - 1} in time"
        route = [_hop(topology, identity) for identity in packet.route]
        delays = [delay / 1e9 for delay in packet.delays]
        entry = _Packet(fragment, attempt, now, route, delays, now + packet.expected_round_trip, why)
        if self._keep(entry):
            self._by_ack[packet.ack_id] = self._by_ack[packet.refusal_id] = entry

    def not_sent(self, fragment: int, attempt: int, now: float, why: str) -> None:
        """No packet could be built."""
        self._keep(_Packet(fragment, attempt, now, [], [], now, f"not sent: {why}"))

    def acknowledged(self, ack_id: bytes, now: float) -> None:
        """An ack came."""
        entry = self._by_ack.get(ack_id)
        if entry is not None:
            entry.acknowledged = now

    def refused(self, refusal_id: bytes, now: float) -> None:
        """The recipient's edge says that it did not keep the packet."""
        entry = self._by_ack.get(refusal_id)
        if entry is not None:
            entry.refused = now

    def _keep(self, entry: _Packet) -> bool:
        if len(self._packets) >= MOST_PACKETS:
            self._left_out += 1
            return False
        self._packets.append(entry)
        return True

    def packets(self) -> list[dict[str, Any]]:
        """One object a packet, oldest first; then how many were left out."""
        start = self._packets[0].at if self._packets else 0.0
        found: list[dict[str, Any]] = [
            {
                "fragment": one.fragment,
                "attempt": one.attempt,
                "why": one.why,
                "sent": round(one.at - start, 4),
                "route": one.route,
                "delays": [round(delay, 4) for delay in one.delays],
                "ackPredicted": round(one.predicted - start, 4),
                "ackArrived": None if one.acknowledged is None else round(one.acknowledged - start, 4),
                "refused": None if one.refused is None else round(one.refused - start, 4),
            }
            for one in self._packets
        ]
        if self._left_out:
            found.append({"leftOut": self._left_out})
        return found


def _hop(topology: Topology, identity: bytes) -> dict[str, Any]:
    node = topology.find(identity)
    if node is None:
        return {"id": key_text(identity)}
    return {"id": key_text(identity), "role": node.role, "layer": node.layer, "host": f"{node.host}:{node.port}"}
