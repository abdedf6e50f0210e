"""The forms for applications of clients, public clients and rates."""

from typing import Any

from nymtw.client.config import Rates
from nymtw.client.sockets.requests import recipient_object
from nymtw.errors import AddressError
from nymtw.topology.address import Address
from nymtw.topology.document import Topology


def client_object(address: Address, text: str, topology: Topology | None) -> dict[str, Any]:
    """A client in the format of the first Nym client. Its provider's fields are empty if the topology lacks it."""
    provider = None if topology is None else topology.find(address.provider)
    if provider is None or topology is None:
        return recipient_object(address, text, "", 0, b"")
    key = provider.sphinx_keys.get(topology.epoch, b"")
    return recipient_object(address, text, provider.host, provider.client_port, key)


def public_clients(topology: Topology | None, network: bytes) -> list[dict[str, Any]]:
    """The public clients whose provider is in the topology."""
    found = []
    for client in () if topology is None else topology.clients:
        try:
            address = Address.parse(client.address, network)
        except AddressError:
            continue
        if topology is not None and topology.find(address.provider) is not None:
            found.append(client_object(address, client.address, topology))
    return found


def rates_object(rates: Rates) -> dict[str, float]:
    """A client's rates."""
    return {
        "sending": rates.sending,
        "loops": rates.loops,
        "drops": rates.drops,
        "fetching": rates.fetching,
        "meanDelay": rates.mean_delay,
    }
