"""The nodes that a directory knows when it votes, and their statements, kept while others may ask for them."""

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
        """The members now, by identity. A node with a new statement is there with the previous one, too."""
        before, self._made = self._made, {}
        self._bodies = {name: body for _, body, name in before.values()}
        seen = []
        for member in self._registry.members():
            identity = member.record.identity
            statement = Statement(record=member.announced, clients=member.clients)
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
        """The known ones of the statements with these digests."""
        return [self._bodies[name] for name in names if name in self._bodies]

    def missing(self, names: Collection[bytes]) -> list[bytes]:
        """The unknown ones of these digests."""
        return sorted(name for name in names if name not in self._bodies)

    def keep(self, body: bytes) -> bytes:
        """Keep a statement (CBOR) until two versions have begun; returns its digest."""
        name = digest(body)
        self._bodies[name] = body
        return name

    def taker(self, wanted: Collection[bytes]) -> Callable[[bytes], None]:
        """A callback for the answer of another directory; it keeps the wanted statements."""

        def take(body: bytes) -> None:
            self._bodies.update((name, each) for name, each in read_statements(body).items() if name in wanted)

        return take

    def statement(self, name: bytes) -> Statement:
        """The one with this digest, which is here. Raises `EncodingError` for one that is none."""
        return read_statement(self._bodies[name])
