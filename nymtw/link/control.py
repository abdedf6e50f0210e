"""The messages between a client and its edge: control messages, pulls and mail. Bytes in, records out."""

import hashlib
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Any, Final, cast

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError
from nymtw.link.frames import FrameError, FrameType, encode_body
from nymtw.sphinx.geometry import GEOMETRIES, SizeClass

CREDENTIAL_LIMIT: Final = 1024
CONTROL_LIMIT: Final = 2048
LOGIN_LABEL: Final = b"EXPORTER-nymtw-login"
REGISTER_LABEL: Final = b"EXPORTER-nymtw-register"
TOKEN_LENGTH: Final = 32
WRONG_LOGIN: Final = "the mailbox, the token or the signature is wrong"
MOST_SLOTS: Final = 1024

_NUMBER: Final = struct.Struct(">Q")
_SLOT: Final = struct.Struct(">QBH")
CONTENT_LENGTH: Final = GEOMETRIES[SizeClass.REGULAR].packet_length  # the largest thing stored: a reply's whole packet
SLOT_LENGTH: Final = _SLOT.size + CONTENT_LENGTH
_ZEROS: Final = bytes(CONTENT_LENGTH)

Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="register"):
    """Make a mailbox for this Ed25519 key, or a new token for it.

    `signature`: by the mailbox key over the exporter of `REGISTER_LABEL`, so that nobody else can replace a token.
    """

    mailbox_key: Key
    signature: Signature


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="login"):
    """Open the mailbox of this key. `signature`: by the mailbox key over the exporter of `LOGIN_LABEL`.

    `listing`: the client's address, if others are to find it in the topology; without it the client is not listed.
    `credential`: for the edge's `ICredentialVerifier`, if the edge asks for one.
    """

    mailbox_key: Key
    token: Key
    signature: Signature
    listing: Annotated[str, msgspec.Meta(max_length=200)] = ""
    credential: Annotated[bytes, msgspec.Meta(max_length=CREDENTIAL_LIMIT)] = b""


class Registered(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="registered"
):
    """The mailbox is durable; this is its token, of which the provider keeps a hash.

    `kept`: seconds after which it is deleted if nobody logs in; 0: never.
    """

    token: Key
    kept: Annotated[int, msgspec.Meta(ge=0)] = 0


class LoggedIn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="logged-in"
):
    """The client may submit and pull; every pull has this many slots.

    `push`: the edge sends MAIL frames of so many slots by itself, each of which the client answers with a PULL.
    `at_once`: it does so when there is mail and not at a fixed rate, and takes a PULL at any time. `kept`: seconds
    after which the mailbox is deleted, with all that is in it, if nobody logs in again; 0: never.
    """

    slots: Annotated[int, msgspec.Meta(ge=1, le=MOST_SLOTS)]
    push: bool = False
    at_once: bool = False
    kept: Annotated[int, msgspec.Meta(ge=0)] = 0


class Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="refused"):
    """The answer to what was asked is no."""

    reason: Annotated[str, msgspec.Meta(max_length=200)]


class MailKind(IntEnum):
    """The kind of an item of mail; zero is a dummy that fills a slot."""

    MESSAGE = 1  # a sealed fragment
    ACK = 2  # an ack packet's plaintext
    REPLY = 3  # a whole packet, for the holder of the SURB


class MailItem(msgspec.Struct, frozen=True, gc=False):
    """One item as a client pulls it; `number` is what it confirms."""

    number: int
    kind: int
    content: bytes


def token_hash(token: bytes) -> bytes:
    """The stored form of an access token (32 bytes): its BLAKE2b-256."""
    return hashlib.blake2b(token, digest_size=32, person=b"nymtw token").digest()


def is_signed(mailbox_key: bytes, exporter: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is the Ed25519 signature by `mailbox_key` (32) of a TLS exporter (32)."""
    try:
        VerifyKey(mailbox_key).verify(exporter, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def encode_control(message: Register | Login | Registered | LoggedIn | Refused) -> bytes:
    """A CONTROL frame."""
    return encode_body(FrameType.CONTROL, to_cbor(message))


def parse_request(body: bytes) -> Register | Login:
    """A client's message in a CONTROL frame. Raises `FrameError`."""
    return cast(Register | Login, _parse(body, Register | Login))


def parse_answer(body: bytes) -> Registered | LoggedIn | Refused:
    """A provider's message in a CONTROL frame. Raises `FrameError`."""
    return cast(Registered | LoggedIn | Refused, _parse(body, Registered | LoggedIn | Refused))


def _parse(body: bytes, kind: Any) -> Any:
    try:
        return from_cbor(body, kind, CONTROL_LIMIT)
    except EncodingError as error:
        raise FrameError(str(error)) from None


def encode_pull(confirm: Sequence[int], slots: int) -> bytes:
    """A PULL frame: `slots` numbers, those to confirm and zeros. Raises ValueError for more than `slots`."""
    if len(confirm) > slots:
        raise ValueError(f"a pull confirms at most {slots} items")
    body = b"".join(_NUMBER.pack(number) for number in confirm)
    return encode_body(FrameType.PULL, body.ljust(pull_length(slots), b"\0"))


def parse_pull(body: bytes, slots: int) -> list[int]:
    """The numbers that a PULL confirms. Raises `FrameError`."""
    if len(body) != pull_length(slots):
        raise FrameError("a pull of the wrong length")
    return [number for (number,) in _NUMBER.iter_unpack(body) if number]


def pull_length(slots: int) -> int:
    """The length of a PULL body."""
    return slots * _NUMBER.size


def mail_length(slots: int) -> int:
    """The length of a MAIL body: always the same, whatever the slots hold."""
    return slots * SLOT_LENGTH


def encode_mail(items: Sequence[Any], slots: int) -> bytes:
    """A MAIL frame of `items` (number, kind, content) and dummies. Raises ValueError for what does not fit."""
    if len(items) > slots:
        raise ValueError(f"{len(items)} items for {slots} slots")
    parts: list[bytes] = []
    for item in items:
        if len(item.content) > CONTENT_LENGTH:
            raise ValueError(f"an item of {len(item.content)} bytes")
        parts += (_SLOT.pack(item.number, item.kind, len(item.content)), item.content.ljust(CONTENT_LENGTH, b"\0"))
    parts.append(bytes((slots - len(items)) * SLOT_LENGTH))
    return encode_body(FrameType.MAIL, b"".join(parts))


def parse_mail(body: bytes, slots: int) -> list[MailItem]:
    """The items of a MAIL body, dummies left out. Raises `FrameError`."""
    if len(body) != mail_length(slots):
        raise FrameError("mail of the wrong length")
    items = []
    for start in range(0, len(body), SLOT_LENGTH):
        number, kind, length = _SLOT.unpack_from(body, start)
        content = body[start + _SLOT.size : start + SLOT_LENGTH]
        if length > CONTENT_LENGTH or content[length:] != _ZEROS[length:] or bool(kind) != bool(number):
            raise FrameError("an invalid slot of mail")
        if kind:
            items.append(MailItem(number, kind, content[:length]))
        elif length:
            raise FrameError("a dummy with content")
    return items
