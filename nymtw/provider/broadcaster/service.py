"""The broadcaster: submits signed transactions to chains, for whoever sends them, and says what the chain says.

A transaction is handed to a node once: it is tried again only while it is sure that the node has not seen it.
"""

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.task import deferLater
from twisted.python import usage
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from nymtw.errors import ConfigError, EncodingError, NymtwError
from nymtw.interfaces import IProviderContext
from nymtw.message.broadcast import BroadcastAnswer, BroadcastRequest
from nymtw.provider.api import Request, Service, ServiceLimits
from nymtw.provider.broadcaster.chains import KINDS, Chain, ChainRefused
from nymtw.provider.services.http_bodies import Bytes, read_body

PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before each further attempt at a node that is away
ANSWER_TIME: Final = 30.0  # seconds that a node has for its answer
_LONGEST_ANSWER: Final = 2**20
_REMEMBERED: Final = 1000
# The node, or what stands before it, says that it has not looked at the request (RFC 9110 and 6585).
_NOT_TAKEN: Final = (429, 503)
UNKNOWN: Final = "the node has not answered: whether it has the transaction is not known"


class NotReached(NymtwError):
    """The node cannot be reached; it has not seen the transaction."""


@dataclass(frozen=True, slots=True)
class ChainNode:
    """One node: the kind of its chain, its URL without credentials, and what goes into the Authorization header."""

    chain: Chain
    url: str
    authorization: bytes | None = None


def parse_node(text: str) -> tuple[str, ChainNode]:
    """Name and node behind `NAME=URL`; a URL that starts with @ is read from the file of that name.

    The name is that of a kind (eth, cometbft, bitcoin), or `NAME:KIND`. Raises `ConfigError`.
    """
    name, equals, url = text.partition("=")
    name, colon, kind = name.partition(":")
    kind = kind if colon else name
    if not equals or kind not in KINDS:
        raise ConfigError(f"--chain: {name!r:.40} is not one of {', '.join(KINDS)}, nor NAME:KIND with one of them")
    if url.startswith("@"):
        try:
            url = Path(url[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--chain: {url[1:]}: {getattr(error, 'strerror', 'not text')}") from None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--chain: the URL of {name!r:.40} is not one of http or https")
    authorization = None
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(secret.encode())
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return name, ChainNode(KINDS[kind](), bare, authorization)


class Options(usage.Options):
    """The command line of `--impl=broadcaster`."""

    def __init__(self) -> None:
        super().__init__()
        self.setdefault("chain", [])

    def opt_chain(self, text: str) -> None:
        """A chain's node, NAME=URL: NAME is eth, cometbft or bitcoin, or of your choice as NAME:KIND; =@FILE reads the URL from a file, so that a password in it is not seen; may be given again"""  # noqa: E501  # usage.Options shows it as one paragraph
        self.setdefault("chain", []).append(text)


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Broadcaster":
    """What the plugin calls. Raises `ConfigError`."""
    nodes = dict(parse_node(text) for text in options["chain"])
    if not nodes:
        raise ConfigError("a broadcaster needs a --chain to broadcast to")
    return Broadcaster(context, nodes)


class Broadcaster(Service):
    """An `IService` whose requests are `BroadcastRequest` and whose answers are `BroadcastAnswer`."""

    limits = ServiceLimits(concurrent=50, waiting=500, seconds=180.0)

    def __init__(self, context: IProviderContext, nodes: Mapping[str, ChainNode], agent: Any = None) -> None:
        self._context, self._nodes = context, nodes
        self._agent = agent or Agent(context.reactor, connectTimeout=20.0)
        # By the hash of chain and transaction: who asks again gets the first one's answer.
        self._known: OrderedDict[bytes, Deferred[tuple[str, str]]] = OrderedDict()

    async def handle(self, request: Request) -> bytes | None:
        """Submit one transaction. Neither it nor its hash is logged, whatever happens."""
        try:
            wanted = BroadcastRequest.parse(request.message)
        except EncodingError:
            self._context.metrics.count("bad-requests")
            return None
        node = self._nodes.get(wanted.chain)
        if node is None:
            known = ", ".join(sorted(self._nodes))
            return BroadcastAnswer(
                id=wanted.id, error=f"this broadcaster does not know the chain; it has {known}"
            ).encode()
        hashed, error = await self._once(wanted.chain, node, wanted.transaction)
        self._context.metrics.count("refused-by-chain" if error else "broadcast")
        return BroadcastAnswer(id=wanted.id, hash=hashed, error=error).encode()

    def stop(self) -> None:
        """Give up what is under way."""
        for outcome in list(self._known.values()):
            outcome.cancel()

    async def _once(self, name: str, node: ChainNode, transaction: bytes) -> tuple[str, str]:
        """(hash, error), the same for everybody who sends this transaction."""
        key = hashlib.blake2b(name.encode() + b"\0" + transaction, digest_size=32).digest()
        outcome = self._known.get(key)
        if outcome is None:
            outcome = self._known[key] = Deferred.fromCoroutine(self._submit(key, node, transaction))
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        told: Deferred[tuple[str, str]] = Deferred()

        def tell(result: Any) -> Any:
            if not told.called:
                told.callback(result)
            return result

        outcome.addBoth(tell)
        return await told

    async def _submit(self, key: bytes, node: ChainNode, transaction: bytes) -> tuple[str, str]:
        for pause in (*PAUSES, None):
            try:
                return await self._ask(node, transaction), ""
            except NotReached as error:
                if pause is None:
                    self._known.pop(key, None)  # nobody has it: it may be tried again
                    return "", str(error)
                self._context.metrics.count("tried-again")
                await deferLater(self._context.clock, pause)
            except ChainRefused as error:
                self._known.pop(key, None)  # what the chain refuses now it may take later
                return "", str(error)
            except CancelledError:
                return "", UNKNOWN
            except NymtwError as error:
                return "", str(error)
        raise AssertionError

    async def _ask(self, node: ChainNode, transaction: bytes) -> str:
        """One attempt. Raises `NotReached` where the node surely has not seen the transaction."""
        headers = Headers({b"Content-Type": [b"application/json"]})
        if node.authorization is not None:
            headers.addRawHeader(b"Authorization", node.authorization)
        body = Bytes(node.chain.body(transaction))
        asked: Deferred[Any] = self._agent.request(b"POST", node.url.encode("ascii"), headers, body)
        asked.addTimeout(ANSWER_TIME, self._context.clock)
        try:
            response = await asked
            content = await read_body(response, _LONGEST_ANSWER).addTimeout(ANSWER_TIME, self._context.clock)
        except (ConnectError, DNSLookupError):
            raise NotReached from None
        except CancelledError:
            raise
        except EncodingError:
            raise
        except Exception:
            raise NymtwError(UNKNOWN) from None
        if response.code in _NOT_TAKEN:
            raise NotReached
        if response.code in (401, 403):
            raise NymtwError("the node refuses this broadcaster")
        return node.chain.hash(content)
