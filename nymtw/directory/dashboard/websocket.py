"""Send-only websockets (RFC 6455): all viewers of a stream get the same text frames. Incoming frames are ignored."""

from collections.abc import Callable
from typing import Any

from wsproto import ConnectionType
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

MOST_VIEWERS = 1000
PATIENCE = 30.0  # seconds for which a viewer may be too slow; it misses frames meanwhile
SILENCE = 20.0  # seconds after which an idle viewer is pinged, to notice a dead connection
TOO_BUSY = 1013
GOING_AWAY = 1001


class Viewer(Protocol):
    """One websocket, from the handshake on."""

    transport: Any = None

    def __init__(self, viewers: "ViewerGroup", wire: Any) -> None:
        self._viewers = viewers
        self._wire = wire
        self._blocked_since: float | None = None
        self._spoke = viewers.seconds()
        self._over = False

    def connectionMade(self) -> None:
        self._viewers.viewers.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, Ping):
                    self._write(event.response())
                elif isinstance(event, CloseConnection):
                    self._write(event.response())
                    self._disconnect()
        except RemoteProtocolError:
            self._disconnect()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self._viewers.viewers.discard(self)

    def blocked(self, is_blocked: bool) -> None:
        """Called when the transport's buffer becomes full, or takes data again."""
        self._blocked_since = self._viewers.seconds() if is_blocked else None

    def show(self, text: str) -> None:
        """Send a text frame, unless the viewer is behind."""
        if self._blocked_since is None and not self._over:
            self._spoke = self._viewers.seconds()
            self._write(TextMessage(text))

    def tend(self) -> None:
        """Disconnect a viewer that has been too slow for too long; ping a viewer that has long got no frame."""
        now = self._viewers.seconds()
        if self._blocked_since is not None and now - self._blocked_since > PATIENCE:
            self._over = True
            self.transport.abortConnection()
        elif self._blocked_since is None and now - self._spoke > SILENCE:
            self._spoke = now
            self._write(Ping())

    def close(self, code: int) -> None:
        """Send a close frame and disconnect."""
        if not self._over:
            self._write(CloseConnection(code))
            self._disconnect()

    def _write(self, event: Any) -> None:
        try:
            self.transport.write(self._wire.send(event))
        except LocalProtocolError:
            self._disconnect()  # the other end has already sent a close frame

    def _disconnect(self) -> None:
        self._over = True
        self._viewers.viewers.discard(self)
        self.transport.loseConnection()


class ViewerGroup:
    """All viewers of one stream."""

    def __init__(self, seconds: Callable[[], float], limit: int = MOST_VIEWERS) -> None:
        self.seconds = seconds
        self.viewers: set[Viewer] = set()
        self.limit = limit

    def take_over(self, request: Any) -> bool:
        """Make a websocket of a GET request; False if it does not ask for one."""
        handshake = H11Handshake(ConnectionType.SERVER)
        headers = [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]
        try:
            handshake.initiate_upgrade_connection(headers, request.uri)
            # A browser that offers subprotocols refuses an answer without one.
            offered = [
                name for event in handshake.events() if isinstance(event, Request) for name in event.subprotocols
            ]
            greeting = handshake.send(AcceptConnection(subprotocol=offered[0] if offered else None))
        except (RemoteProtocolError, LocalProtocolError, ValueError):
            return False
        viewer = Viewer(self, handshake.connection)
        request.channel.transport.write(greeting)
        request.channel.switch_to(viewer)
        if len(self.viewers) > self.limit:
            viewer.close(TOO_BUSY)
        return True

    def show(self, text: str) -> None:
        """Send a text frame to every viewer that keeps up. An empty text sends nothing."""
        for viewer in list(self.viewers):
            if text:
                viewer.show(text)
            viewer.tend()

    def close(self) -> None:
        """Disconnect all viewers."""
        for viewer in list(self.viewers):
            viewer.close(GOING_AWAY)
