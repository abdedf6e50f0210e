"""Who is let in at a socket for applications: whoever has the token, in time. The sockets of both kinds share this."""

import hmac
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from twisted.internet.protocol import Factory

from nymtw.client.sockets.application import ClientLike
from nymtw.client.sockets.tokens import REQUEST, presented
from nymtw.client.sockets.wire import LIMIT, RawRequest, decode
from nymtw.errors import EncodingError
from nymtw.topology.address import Address

MOST_APPLICATIONS: Final = 64
MOST_HANDSHAKES: Final = 64  # connections that have not been let in; a new one takes the place of the oldest
HANDSHAKE: Final = 10.0  # seconds from the connection until it must have been let in
FIRST_LIMIT: Final = 128 * 1024  # bytes that are kept of who has not been let in


class Door(Factory):
    """The factory to listen with, on 127.0.0.1 only. With a `recipient`, all data is sent there.

    Without a `token` everybody is let in at the first request.
    """

    noisy = False

    client: ClientLike  # set before the first connection
    token: str | None = None
    file: Path | None = None  # where the token is, for those who have none

    def __init__(self, recipient: Address | None = None, limit: int = LIMIT) -> None:
        self.recipient, self.limit = recipient, limit
        self.open: set[Any] = set()
        self._handshakes: OrderedDict[Any, Any] = OrderedDict()

    def begun(self, connection: Any) -> None:
        """Somebody has connected, and has `HANDSHAKE` seconds."""
        if len(self._handshakes) >= MOST_HANDSHAKES:
            oldest, timer = self._handshakes.popitem(last=False)
            timer.cancel()
            oldest.transport.abortConnection()
        self._handshakes[connection] = self.client.clock.callLater(HANDSHAKE, self._late, connection)

    def admits(self, connection: Any) -> bool:
        """Whether there is room for one more; if not, it is closed."""
        self._shaken(connection)
        if len(self.open) >= MOST_APPLICATIONS:
            connection.transport.abortConnection()
            return False
        self.open.add(connection)
        return True

    def ended(self, connection: Any) -> None:
        """A connection is gone."""
        self._shaken(connection)
        self.open.discard(connection)

    def accepts(self, token: str | None) -> bool:
        """Whether this is the token, in constant time; anything is where there is none."""
        if self.token is None:
            return True
        given = (token or "").encode("utf-8", "replace")
        return hmac.compare_digest(given, self.token.encode())

    def check(self, request: RawRequest) -> dict[str, Any]:
        """The answer to a first request that presents the token. Raises `EncodingError` for any other."""
        value = decode(request)
        token = presented(value)
        if token is None or not self.accepts(token):
            raise EncodingError(self.demand)
        return {"type": REQUEST} if "type" in value else {REQUEST: {}}

    @property
    def demand(self) -> str:
        """What somebody without the token is told."""
        where = f"in {self.file} " if self.file is not None else ""
        return f'this socket needs its token {where}first: {{"{REQUEST}": {{"token": TOKEN}}}}'

    def close(self) -> None:
        """Close all connections."""
        for connection in [*self.open, *self._handshakes]:
            connection.close()
        while self._handshakes:
            self._handshakes.popitem()[1].cancel()

    def _shaken(self, connection: Any) -> None:
        timer = self._handshakes.pop(connection, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _late(self, connection: Any) -> None:
        self._handshakes.pop(connection, None)
        connection.transport.abortConnection()
