"""Presence outside the signed topology: validators, and unsigned posts for trying old programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from nymtw.directory.registry import SILENCE
from nymtw.errors import DirectoryError, EncodingError

CAPACITY = 1000  # posts

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=262)]


class _Client(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    pub_key: _Text


class _Unsigned(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The fields of the first networks' posts; newer ones are optional here."""

    pub_key: _Text
    host: _Text | None = None
    layer: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    type: _Text | None = None
    client_listener: _Text | None = None
    mixnet_listener: _Text | None = None
    registered_clients: Annotated[list[_Client], msgspec.Meta(max_length=1000)] | None = None
    version: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    last_seen: int | None = None


# What each path asks for besides pubKey.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "mixnodes": ("host", "layer"),
    "mixproviders": ("host",),
    "gateways": ("clientListener", "mixnetListener"),
    "coconodes": ("host", "type"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One post, and when it came: nanoseconds since 1970, and by the clock that is never stepped."""

    post: Mapping[str, Any]
    timestamp: int
    last_seen: int
    seen: float


class UnsignedPresence:
    """The newest post of each key; it is gone 5 seconds after its last one."""

    def __init__(self, seconds: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._shown: dict[tuple[str, str], Shown] = {}  # (path, key), in the order of their last posts
        self.revision = 0

    def put(self, path: str, key: str, post: Mapping[str, Any], timestamp: int) -> None:
        """Show `post`. Raises `DirectoryError` for one that is not newer, and where there is no room."""
        self.expire()
        known = self._shown.pop((path, key), None)
        if known is not None and timestamp <= known.timestamp:
            self._shown[path, key] = known
            raise DirectoryError("this post is not newer than the last one with this key")
        if known is None and len(self._shown) >= CAPACITY:
            raise DirectoryError(f"this directory shows {CAPACITY} such posts: there is no room")
        self._shown[path, key] = Shown(post, timestamp, int(self._wall_clock() * 1e9), self._seconds())
        if known is None:
            self.revision += 1

    def posts(self, path: str) -> list[Shown]:
        """The posts to `path`, by key."""
        self.expire()
        return [self._shown[place] for place in sorted(self._shown) if place[0] == path]

    def has(self, path: str, key: str) -> bool:
        """Whether there is a post with this key."""
        self.expire()
        return (path, key) in self._shown

    def expire(self) -> None:
        """Forget who has been silent for too long."""
        before = self._seconds() - SILENCE
        for place, shown in list(self._shown.items()):
            if shown.seen >= before:
                break
            del self._shown[place]
            self.revision += 1


def read_unsigned(path: str, body: object) -> dict[str, Any]:
    """An unsigned post of the first networks. Raises `EncodingError` with the reason."""
    try:
        post = msgspec.convert(body, _Unsigned, strict=True)
    except msgspec.ValidationError as error:
        raise EncodingError(str(error)) from None
    plain = {name: value for name, value in msgspec.to_builtins(post).items() if value is not None}
    for name in _NEEDED[path]:
        if name not in plain:
            raise EncodingError(f"{name}: it is missing")
    plain.pop("lastSeen", None)
    return plain


class _UnsignedMetric(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    pub_key: _Text
    sent: _Count | Annotated[dict[str, _Count], msgspec.Meta(max_length=1000)]
    received: _Count
    timestamp: int | None = None


def read_unsigned_metric(body: object) -> tuple[str, int, int]:
    """Key, sent, received of an unsigned metric; counts by peer are summed. Raises `EncodingError`."""
    try:
        post = msgspec.convert(body, _UnsignedMetric, strict=True)
    except msgspec.ValidationError as error:
        raise EncodingError(str(error)) from None
    return post.pub_key, sum(post.sent.values()) if isinstance(post.sent, dict) else post.sent, post.received
