"""The requests of applications, as small records, parsed from two forms. Pure.

The object form is `{"send": {...}}`. The `type` form, `{"type": "send", ...}`, is that of today's Nym clients, whose
messages are text.
"""

from dataclasses import dataclass
from typing import Any

import base58

from nymtw.client.sockets.wire import message_bytes
from nymtw.encoding import key_text, parse_key_text
from nymtw.errors import AddressError, EncodingError
from nymtw.topology.address import Address

MOST_SURBS = 255
TAG_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message`. With `surbs` > 0 the recipient can reply without learning the sender."""

    message: bytes
    recipient: Address
    surbs: int = 0
    explain: bool = False
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """Send `message` to the sender with this tag."""

    message: bytes
    tag: bytes
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch the messages that have arrived and that no application has taken."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Get the public clients."""


@dataclass(frozen=True, slots=True)
class Details:
    """Get the identity of this client."""


@dataclass(frozen=True, slots=True)
class SelfAddress:
    """Get this client's address."""


@dataclass(frozen=True, slots=True)
class Status:
    """Get the status of this client."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Get messages as they arrive. With `confirm` each is kept until the application confirms its id."""

    confirm: bool = False
    progress: bool = False


@dataclass(frozen=True, slots=True)
class Confirm:
    """Confirm that the application has these messages."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Get the progress of a message."""

    message_id: bytes
    explain: bool = False


Request = Send | Reply | Fetch | Clients | Details | SelfAddress | Status | Subscribe | Confirm | Progress


def tag_text(tag: bytes) -> str:
    """The text form of a sender tag."""
    return base58.b58encode(tag).decode("ascii")


def parse_tag(text: object) -> bytes:
    """Parse the text form of a sender tag. Raises `EncodingError`."""
    try:
        tag = base58.b58decode(text if isinstance(text, str) else b"?")
    except ValueError:
        tag = b""
    if len(tag) != TAG_LENGTH:
        raise EncodingError("senderTag: this is not a sender tag")
    return tag


def id_text(message_id: bytes) -> str:
    return message_id.hex()


def _parse_id(text: object) -> bytes:
    try:
        return bytes.fromhex(text if isinstance(text, str) else "?")
    except ValueError:
        raise EncodingError("id: this is not the id of a message") from None


def recipient_object(address: Address, text: str, host: str, port: int, provider_key: bytes) -> dict[str, Any]:
    """A client in the format of the first Nym client, with its address."""
    return {
        "id": key_text(address.mailbox),
        "pubKey": key_text(address.encryption_key),
        "provider": {
            "id": key_text(address.provider),
            "host": host,
            "port": str(port),
            "pubKey": key_text(provider_key),
        },
        "address": text,
    }


def parse_recipient(value: object, network: bytes) -> Address:
    """Parse a recipient: an address, or the first Nym client's object. Raises `AddressError`."""
    if isinstance(value, str):
        return Address.parse(value.strip(), network)
    if isinstance(value, dict) and isinstance(value.get("provider"), dict):
        try:
            return Address(
                mailbox=parse_key_text(value["id"]),
                encryption_key=parse_key_text(value["pubKey"]),
                provider=parse_key_text(value["provider"]["id"]),
            )
        except (KeyError, AttributeError, EncodingError):
            pass
    raise AddressError("recipient: an address is expected, or an object with id, pubKey and provider")


class _Fields:
    """The fields of one request, each read once. Remaining fields are an error."""

    def __init__(self, name: str, value: object) -> None:
        if not isinstance(value, dict):
            raise EncodingError(f"{name}: an object is expected")
        self.name, self.fields = name, dict(value)

    def take(self, field: str) -> Any:
        if field not in self.fields:
            raise EncodingError(f"{self.name}: {field} is missing")
        return self.fields.pop(field)

    def integer(self, field: str, default: int, most: int) -> int:
        value = self.fields.pop(field, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise EncodingError(f"{self.name}: {field} is a number from 0 to {most}")
        return value

    def flag(self, field: str) -> bool:
        value = self.fields.pop(field, False)
        if not isinstance(value, bool):
            raise EncodingError(f"{self.name}: {field} is true or false")
        return value

    def text_message(self) -> bytes:
        value = self.take("message")
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise EncodingError(f"{self.name}: message is text")
        return value.encode("utf-8", "surrogatepass")

    def done(self, request: Request) -> Request:
        if self.fields:
            unknown = next(iter(self.fields))
            raise EncodingError(f"{self.name}: unknown field {unknown!r:.40}")
        return request


def parse_request(value: object, network: bytes) -> tuple[Request, bool]:
    """Parse a request. Also returns whether it had the `type` form. Raises `EncodingError` or `AddressError`."""
    if not isinstance(value, dict):
        raise EncodingError("a request is an object")
    if "type" in value:
        fields = _Fields("request", value)
        return _parse_typed(str(fields.take("type"))[:40], fields, network), True
    if len(value) != 1:
        raise EncodingError("a request is an object with one key: the name of the request")
    [(name, body)] = value.items()
    return _parse_named(name, _Fields(str(name)[:40], body), network), False


def _parse_named(name: object, fields: _Fields, network: bytes) -> Request:
    match name:
        case "send":
            message, recipient = (
                message_bytes(fields.take("message")),
                parse_recipient(fields.take("recipient"), network),
            )
            surbs = fields.integer("replySurbs", 0, MOST_SURBS)
            return fields.done(Send(message, recipient, surbs, fields.flag("explain")))
        case "reply":
            return fields.done(Reply(message_bytes(fields.take("message")), parse_tag(fields.take("senderTag"))))
        case "fetch":
            return fields.done(Fetch())
        case "clients":
            return fields.done(Clients())
        case "details":
            return fields.done(Details())
        case "status":
            return fields.done(Status())
        case "subscribe":
            return fields.done(Subscribe(fields.flag("confirm"), fields.flag("progress")))
        case "confirm":
            ids = fields.take("ids")
            if not isinstance(ids, list):
                raise EncodingError("confirm: ids is a list")
            return fields.done(Confirm(tuple(_parse_id(text) for text in ids)))
        case "progress":
            return fields.done(Progress(_parse_id(fields.take("id")), fields.flag("explain")))
    raise EncodingError(f"there is no request {name!r:.40}")


def _parse_typed(name: str, fields: _Fields, network: bytes) -> Request:
    if fields.fields.get("connectionId", 0) is None:
        del fields.fields["connectionId"]
    lane = fields.integer("connectionId", 0, 2**64 - 1)
    match name:
        case "send":
            message, recipient = fields.text_message(), parse_recipient(fields.take("recipient"), network)
            return fields.done(Send(message, recipient, lane=lane))
        case "sendAnonymous":
            message, recipient = fields.text_message(), parse_recipient(fields.take("recipient"), network)
            return fields.done(Send(message, recipient, fields.integer("replySurbs", 1, MOST_SURBS), lane=lane))
        case "reply":
            return fields.done(Reply(fields.text_message(), parse_tag(fields.take("senderTag")), lane))
        case "selfAddress":
            return fields.done(SelfAddress())
    raise EncodingError(f"there is no request of type {name!r:.40}")
