"""The signed posts of nodes: heartbeats (presence) and metrics (traffic).

A post is a JSON object; its `signature` is Ed25519 by `identityKey` over a prefix and the canonical CBOR of the rest.
`docs/protocol.md` describes the fields. Keys are in URL-safe base64, times in nanoseconds since 1970.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from nymtw.encoding import key_text, parse_key_text, to_cbor
from nymtw.errors import AddressError, EncodingError
from nymtw.topology.address import MAX_ADDRESS_LENGTH, split_address
from nymtw.topology.document import (
    ANY,
    EDGE_ROLES,
    GATEWAY,
    LAYERS,
    MIXNODE,
    Family,
    Mode,
    NodeRecord,
    PublicClient,
    Services,
)
from nymtw.topology.lines import step

MAX_SKEW: Final = 120.0  # seconds that a node's clock may differ from the directory's
MAX_PUBLIC_CLIENTS: Final = 10_000  # public clients of one provider
CLIENTS_PER_PAGE: Final = 100  # public clients in one heartbeat, which so stays below 32 KiB
MAX_PAGES: Final = MAX_PUBLIC_CLIENTS // CLIENTS_PER_PAGE
MAX_DESCRIPTION: Final = 280  # characters of an operator's description
_HEARTBEAT_PREFIX: Final = b"nymtw presence v1\0"
_METRIC_PREFIX: Final = b"nymtw metric v1\0"
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*\Z")

_KeyText = Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
_Endpoint = Annotated[str, msgspec.Meta(max_length=262)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_SignatureText = Annotated[str, msgspec.Meta(min_length=128, max_length=128)]


class _ClientPost(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    pub_key: _KeyText
    address: Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS_LENGTH)]


class HeartbeatPost(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    role: str
    identity_key: _KeyText
    pub_key: _KeyText
    key_epoch: Annotated[int, msgspec.Meta(ge=0, lt=2**32 - 1)]
    next_pub_key: _KeyText | None = None
    host: _Endpoint | None = None
    mixnet_listener: _Endpoint | None = None
    client_listener: _Endpoint | None = None
    layer: int = 0
    takes: Annotated[list[Mode], msgspec.Meta(max_length=3)] = []
    registered_clients: Annotated[list[_ClientPost], msgspec.Meta(max_length=MAX_PUBLIC_CLIENTS)] = []
    clients_page: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PAGES)] = 0
    clients_pages: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGES)] = 1
    number: _Count = 0
    services: Services = {}
    description: Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION)] = ""
    country: Annotated[str, msgspec.Meta(pattern="^([A-Z]{2})?$")] = ""
    family: Family | None = None
    timestamp: _Time
    version: Annotated[str, msgspec.Meta(max_length=64)]
    signature: _SignatureText


class ValidatorPost(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A validator: shown to people, but not part of the mixnet."""

    identity_key: _KeyText
    pub_key: Annotated[str, msgspec.Meta(min_length=1, max_length=262)]
    host: _Endpoint
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    timestamp: _Time
    version: Annotated[str, msgspec.Meta(max_length=64)] = ""
    # Of its ledger, where it has one: height, and time of the last block in nanoseconds since 1970.
    height: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    block_time: _Time | None = None
    signature: _SignatureText


