"""The connections of an exit. A name is resolved once, each of its addresses is checked, and the connection goes to a
checked address, so that later answers of a name server do not matter.
"""

import errno
import ipaddress
import re
from collections import Counter
from typing import Any, Final

from twisted.internet import error as errors
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.python.failure import Failure

from nymtw.errors import NymtwError
from nymtw.message.stream import StreamFailure
from nymtw.provider.exit.policy import ExitPolicy
from nymtw.provider.services.addresses import is_public, leads_to_itself, resolve

MOST_ATTEMPTS: Final = 4  # addresses tried for one name
MOST_LOOKUPS: Final = 256  # names being resolved at once
MOST_LOOKUPS_PER_CLIENT: Final = 32
_NAME: Final = re.compile(r"(?=.{1,253}\.?\Z)[0-9A-Za-z_-]{1,63}(\.[0-9A-Za-z_-]{1,63})*\.?")
_BY_NUMBER: Final = {
    errno.ECONNREFUSED: StreamFailure.REFUSED,
    errno.ENETUNREACH: StreamFailure.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: StreamFailure.NETWORK_UNREACHABLE,  # this machine has no address of this family
    errno.EHOSTUNREACH: StreamFailure.HOST_UNREACHABLE,
    errno.EHOSTDOWN: StreamFailure.HOST_UNREACHABLE,
    errno.ETIMEDOUT: StreamFailure.TIMED_OUT,
}


class DialFailed(NymtwError):
    """The connection failed; `failure` is the reason."""

    def __init__(self, failure: StreamFailure) -> None:
        super().__init__(failure.value)
        self.failure = failure


class Lookups:
    """Resolves names, within limits: an answer may be slow, and a thread waits for it even after the client has given
    up. Several questions of one client for the same name are one lookup.
    """

    def __init__(self, reactor: Any, most: int = MOST_LOOKUPS, per_client: int = MOST_LOOKUPS_PER_CLIENT) -> None:
        self._reactor, self._most, self._per_client = reactor, most, per_client
        self._asked: dict[tuple[bytes, str], list[Deferred[list[str]]]] = {}
        self._by_client: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._asked)

    async def ask(self, client: bytes, host: str) -> list[str]:
        """The numeric addresses of a name, none if it is unknown. Raises `DialFailed` for too many lookups at once."""
        key = (client, host)
        waiting = self._asked.get(key)
        answer: Deferred[list[str]] = Deferred()
        if waiting is None:
            if len(self._asked) >= self._most or self._by_client[client] >= self._per_client:
                raise DialFailed(StreamFailure.BUSY)
            waiting = self._asked[key] = [answer]
            self._by_client[client] += 1
            resolve(self._reactor, host).addCallback(self._answered, key)
        else:
            waiting.append(answer)
        try:
            return await answer
        finally:
            if answer in waiting:
                waiting.remove(answer)

    def _answered(self, addresses: list[str], key: tuple[bytes, str]) -> None:
        waiting = self._asked.pop(key)
        self._by_client[key[0]] -= 1
        if not self._by_client[key[0]]:
            del self._by_client[key[0]]
        for answer in waiting[:]:
            answer.callback(addresses)


class Dialer:
    """Connects where the policy allows it, to private addresses only if `private`. `seconds`: the time limit."""

    def __init__(self, reactor: Any, clock: Any, policy: ExitPolicy, *, private: bool, seconds: float) -> None:
        self._reactor, self._clock, self._policy = reactor, clock, policy
        self._private, self._seconds = private, seconds
        self.lookups = Lookups(reactor)

    def dial(self, client: bytes, host: str, port: int, factory: Any) -> "Deferred[Any]":
        """The connected protocol that `factory` made. Fails with `DialFailed`; may be cancelled."""
        dialled = Deferred.fromCoroutine(self._dial(client, host, port, factory))
        if dialled.called:
            return dialled
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            dialled.cancel()

        def ended(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if late and isinstance(result, Failure):
                raise DialFailed(StreamFailure.TIMED_OUT)
            return result

        timer = self._clock.callLater(self._seconds, give_up)
        return dialled.addBoth(ended)

    async def _dial(self, client: bytes, host: str, port: int, factory: Any) -> Any:
        if not self._policy.accepts_some(port):
            raise DialFailed(StreamFailure.NOT_ALLOWED)
        numeric = _numeric(host)
        addresses = [numeric] if numeric else await self._resolve(client, host)
        plain = list(map(_plain, addresses))
        if not numeric and not self._private and not any(map(is_public, plain)):
            # Whoever asks must not learn which names the exit's operator has inside.
            raise DialFailed(StreamFailure.NAME_UNKNOWN)
        allowed = [address for address in plain if self._allows(address, port)]
        if not allowed:
            raise DialFailed(StreamFailure.NOT_ALLOWED)
        failure = StreamFailure.GENERAL
        for address in allowed[:MOST_ATTEMPTS]:
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            share = self._seconds / min(len(allowed), 2)
            try:
                protocol: Any = await kind(self._reactor, address, port, timeout=share).connect(factory)
            except errors.ConnectError as error:
                failure = failure_of(error)
                continue
            if not self._private and leads_to_itself(protocol.transport):
                protocol.transport.abortConnection()
                failure = StreamFailure.NOT_ALLOWED
                continue
            return protocol
        raise DialFailed(failure)

    async def _resolve(self, client: bytes, host: str) -> list[str]:
        # An invalid name makes some resolvers raise, and others wait for ever.
        addresses = await self.lookups.ask(client, host.lower()) if _NAME.fullmatch(host) else []
        if not addresses:
            raise DialFailed(StreamFailure.NAME_UNKNOWN)
        return addresses

    def _allows(self, address: str, port: int) -> bool:
        return (self._private or is_public(address)) and self._policy.accepts(address, port)


def failure_of(error: Exception) -> StreamFailure:
    """The failure that a client is told for an error of `connect`."""
    if isinstance(error, errors.ConnectionRefusedError):
        return StreamFailure.REFUSED
    if isinstance(error, (errors.TimeoutError, errors.TCPTimedOutError)):
        return StreamFailure.TIMED_OUT
    return _BY_NUMBER.get(getattr(error, "osError", None) or 0, StreamFailure.GENERAL)


def _numeric(host: str) -> str:
    """The host if it is a numeric address, otherwise ""."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def _plain(address: str) -> str:
    """The IPv4 address inside an IPv4-mapped IPv6 address; other addresses unchanged."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)
