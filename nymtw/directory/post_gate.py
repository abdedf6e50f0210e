"""What a post may cost a directory before it is known who has signed it: a directory has one thread for everybody.

Who is already there from the same address has a limit of his own, which nobody else can use up. All others share one
for each address, and one for all addresses. A refusal takes microseconds, a signature a hundred times as long.
"""

from typing import Any, Final

from nymtw.directory.registry import Registry, is_loopback
from nymtw.encoding import parse_key_text
from nymtw.errors import DirectoryError, EncodingError, TooManyRequests
from nymtw.link.allowance import Allowance, origin

# Events at once, and the seconds in which as many more are let in.
OF_A_NODE: Final = (20, 8.0)  # a heartbeat every two seconds and a metric every second, and as many again
OF_AN_ADDRESS: Final = (256, 64.0)  # all nodes that one address may have, when they start together
OF_ALL: Final = (1000, 10.0)  # of those that are not known: a twentieth of the thread at the worst
FALSE_NOTICES: Final = (20, 60.0)
ALL_FALSE_NOTICES: Final = (200, 20.0)


class PostGate:
    """`registry` knows who is there, from which address, and has the clock."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._of_nodes = Allowance(registry, *OF_A_NODE)
        self._of_addresses = Allowance(registry, *OF_AN_ADDRESS)
        self._of_all = Allowance(registry, *OF_ALL)
        self._false = Allowance(registry, *FALSE_NOTICES)
        self._all_false = Allowance(registry, *ALL_FALSE_NOTICES)
        self._truthful: dict[str, None] = {}
        self.refused = 0

    def look(self, source: str) -> None:
        """Before a post of this address is even read. Raises `TooManyRequests`."""
        if not self._registry.has_source(source) and self._is_used_up(source):
            self._refuse()

    def enter(self, identity: bytes, source: str) -> None:
        """Before the signature of a post in the name of `identity` is checked. Raises `TooManyRequests`."""
        if self._registry.is_from(identity, source):
            allowed = self._of_nodes.take(f"{origin(source)} {identity.hex()}")
        else:
            allowed = (is_loopback(source) or self._of_addresses.take(source)) and self._of_all.take(None)
        if not allowed:
            self._refuse()

    def look_at_notice(self, source: str) -> None:
        """Before a notice of another directory is read. Raises `TooManyRequests`."""
        at = origin(source)
        if self._false.is_used_up(source) or (at not in self._truthful and self._all_false.is_used_up(None)):
            self._refuse()

    def notice_was(self, true: bool, source: str) -> None:
        """A notice held news that other directories have signed, or what none of them has."""
        if true:
            self._truthful.pop(origin(source), None)
            self._truthful[origin(source)] = None
            if len(self._truthful) > OF_AN_ADDRESS[0]:
                del self._truthful[next(iter(self._truthful))]
        else:
            self._false.take(source)
            self._all_false.take(None)

    def _is_used_up(self, source: str) -> bool:
        return (not is_loopback(source) and self._of_addresses.is_used_up(source)) or self._of_all.is_used_up(None)

    def _refuse(self) -> None:
        self.refused += 1
        raise TooManyRequests


def claimed_identity(body: object) -> bytes:
    """Who a post says has signed it. Raises `EncodingError`."""
    if not isinstance(body, dict):
        raise EncodingError("a post is a JSON object")
    text: Any = body.get("identityKey")
    if not isinstance(text, str):
        raise EncodingError("identityKey: it is missing, or is not a text")
    return parse_key_text(text)


def check_is_newer(body: object, newest: int) -> None:
    """Raises `DirectoryError` for a post that was dated, if at all, before one that is already known."""
    timestamp = body.get("timestamp") if isinstance(body, dict) else None
    if isinstance(timestamp, int) and timestamp <= newest:
        raise DirectoryError("this heartbeat is not newer than the last one of this identity")