class MetricPost(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    identity_key: _KeyText
    pub_key: _KeyText
    sent: _Count | Annotated[dict[str, _Count], msgspec.Meta(max_length=10_000)]
    received: _Count
    loops_sent: _Count = 0
    loops_returned: _Count = 0
    timestamp: _Time
    signature: _SignatureText


_Post = TypeVar("_Post", HeartbeatPost, MetricPost, ValidatorPost)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A node's presence. `clients`: its public clients. `number`: the number of all registered clients.

    A long list of clients is split into pages, one in each heartbeat: `clients` has page number `page` of `pages`.

    If `record.host` is empty, the directory fills in the address that the post came from. A mixnode in layer 0 asks the
    directory for a layer. A node of the role "any" gets its role from the directory, among those in `record.takes`.
    """

    record: NodeRecord
    clients: tuple[PublicClient, ...]
    number: int
    timestamp: int
    version: str
    description: str = ""
    country: str = ""  # ISO 3166-1, two capital letters
    page: int = 0
    pages: int = 1


@dataclass(frozen=True, slots=True)
class Metric:
    """The packets that a mixnode has sent and received since its last metric. `public_key` is in text form.

    `loops_sent` of them were its own loops; `loops_returned` of those have returned.
    """

    identity: bytes
    public_key: str
    sent: int
    received: int
    timestamp: int
    loops_sent: int = 0
    loops_returned: int = 0


def make_heartbeat(heartbeat: Heartbeat, signing_key: SigningKey) -> dict[str, Any]:
    """The JSON-able post of a node, signed by the key of `heartbeat.record.identity`.

    `record` has the Sphinx keys of the current and the next key epoch. Only a mixnode announces a layer; only another
    node announces clients and services.
    """
    record, epoch = heartbeat.record, min(heartbeat.record.sphinx_keys)
    post: dict[str, Any] = {
        "role": record.role,
        "identityKey": key_text(record.identity),
        "pubKey": key_text(record.sphinx_keys[epoch]),
        "keyEpoch": epoch,
        "mixnetListener" if record.role == GATEWAY else "host": endpoint_text(record.host, record.port),
        "timestamp": heartbeat.timestamp,
        "version": heartbeat.version,
    }
    if epoch + 1 in record.sphinx_keys:
        post["nextPubKey"] = key_text(record.sphinx_keys[epoch + 1])
    texts = {
        "description": heartbeat.description,
        "country": heartbeat.country,
        "family": record.family or "",
    }
    post.update({name: text for name, text in texts.items() if text})
    if record.role == ANY:
        post["takes"] = list(record.takes or ())
    post.update({"layer": record.layer} if record.role == MIXNODE else _edge_fields(heartbeat))
    return sign_post(post, _HEARTBEAT_PREFIX, signing_key)


def _edge_fields(heartbeat: Heartbeat) -> dict[str, Any]:
    """The fields of a node that may have clients."""
    record = heartbeat.record
    fields: dict[str, Any] = {
        "registeredClients": [
            {"pubKey": key_text(split_address(client.address)[1]), "address": client.address}
            for client in heartbeat.clients
        ]
    }
    if heartbeat.pages > 1:
        fields["clientsPage"], fields["clientsPages"] = heartbeat.page, heartbeat.pages
    fields["number"] = heartbeat.number
    if record.services:
        fields["services"] = dict(record.services)
    if record.client_port:
        fields["clientListener"] = endpoint_text(record.host, record.client_port)
    return fields


def read_heartbeat(body: object, now: float) -> Heartbeat:
    """The heartbeat in a JSON value; `now` is in wall-clock seconds. Raises `EncodingError` with the reason."""
    post = _open_post(body, HeartbeatPost, _HEARTBEAT_PREFIX, now)
    _check_texts(description=post.description, version=post.version)
    if post.role not in (MIXNODE, *EDGE_ROLES, ANY):
        raise EncodingError(f"role: {post.role!r:.40} is none of {MIXNODE}, {', '.join(EDGE_ROLES)}, {ANY}")
    if (post.role == ANY) != bool(post.takes) or len(set(post.takes)) != len(post.takes):
        raise EncodingError(f"takes: the possible roles, each once; required for the role {ANY}, forbidden for others")
    if post.layer not in (0, *(LAYERS if post.role == MIXNODE else ())):
        raise EncodingError(f"layer: a {post.role} cannot be in layer {post.layer}")
    name, listener, other = ("host", post.host, post.mixnet_listener)
    if post.role == GATEWAY:
        name, listener, other = ("mixnetListener", post.mixnet_listener, post.host)
    if listener is None or other is not None:
        raise EncodingError(f"{name}: a {post.role} must have its address for nodes here, and only here")
    host, port = parse_endpoint(listener)
    client_port = 0
    if post.client_listener is not None:
        client_host, client_port = parse_endpoint(post.client_listener)
        if client_host != host:
            raise EncodingError(f"clientListener: its host differs from that of {name}")
    if post.clients_page >= post.clients_pages:
        raise EncodingError("clientsPage: it must be lower than clientsPages")
    if post.clients_pages > 1 and len(post.registered_clients) > CLIENTS_PER_PAGE:
        raise EncodingError(f"registeredClients: a page has at most {CLIENTS_PER_PAGE}")
    if post.role == MIXNODE and (client_port or post.registered_clients or post.number or post.services):
        raise EncodingError("a mixnode has no clients")
    identity = parse_key_text(post.identity_key)
    keys = {post.key_epoch: parse_key_text(post.pub_key)}
    if post.next_pub_key is not None:
        keys[post.key_epoch + 1] = parse_key_text(post.next_pub_key)
    for address in post.services.values():
        _check_service(address, identity)
    record = NodeRecord(
        role=post.role,
        identity=identity,
        host=host,
        port=port,
        layer=post.layer,
        client_port=client_port,
        sphinx_keys=keys,
        services=post.services or msgspec.UNSET,
        clients=step(post.number) if client_port else msgspec.UNSET,
        takes=tuple(post.takes) or msgspec.UNSET,
        family=post.family or msgspec.UNSET,
    )
    clients = tuple(_read_client(client, identity) for client in post.registered_clients)
    return Heartbeat(
        record,
        clients,
        post.number,
        post.timestamp,
        post.version,
        post.description,
        post.country,
        post.clients_page,
        post.clients_pages,
    )


def make_validator(
    *,
    public_key: str,
    host: str,
    port: int,
    kind: str,
    timestamp: int,
    signing_key: SigningKey,
    version: str = "",
    block: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The JSON-able post of a validator; `public_key` and `kind` are texts of its own choosing.

    `block`: height of its ledger, and time of the last block there (nanoseconds since 1970).
    """
    post = {
        "identityKey": key_text(bytes(signing_key.verify_key)),
        "pubKey": public_key,
        "host": endpoint_text(host, port),
        "type": kind,
        "timestamp": timestamp,
        "version": version,
    }
    if block is not None:
        post["height"], post["blockTime"] = block
    return sign_post(post, _HEARTBEAT_PREFIX, signing_key)


def read_validator(body: object, now: float) -> ValidatorPost:
    """The validator's post in a JSON value; `now` is in wall-clock seconds. Raises `EncodingError`."""
    post = _open_post(body, ValidatorPost, _HEARTBEAT_PREFIX, now)
    parse_endpoint(post.host)
    _check_texts(pubKey=post.pub_key, type=post.type, version=post.version)
    return post


def make_metric(
    *,
    public_key: bytes,
    sent: int,
    received: int,
    timestamp: int,
    signing_key: SigningKey,
    loops: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The JSON-able metric of a mixnode: packets since the last one. `public_key` is its current Sphinx key.

    `loops`: its own loops sent and returned since then; None if it sends none.
    """
    post: dict[str, Any] = {
        "identityKey": key_text(bytes(signing_key.verify_key)),
        "pubKey": key_text(public_key),
        "sent": sent,
        "received": received,
        "timestamp": timestamp,
    }
    if loops is not None:
        post["loopsSent"], post["loopsReturned"] = loops
    return sign_post(post, _METRIC_PREFIX, signing_key)


def read_metric(body: object, now: float) -> Metric:
    """The metric in a JSON value; `now` is in wall-clock seconds. Raises `EncodingError` with the reason.

    `sent` may be an object with counts by peer, the old format: the counts are added up, and the peers ignored.
    """
    post = _open_post(body, MetricPost, _METRIC_PREFIX, now)
    sent = sum(post.sent.values()) if isinstance(post.sent, dict) else post.sent
    parse_key_text(post.pub_key)
    identity = parse_key_text(post.identity_key)
    return Metric(identity, post.pub_key, sent, post.received, post.timestamp, post.loops_sent, post.loops_returned)


def sign_post(post: Mapping[str, Any], prefix: bytes, signing_key: SigningKey) -> dict[str, Any]:
    """`post` with its `signature`: 64 bytes in hexadecimal, over `prefix` and the canonical CBOR of `post`."""
    return {**post, "signature": signing_key.sign(prefix + to_cbor(post)).signature.hex()}


def endpoint_text(host: str, port: int) -> str:
    """ "host:port"; an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str) -> tuple[str, int]:
    """Parse the result of `endpoint_text`. The host may be empty. Raises `EncodingError`."""
    host, colon, digits = text.rpartition(":")
    if not colon or not re.fullmatch("[1-9][0-9]{0,4}", digits) or int(digits) > 65535:
        raise EncodingError(f"{text!r:.80} is not host:port")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if bracketed or (host and not _HOST_NAME.match(host)):
            raise EncodingError(f"{text!r:.80} does not name a host") from None
        return host, int(digits)
    if bracketed != (address.version == 6) or "%" in host:
        raise EncodingError(f"{text!r:.80} does not name a host")
    return host, int(digits)


def _open_post(body: object, kind: type[_Post], prefix: bytes, now: float) -> _Post:
    """The fields of a post, after a check of signature and time."""
    try:
        post = msgspec.convert(body, kind, strict=True)
    except msgspec.ValidationError as error:
        raise EncodingError(str(error)) from None
    if not isinstance(body, dict):
        raise EncodingError("a post is a JSON object")
    rest = {name: value for name, value in body.items() if name != "signature"}
    try:
        VerifyKey(parse_key_text(post.identity_key)).verify(prefix + to_cbor(rest), bytes.fromhex(post.signature))
    except (BadSignatureError, ValueError, UnicodeError):
        raise EncodingError("signature: it does not match identityKey and the rest of the post") from None
    skew = post.timestamp / 1e9 - now
    if abs(skew) > MAX_SKEW:
        raise EncodingError(
            f"timestamp: it is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the directory's clock; "
            f"at most {MAX_SKEW:.0f} are allowed"
        )
    return post


def _check_texts(**texts: str) -> None:
    """Raises `EncodingError` for texts with unprintable characters, because people see them, also in terminals."""
    for name, text in texts.items():
        if not text.isprintable():
            raise EncodingError(f"{name}: it has unprintable characters")


def _read_client(client: _ClientPost, provider: bytes) -> PublicClient:
    try:
        _, key, at = split_address(client.address)
    except AddressError as error:
        raise EncodingError(f"registeredClients: {error}") from None
    if at != provider:
        raise EncodingError("registeredClients: a client of another provider")
    if parse_key_text(client.pub_key) != key:
        raise EncodingError("registeredClients: pubKey is not the key of the address")
    return PublicClient(address=client.address, provider=provider)


def _check_service(address: str, provider: bytes) -> None:
    try:
        _, _, at = split_address(address)
    except AddressError as error:
        raise EncodingError(f"services: {error}") from None
    if at != provider:
        raise EncodingError("services: a service of another provider")
