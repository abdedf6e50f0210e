"""The clients that asked to be found by others: their addresses go into the presence, and so into the topology."""

from nymtw.errors import AddressError
from nymtw.topology.address import Address
from nymtw.topology.presence import MAX_LISTED


class ListedClients:
    """Who asked to be listed at their last login, for as long as the provider runs."""

    def __init__(self, provider: bytes, network: bytes, limit: int = MAX_LISTED) -> None:
        """`provider`: this provider's identity, 32 bytes; `network`: the network's id, 16 bytes."""
        self._provider = provider
        self._network = network
        self._limit = limit
        self._addresses: dict[bytes, str] = {}

    def put(self, mailbox: bytes, address: str) -> bool:
        """List the client of this mailbox, or for "" no longer. False if full, or for an address not its own."""
        if not address:
            self._addresses.pop(mailbox, None)
            return True
        try:
            parsed = Address.parse(address, self._network)
        except AddressError:
            return False
        full = len(self._addresses) >= self._limit and mailbox not in self._addresses
        if full or (parsed.mailbox, parsed.provider) != (mailbox, self._provider):
            return False
        self._addresses[mailbox] = address
        return True

    def addresses(self) -> list[str]:
        """What to announce."""
        return list(self._addresses.values())
