"""Protocol Buffers (proto3 wire format) for messages that are declared as dataclasses.

    @dataclass(frozen=True)
    class Echo:
        message: str = text(1)

Fields that have their default are left out, as proto3 does; unknown ones are passed over.
"""

from collections.abc import Callable
from dataclasses import MISSING, field, fields
from typing import Any, Final, NamedTuple, TypeVar

from nymtw.errors import EncodingError

T = TypeVar("T")

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX: Final = 2**64 - 1
_SHORT: Final = tuple(bytes((number,)) for number in range(128))
_LAYOUTS: "dict[type[Any], tuple[_Field, ...]]" = {}
_BY_TAG: "dict[type[Any], dict[int, _Field]]" = {}


class _Kind(NamedTuple):
    wire: int
    encode: Callable[[Any], bytes]
    decode: Callable[[Any], Any]


class _Field(NamedTuple):
    name: str
    number: int
    tag: bytes
    kind: _Kind
    repeated: bool
    always: bool
    default: Any


def text(number: int) -> Any:
    """A `string`."""
    return _declare(number, _TEXT, "")


def data(number: int) -> Any:
    """`bytes`."""
    return _declare(number, _BYTES, b"")


def integer(number: int, always: bool = False) -> Any:
    """An `int64`, `int32`, `uint64`, `uint32` or `enum`; `always`: written even if it is 0."""
    return _declare(number, _INTEGER, 0, always=always)


def fixed(number: int) -> Any:
    """An `sfixed64`."""
    return _declare(number, _SFIXED, 0)


def flag(number: int) -> Any:
    """A `bool`."""
    return _declare(number, _BOOL, False)


def message(number: int, kind: type[Any], always: bool = False) -> Any:
    """A message, or None; `always`: written even if it is empty, like gogoproto's non-nullable ones."""
    return _declare(number, _message_kind(kind), kind() if always else None, always=always)


def many(number: int, kind: type[Any]) -> Any:
    """`repeated` messages: a tuple."""
    return _declare(number, _message_kind(kind), (), repeated=True)


def many_data(number: int) -> Any:
    """`repeated bytes`: a tuple."""
    return _declare(number, _BYTES, (), repeated=True)


def encode(record: Any) -> bytes:
    """The message as bytes, fields by their numbers."""
    parts: list[bytes] = []
    for name, _, tag, kind, repeated, always, default in _layout(type(record)):
        value = getattr(record, name)
        if repeated:
            encode_item = kind.encode
            parts += [tag + encode_item(item) for item in value]
        elif value != default or always:
            parts.append(tag + kind.encode(value))
    return b"".join(parts)


def decode(content: bytes, kind: type[T]) -> T:
    """The message in `content`, which may come from anybody. Raises `EncodingError`."""
    _layout(kind)
    by_tag = _BY_TAG[kind]
    values: dict[str, Any] = {}
    place, end = 0, len(content)
    while place < end:
        tag, place = read_varint(content, place)
        wire = tag & 7
        raw: Any
        if wire == _VARINT:
            raw, place = read_varint(content, place)
        elif wire in (_LENGTH, _FIXED64, _FIXED32):
            if wire == _LENGTH:
                size, place = read_varint(content, place)
            else:
                size = 8 if wire == _FIXED64 else 4
            raw = content[place : place + size]
            place += size
            if place > end:
                raise EncodingError("a field ends behind its message")
        else:
            raise EncodingError(f"there is no wire type {wire} here")
        each = by_tag.get(tag)
        if each is None:
            continue
        if each.repeated:
            values.setdefault(each.name, []).append(each.kind.decode(raw))
        else:
            values[each.name] = each.kind.decode(raw)
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return kind(**values)


def varint(number: int) -> bytes:
    """A base-128 varint; a negative number as its 64-bit two's complement."""
    if 0 <= number < 128:
        return _SHORT[number]
    number &= _MAX
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def read_varint(content: bytes | bytearray, place: int) -> tuple[int, int]:
    """The varint at `place`, and the place behind it. Raises `CutOff`, `EncodingError`."""
    if place < len(content) and (byte := content[place]) < 128:
        return byte, place + 1  # most of them
    number = shift = 0
    while True:
        if place >= len(content):
            raise CutOff("a number is cut off")
        byte = content[place]
        number |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return number & _MAX, place
        shift += 7
        if shift > 63:
            raise EncodingError("a number is longer than 64 bits")


class CutOff(EncodingError):
    """The bytes end too early."""


def delimited(content: bytes) -> bytes:
    """A message behind its length."""
    return varint(len(content)) + content


def field_named(kind: type[Any], name: str) -> tuple[bytes, Callable[[Any], bytes]]:
    """The tag of a field, and what encodes its value."""
    [found] = [each for each in _layout(kind) if each.name == name]
    return found.tag, found.kind.encode


def _declare(number: int, kind: _Kind, default: Any, repeated: bool = False, always: bool = False) -> Any:
    return field(default=default, metadata={"field": (number, kind, repeated, always)})


def _layout(kind: type[Any]) -> tuple[_Field, ...]:
    known = _LAYOUTS.get(kind)
    if known is not None:
        return known
    found = []
    for each in fields(kind):
        number, of, repeated, always = each.metadata["field"]
        assert each.default is not MISSING
        tag = varint(number << 3 | of.wire)
        found.append(_Field(each.name, number, tag, of, repeated, always, each.default))
    _BY_TAG[kind] = {each.number << 3 | each.kind.wire: each for each in found}
    layout = _LAYOUTS[kind] = tuple(sorted(found, key=lambda one: one.number))
    return layout


def _message_kind(kind: type[Any]) -> _Kind:
    return _Kind(_LENGTH, lambda record: delimited(encode(record)), lambda raw: decode(raw, kind))


def _decode_text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise EncodingError("a text is not UTF-8") from None


def _signed(raw: int) -> int:
    return raw - 2**64 if raw >= 2**63 else raw


_TEXT: Final = _Kind(_LENGTH, lambda value: delimited(value.encode()), _decode_text)
_BYTES: Final = _Kind(_LENGTH, delimited, bytes)
_INTEGER: Final = _Kind(_VARINT, varint, _signed)
_BOOL: Final = _Kind(_VARINT, lambda value: varint(int(value)), bool)
_SFIXED: Final = _Kind(
    _FIXED64,
    lambda value: value.to_bytes(8, "little", signed=True),
    lambda raw: int.from_bytes(raw, "little", signed=True),
)
