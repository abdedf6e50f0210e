"""Whom a directory knows when it votes, and what those have said, kept while the others may ask for it."""

from collections.abc import Callable, Collection, Sequence

from nymtw.directory.consensus.votes import Seen, Statement, digest, read_statement, read_statements
from nymtw.directory.registry import Registry
from nymtw.encoding import to_cbor


class LocalView:
    """The nodes of `registry`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[bytes, tuple[Statement, bytes, bytes]] = {}  # identity -> statement, its CBOR, its digest
        self._bodies: dict[bytes, bytes] = {}  # by digest: those of this version and of the one before

    def look(self) -> tuple[Seen, ...]:
        """The members now, by identity. Where a node says something new, what it said before is listed, too."""
        before, self._made = self._made, {}
        self._bodies = {name: body for _, body, name in before.values()}
        seen = []
        for member in self._registry.members():
            identity = member.record.identity
            statement = Statement(record=member.said, clients=member.clients)
            known = before.get(identity)
            if known is None or known[0] != statement:
                body = to_cbor(statement)
                self._made[identity] = (statement, body, digest(body))
            else:
                self._made[identity] = known
            _, body, name = self._made[identity]
            self._bodies[name] = body
            seen.append(Seen(identity, (name,) if known is None or known[2] == name else (name, known[2])))
        return tuple(seen)

    def statements(self, names: Sequence[bytes]) -> list[bytes]:
        """Those that are here, of the statements with these digests."""
        return [self._bodies[name] for name in names if name in self._bodies]

    def missing(self, names: Collection[bytes]) -> list[bytes]:
        """Those that are not."""
        return sorted(name for name in names if name not in self._bodies)

    def taker(self, wanted: Collection[bytes]) -> Callable[[bytes], None]:
        """What takes the answer of another directory, and keeps of it what is wanted."""

        def take(body: bytes) -> None:
            self._bodies.update((name, each) for name, each in read_statements(body).items() if name in wanted)

        return take

    def statement(self, name: bytes) -> Statement:
        """The one with this digest, which is here. Raises `EncodingError` for one that is none."""
        return read_statement(self._bodies[name])
