"""The broadcaster: submits signed transactions of clients to chains, and returns the chain's answer.

A node gets a transaction once. The broadcaster tries again only if the node certainly has not seen it.
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
from nymtw.web.http_bodies import Bytes, read_body

PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before each further attempt to reach a node
ANSWER_TIME: Final = 30.0  # seconds for a node's answer
_LONGEST_ANSWER: Final = 2**20
_REMEMBERED: Final = 1000
# The node, or a proxy in front of it, has not examined the request (RFC 9110 and 6585).
_NOT_TAKEN: Final = (429, 503)
UNKNOWN: Final = "the node has not answered: it is not known whether it has the transaction"


class NotReached(NymtwError):
    """The node cannot be reached; it has not seen the transaction."""


@dataclass(frozen=True, slots=True)
class ChainNode:
    """One node: the kind of its chain, its URL without credentials, and the value of the Authorization header."""

    chain: Chain
    url: str
    authorization: bytes | None = None


def parse_node(text: str) -> tuple[str, ChainNode]:
    """Parse `NAME=URL` or `NAME=@FILE`, where the file holds the URL. Returns name and node.

    NAME is a kind (eth, cometbft, bitcoin), or any name with a kind, `NAME:KIND`. Raises `ConfigError`.
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
        raise ConfigError(f"--chain: the URL of {name!r:.40} is not an http or https URL")
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
        """A chain's node, NAME=URL. NAME is eth, cometbft or bitcoin, or any name with one of these: NAME:KIND. NAME=@FILE reads the URL from a file, which hides a password in it. May be repeated"""  # noqa: E501  # usage.Options shows it as one paragraph
        self.setdefault("chain", []).append(text)


def make_provider(context: IProviderContext, options: Mapping[str, Any]) -> "Broadcaster":
    """Make the broadcaster, for the plugin. Raises `ConfigError`."""
    nodes = dict(parse_node(text) for text in options["chain"])
    if not nodes:
        raise ConfigError("a broadcaster needs at least one --chain")
    return Broadcaster(context, nodes)


class Broadcaster(Service):
    """An `IService` whose requests are `BroadcastRequest` and whose answers are `BroadcastAnswer`."""

    limits = ServiceLimits(concurrent=50, waiting=500, seconds=180.0)

    def __init__(self, context: IProviderContext, nodes: Mapping[str, ChainNode], agent: Any = None) -> None:
        self._context, self._nodes = context, nodes
        self._agent = agent or Agent(context.reactor, connectTimeout=20.0)
        # By the hash of chain and transaction: a repeated request gets the answer of the first one.
        self._known: OrderedDict[bytes, Deferred[tuple[str, str]]] = OrderedDict()

    async def handle(self, request: Request) -> bytes | None:
        """Submit one transaction. Neither the transaction nor its hash is ever logged."""
        try:
            wanted = BroadcastRequest.parse(request.message)
        except EncodingError:
            self._context.metrics.count("bad-requests")
            return None
        node = self._nodes.get(wanted.chain)
        if node is None:
            known = ", ".join(sorted(self._nodes))
            return BroadcastAnswer(
                id=wanted.id, error=f"this broadcaster does not support the chain; it supports {known}"
            ).encode()
        hashed, error = await self._once(wanted.chain, node, wanted.transaction)
        self._context.metrics.count("refused-by-chain" if error else "broadcast")
        return BroadcastAnswer(id=wanted.id, hash=hashed, error=error).encode()

    def stop(self) -> None:
        """Cancel pending submissions."""
        for outcome in list(self._known.values()):
            outcome.cancel()

    async def _once(self, name: str, node: ChainNode, transaction: bytes) -> tuple[str, str]:
        """(hash, error), the same for everyone who sends this transaction."""
        key = hashlib.blake2b(name.encode() + b"\0" + transaction, digest_size=32).digest()
        outcome = self._known.get(key)
        if outcome is None:
            outcome = self._known[key] = Deferred.fromCoroutine(self._submit(key, node, transaction))
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        answer: Deferred[tuple[str, str]] = Deferred()

        def forward(result: Any) -> Any:
            if not answer.called:
                answer.callback(result)
            return result

        outcome.addBoth(forward)
        return await answer

    async def _submit(self, key: bytes, node: ChainNode, transaction: bytes) -> tuple[str, str]:
        for pause in (*PAUSES, None):
            try:
                return await self._ask(node, transaction), ""
            except NotReached as error:
                if pause is None:
                    self._known.pop(key, None)  # no node has it: a new request may try again
                    return "", str(error)
                self._context.metrics.count("tried-again")
                await deferLater(self._context.clock, pause)
            except ChainRefused as error:
                self._known.pop(key, None)  # the chain may accept it later
                return "", str(error)
            except CancelledError:
                return "", UNKNOWN
            except NymtwError as error:
                return "", str(error)
        raise AssertionError

    async def _ask(self, node: ChainNode, transaction: bytes) -> str:
        """Make one attempt. Raises `NotReached` if the node certainly has not seen the transaction."""
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
