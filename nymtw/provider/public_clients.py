"""The clients that want to be found by others: their addresses go into the presence, and so into the topology."""

import heapq
from dataclasses import dataclass

from nymtw.errors import AddressError
from nymtw.topology.address import Address
from nymtw.topology.presence import CLIENTS_PER_PAGE, MAX_PUBLIC_CLIENTS


@dataclass(frozen=True, slots=True)
class Page:
    """The addresses in one heartbeat: page `number`, from 0, of `count`."""

    number: int
    count: int
    addresses: tuple[str, ...]


class PublicClients:
    """The clients that asked at their last login to be public, for as long as the provider runs.

    Each client keeps its place, and so stays on one page while others come and go.
    """

    def __init__(self, provider: bytes, network: bytes, limit: int = MAX_PUBLIC_CLIENTS) -> None:
        """`provider`: this provider's identity, 32 bytes; `network`: the network's id, 16 bytes."""
        self._provider = provider
        self._network = network
        self.limit = limit
        self._places: dict[bytes, int] = {}
        self._addresses: list[str] = []  # by place; "" for a free place
        self._free: list[int] = []
        self._changed: dict[int, None] = {}  # pages, in the order in which they changed
        self._next = 0
        self._in_turn = True

    def put(self, mailbox: bytes, address: str) -> bool:
        """Publish the address of a mailbox's client, "" to remove it. False if full, or if it is not its address."""
        if not address:
            place = self._places.pop(mailbox, None)
            if place is not None:
                self._set(place, "")
                heapq.heappush(self._free, place)
            return True
        try:
            parsed = Address.parse(address, self._network)
        except AddressError:
            return False
        full = len(self._places) >= self.limit and mailbox not in self._places
        if full or (parsed.mailbox, parsed.provider) != (mailbox, self._provider):
            return False
        if mailbox not in self._places:
            self._places[mailbox] = heapq.heappop(self._free) if self._free else len(self._addresses)
        self._set(self._places[mailbox], address)
        return True

    def addresses(self) -> list[str]:
        """All public addresses."""
        return [address for address in self._addresses if address]

    def next_page(self) -> Page:
        """The page to announce now: one that has changed since its last announcement, otherwise the next one."""
        count = max(1, -(-len(self._addresses) // CLIENTS_PER_PAGE))
        # Every other time only: clients that come and go all the time must not keep the other pages back.
        self._in_turn = not self._in_turn or not self._changed
        if self._in_turn:
            number = self._next = (self._next + 1) % count
            self._changed.pop(number, None)
        else:
            number = next(iter(self._changed))
            del self._changed[number]
        held = self._addresses[number * CLIENTS_PER_PAGE : (number + 1) * CLIENTS_PER_PAGE]
        return Page(number, count, tuple(filter(None, held)))

    def _set(self, place: int, address: str) -> None:
        if place == len(self._addresses):
            self._addresses.append(address)
        elif self._addresses[place] == address:
            return
        self._addresses[place] = address
        self._changed[place // CLIENTS_PER_PAGE] = None
