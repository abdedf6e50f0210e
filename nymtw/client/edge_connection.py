"""The client's one link: to its provider or gateway. Registered once, logged in each time, made again if it breaks."""

import random as random_module
from collections.abc import Callable
from typing import Any

from nacl.signing import SigningKey

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.client.store import ClientStore
from nymtw.errors import NymtwError, RegistrationRefused, TopologyError
from nymtw.link.client_link import ProviderConnection, connect_to_provider
from nymtw.link.control import WRONG_LOGIN
from nymtw.topology.document import PROVIDER, NodeRecord

FIRST_RETRY = 0.5  # seconds
LONGEST_RETRY = 5.0
LASTING = 30.0  # seconds: the shortest session after which the first attempt comes as early as ever
_DAY = 86400.0
TOKEN_SETTING = "token"  # noqa: S105  # the name of a setting


class EdgeConnection(Service):
    """Calls `connected(connection)` after each login and `disconnected()` when that link is gone.

    `where` gives the record of the provider or gateway, or None while the topology does not list it, or raises a
    `TopologyError`. `role` is what it is called before that. Attempts come with jitter, and less often the more of them
    have failed or led to short sessions: two copies of a client, which end each other's, do not do so without pause.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        security: Any,
        mailbox_key: SigningKey,
        store: ClientStore,
        where: Callable[[], NodeRecord | None],
        random: random_module.Random,
        *,
        connected: Callable[[ProviderConnection], None],
        disconnected: Callable[[], None],
        listing: Callable[[], str] = lambda: "",
        role: str = PROVIDER,
    ) -> None:
        """`listing` gives the address to be listed, or "" for none."""
        self._reactor, self._security, self._mailbox_key = reactor, security, mailbox_key
        self._store, self._where, self._random = store, where, random
        self.connected, self._disconnected, self._listing = connected, disconnected, listing
        self._role = role
        self._since = 0.0  # when the session began
        self._pause = FIRST_RETRY  # after the next session, if that is short
        self._attempt: Deferred[Any] | None = None
        self._connection: ProviderConnection | None = None
        self._up = False
        self._timer: Any = None
        self._retry = FIRST_RETRY
        self._cause = ""
        self._ever = False
        self._kept = 0
        self._blind = False  # it is nowhere to be seen: a new topology is worth an attempt
        self._unlisted = False  # a login with an address to be listed has just been refused
        self._stopped: Deferred[None] | None = None

    @property
    def up(self) -> bool:
        """Whether the client is logged in."""
        return self._up

    @property
    def trouble(self) -> str:
        """Why there is no link, in a line; empty while there is one."""
        return "" if self._up else self._cause or "connecting"

    def startService(self) -> None:
        """Connect as soon as the topology lists whom to connect to."""
        super().startService()
        self._try()

    def stopService(self) -> "Deferred[None] | None":
        """Hang up. Fires when the connection is gone."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is None:
            return None
        self._stopped = Deferred()
        self._connection.abort()
        return self._stopped

    def topology_changed(self) -> None:
        """It may be listed now: do not wait for the next attempt's time."""
        if self._timer is not None and self._connection is None and self._blind:
            self._timer.cancel()
            self._try()

    def drop(self) -> None:
        """Hang up and connect again: the next session starts from the oldest item that is not confirmed."""
        if self._connection is not None:
            self._connection.abort()

    def change(self) -> None:
        """Another edge is to be connected to, where this client is not registered yet."""
        self._store.set_setting(TOKEN_SETTING, b"")
        self.drop()

    def _try(self) -> None:
        self._timer = None
        self._attempt = Deferred.fromCoroutine(self._connect())
        self._attempt.addErrback(self._failed)

    async def _connect(self) -> None:
        self._blind = True
        edge = self._where()
        if edge is None:
            raise NymtwError(f"the {self._role} is not in the topology: it is down, or the directory does not see it")
        self._blind, self._role = False, edge.role
        connection = await connect_to_provider(
            self._reactor,
            edge.host,
            edge.client_port,
            edge.identity,
            self._security,
            mailbox_key=self._mailbox_key,
            lost=self._lost,
        )
        self._connection = connection
        token = self._store.setting(TOKEN_SETTING)
        if not token:
            token = await connection.register()
            self._store.set_setting(TOKEN_SETTING, token)
            await self._store.committed()
            self.log.info("Registered with the {role}", role=self._role)
        listing = "" if self._unlisted else self._listing()
        try:
            await connection.login(token, listing)
        except RegistrationRefused as refusal:
            if str(refusal) == WRONG_LOGIN:
                # Its mailboxes were lost there, or this one has expired: the next attempt registers the same key again.
                self._store.set_setting(TOKEN_SETTING, b"")
                self.log.warn("The {role} has no mailbox for this client: mail that waited is lost", role=self._role)
            elif listing:
                # It may be the listing: the next attempt does without.
                self._unlisted = True
            raise
        self._attempt = None
        if self._unlisted:
            self._unlisted = False  # for the next session: there may be room then
            self.log.warn("The {role} does not list this client: it cannot be found by others", role=self._role)
        self._up, self._since, self._retry = True, self._reactor.seconds(), FIRST_RETRY
        self.log.info("Connected to the {role}{again}", role=self._role, again=" again" if self._ever else "")
        self._ever, self._cause = True, ""
        if connection.kept and connection.kept != self._kept:
            self._kept = connection.kept
            self.log.info(
                "The {role} deletes this mailbox, and the mail in it, after {days:g} days without a login",
                role=self._role,
                days=round(connection.kept / _DAY, 1),
            )
        self.connected(connection)

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if not self.running:
            return
        if self._connection is not None:
            self._connection.abort()
        cause = str(failure.value)
        if not failure.check(NymtwError):
            cause = f"the {self._role} cannot be reached: {_cause(failure)}"
        if cause != self._cause:
            self._cause = cause
            if not failure.check(TopologyError):  # the topology watch has logged that
                self.log.warn("Not connected, trying again: {cause}", cause=cause)
        if self._connection is None:
            self._again()

    def _lost(self) -> None:
        self._connection = None
        if self._up:
            self._up = False
            lasted = self._reactor.seconds() - self._since >= LASTING
            self._retry = self._pause = FIRST_RETRY if lasted else min(self._pause * 1.6, LONGEST_RETRY)
            if self.running:
                self._cause = f"the {self._role} closed the connection"
                self.log.warn("The link to the {role} is gone; what is to be sent is kept", role=self._role)
            self._disconnected()
        if self._stopped is not None:
            self._stopped.callback(None)
            self._stopped = None
        elif self.running and self._attempt is None:
            self._again()

    def _again(self) -> None:
        if self._timer is None:
            wait = self._retry * self._random.uniform(0.5, 1.5)
            self._retry = min(self._retry * 1.6, LONGEST_RETRY)
            self._timer = self._reactor.callLater(wait, self._try)


def _cause(failure: Failure) -> str:
    text = failure.getErrorMessage() or type(failure.value).__name__
    return " ".join(text.split())[:200]
