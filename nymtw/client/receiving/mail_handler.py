"""What a client makes of what its provider or gateway has for it, and when that may be forgotten there."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.client.receiving.circuits import Circuits
from nymtw.client.receiving.inbox import Inbox, Received
from nymtw.client.receiving.receiver import Fate, Receiver, joined
from nymtw.client.receiving.replies import Replies
from nymtw.client.sending.cover import CoverLedger
from nymtw.client.sending.hop_watch import HopWatch
from nymtw.client.sending.outbox import Outbox
from nymtw.client.store import ClientStore, StoreError
from nymtw.errors import EncodingError
from nymtw.link.control import MailItem, MailKind
from nymtw.message.cryptography import SPHINX, Cryptography
from nymtw.message.envelope import Envelope, EnvelopeKind
from nymtw.message.fragments import MESSAGE_ID_LENGTH


class MailHandler:
    """Mail is pushed, or `fetch` pulls it; it goes to outbox, cover account, replies and inbox, and is confirmed once
    it is durable.

    `replies(receiver=...)` makes that part, which needs the receiver of this one. `begin_again()` asks for a new
    session, which starts from the oldest item that is not confirmed.
    """

    log = Logger()

    def __init__(
        self,
        store: ClientStore,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        *,
        private_key: bytes,
        public_key: bytes,
        outbox: Outbox,
        cover: CoverLedger,
        hops: HopWatch,
        inbox_limit: int,
        begin_again: Callable[[], None],
        circuits: Circuits,
        replies: Callable[..., Replies],
        cryptography: Cryptography = SPHINX,
    ) -> None:
        self._store, self._wall_clock = store, wall_clock
        self._outbox, self._cover, self._hops = outbox, cover, hops
        self._inbox_limit, self._begin_again = inbox_limit, begin_again
        self._confirm: deque[int] = deque()
        self._pull_again = self._refused = False
        self._written: list[int] = []
        self._whole: list[Received] = []
        self.connection: Any = None
        self.inbox = Inbox(store, self._load, self._make_up)
        self.receiver = Receiver(
            store,
            clock,
            wall_clock,
            private_key=private_key,
            public_key=public_key,
            loop_returned=cover.loop_returned,
            complete=self._complete,
            try_again=self._try_again,
            cryptography=cryptography,
        )
        self.circuits = circuits
        self.replies = replies(receiver=self.receiver)
        store.on_failure(self._store_failed)

    def connected(self, connection: Any) -> None:
        """A session begins, with all that is not confirmed."""
        self.connection = connection
        if connection.push:
            connection.pushed = partial(self._pushed, connection)

    def disconnected(self) -> None:
        """The link is gone: the next session starts from the oldest unconfirmed item."""
        self.connection = None
        self._hops.disconnected()
        self._pull_again = False
        self._confirm.clear()
        self._written.clear()

    def fetch(self) -> None:
        """The fetching stream fired: confirm and pull."""
        connection = self.connection
        if connection is None:
            return
        if connection.pulling:
            # The answer to the last pull is still on its way: this pull follows it.
            self._pull_again = True
            return
        confirm = [self._confirm.popleft() for _ in range(min(len(self._confirm), connection.slots))]
        pulled = connection.pull(confirm)
        # Where the link breaks before the answer, the next session starts from what is not confirmed.
        pulled.addCallbacks(self._mail, lambda failure: None, callbackArgs=(connection,))
        pulled.addErrback(lambda failure: self.log.failure("Mail could not be taken", failure))

    def _pushed(self, connection: Any, items: Sequence[MailItem]) -> None:
        try:
            self._mail(items, connection)
        except Exception:
            self.log.failure("Mail could not be taken")

    def _mail(self, items: Sequence[MailItem], connection: Any) -> None:
        if connection is not self.connection:
            return
        if connection.slots > 1:
            self._cover.mail_came(len(items) >= connection.slots)
        for item in items:
            self._item(item)
        self._confirm_pushed()
        if self._written or self._whole:
            self._commit()
        if self._pull_again:
            self._pull_again = False
            self.fetch()

    def _confirm_pushed(self) -> None:
        if self._confirm and self.connection is not None and self.connection.push:
            self.connection.confirm(tuple(self._confirm))
            self._confirm.clear()

    def _item(self, item: MailItem) -> None:
        if item.kind == MailKind.ACK:
            self._hops.acknowledged(item.content)
            if not self._outbox.acknowledged(item.content):
                if ack_id := self._outbox.refused(item.content):
                    self._hops.acknowledged(ack_id)
                else:
                    self._cover.acknowledged(item.content)
            self._confirm.append(item.number)
        elif item.kind == MailKind.MESSAGE:
            full = self.inbox.size >= self._inbox_limit
            fate = self.receiver.sealed(item.content, full)
            if fate is Fate.CONFIRM:
                self._confirm.append(item.number)
            elif fate is Fate.WHEN_WRITTEN:
                self._written.append(item.number)
            elif full and not self._refused:
                self._refused = True
                self.log.warn("The inbox is full: messages wait where they are kept until an application takes some")
        elif item.kind == MailKind.REPLY and self.circuits.packet(item.content):
            self._confirm.append(item.number)
        elif item.kind == MailKind.REPLY and self.replies.packet(item.content):
            self._written.append(item.number)
        else:
            self._confirm.append(item.number)

    def _complete(self, key: bytes, body: bytes) -> None:
        """A message is whole: it goes to the inbox, with the commit that makes it durable."""
        try:
            envelope = Envelope.parse(body)
        except EncodingError:
            self.receiver.malformed += 1
            self._store.consumed(key, self._wall_clock())
            return
        if envelope.kind is EnvelopeKind.DATA:
            self._store.message_complete(key, len(body), self._wall_clock())
            self._whole.append(Received(key, envelope.data, envelope.tag))
        else:
            self._store.consumed(key, self._wall_clock())
        if len(key) == MESSAGE_ID_LENGTH:
            self.replies.take_blocks(envelope)
            if envelope.kind is EnvelopeKind.RECEIPT:
                self.replies.receipt(envelope)
        elif envelope.kind is EnvelopeKind.REQUEST:
            self.replies.requested(key[:-MESSAGE_ID_LENGTH], envelope.data)

    def _commit(self) -> None:
        numbers, self._written = self._written, []
        whole, self._whole = self._whole, []

        def written(_: None) -> None:
            if self.connection is not None:
                self._confirm.extend(numbers)
                self._confirm_pushed()
            for received in whole:
                self.inbox.add(received)

        self._store.committed().addCallbacks(written, lambda failure: failure.trap(StoreError) and None)

    def _make_up(self) -> None:
        """There is room: a new session gives again what there was none for."""
        if self._refused and self.inbox.size < self._inbox_limit // 2:
            self._refused = False
            self._begin_again()

    def _try_again(self) -> None:
        """Fragments were refused, and stayed where they are kept: a new session gives them again."""
        if not self._refused:
            self._begin_again()

    def _store_failed(self) -> None:
        """What was written is lost: begin again with what the store has, and let the provider begin again too."""
        self.receiver.load()
        self._begin_again()

    def _load(self, key: bytes) -> Received | None:
        try:
            envelope = Envelope.parse(joined(piece for _, piece in self._store.pieces(key)))
        except EncodingError:
            return None
        return Received(key, envelope.data, envelope.tag)
