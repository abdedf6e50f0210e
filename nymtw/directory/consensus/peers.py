"""The other directories that sign the same topology."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList

from nymtw.directory.consensus.votes import NOTICE_LIMIT, STATEMENTS_LIMIT, VOTE_LIMIT
from nymtw.encoding import to_cbor
from nymtw.errors import ConfigError, NymtwError
from nymtw.node.directories.http_directory import HTTPDirectory, check_directory_url
from nymtw.node.keys import read_directory_key
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH

NOTICES = "/api/v1/agreement/notices"
PART = "/api/v1/agreement/part"
STATEMENTS = "/api/v1/agreement/statements"
ANSWER_LIMIT = max(VOTE_LIMIT, MAX_TOPOLOGY_LENGTH)  # bytes
CBOR = "application/cbor"


class IPeer(Protocol):
    """Another directory. Every method returns a Deferred, which fails with `DirectoryError`; nothing is verified."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    def notify(self, notice: bytes) -> "Deferred[Any]":
        """Tell it what is known here: the CBOR of a `Notice`."""

    def part(self, digest: bytes) -> "Deferred[bytes]":
        """The vote, or the signed topology, with this digest."""

    def statements(self, digests: Sequence[bytes]) -> "Deferred[bytes]":
        """The CBOR of a list of those statements (bytes) that it has, or of the first of them. Ask for 500 at most."""

    def topology(self) -> "Deferred[bytes]":
        """Its newest signed topology."""

    def close(self) -> "Deferred[None]":
        """Close the connections to it."""


class HTTPPeer(HTTPDirectory):
    """Another directory, over its API."""

    @property
    def name(self) -> str:
        """Its URL."""
        return self.url

    def notify(self, notice: bytes) -> "Deferred[Any]":
        """POST /api/v1/agreement/notices"""
        return self._ask("POST", NOTICES, notice, {201}, NOTICE_LIMIT, kind=CBOR)

    def part(self, digest: bytes) -> "Deferred[bytes]":
        """GET /api/v1/agreement/part"""
        return self._request("GET", f"{PART}?digest={digest.hex()}", None, 200, ANSWER_LIMIT)

    def statements(self, digests: Sequence[bytes]) -> "Deferred[bytes]":
        """POST /api/v1/agreement/statements"""
        asked = self._ask("POST", STATEMENTS, to_cbor(list(digests)), {200}, STATEMENTS_LIMIT, kind=CBOR)
        return asked.addCallback(lambda answer: answer.content)


class Sources:
    """`peers`, by their identities, and what they are being asked."""

    def __init__(self, peers: Mapping[bytes, IPeer]) -> None:
        self.peers = peers
        self._asking: set[Deferred[Any]] = set()

    def ask(self, asked: "Deferred[Any]") -> "Deferred[Any]":
        """Remember it until it is answered, so that `stop` ends it."""
        self._asking.add(asked)

        def answered(result: Any) -> Any:
            self._asking.discard(asked)
            return result

        return asked.addBoth(answered)

    async def from_all(
        self, holders: Sequence[bytes], ask: "Callable[[IPeer], Deferred[bytes]]", take: Callable[[bytes], None]
    ) -> None:
        """Ask all at once, and `take` what each answers; what cannot be used (`NymtwError`) is passed over."""

        def passed_over(failure: Any) -> None:
            failure.trap(NymtwError, CancelledError)

        asked = [self.ask(ask(self.peers[key])).addCallback(take).addErrback(passed_over) for key in holders]
        if asked:
            await DeferredList(asked)

    def stop(self) -> "Deferred[None]":
        """Ask no more, and close the connections."""
        for asked in list(self._asking):
            asked.cancel()
        closing = DeferredList([peer.close() for peer in self.peers.values()], consumeErrors=True)
        return closing.addCallback(lambda _: None)


def parse_peer(text: str) -> tuple[str, bytes]:
    """URL and identity (32 bytes) in `URL=KEY`; the key is 44 characters, or the path of its PEM file.

    Raises `ConfigError`.
    """
    url, equals, key = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--peer: {text!r:.200} is not URL=KEY")
    try:
        return check_directory_url(url), read_directory_key(key)
    except NymtwError as error:
        cause = str(error).removeprefix("--directory-key: ").removeprefix("--directory: ")
        raise ConfigError(f"--peer: {cause}") from None
