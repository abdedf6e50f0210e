"""Which nodes may announce themselves: all, those on a list, or all but those. The list is a file, reread on change."""

import hashlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from twisted.logger import Logger

from nymtw.encoding import parse_key_text
from nymtw.errors import ConfigError, EncodingError
from nymtw.node.config import load_config, read_config
from nymtw.node.process.log_once import LogOnce

HEADING = "Nodes that may announce themselves to this directory. A change holds a second after it is written."


class Policy(StrEnum):
    """Whom the list means."""

    OPEN = "open"
    ALLOW = "allow-list"
    DENY = "deny-list"


class AdmissionSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [admission]."""

    policy: Annotated[
        Policy,
        Meta(
            description="open: everybody. allow-list: those whose identity keys are listed. deny-list: everybody else."
        ),
    ] = Policy.OPEN
    identities: Annotated[
        list[str], Meta(max_length=100_000, description="Identity keys, 44 characters of URL-safe base64 each.")
    ] = []


class AdmissionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    admission: AdmissionSection = AdmissionSection()


class Admission:
    """The policy in the file at `path`, which is written if it is not there. Raises `ConfigError`."""

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log_once = LogOnce()
        self._use(load_config(path, AdmissionConfig, {}, HEADING))
        self._stamp = self._stat()

    def admits(self, identity: bytes) -> bool:
        """Whether the node with this identity (32 bytes) may be here."""
        if self._policy is Policy.OPEN:
            return True
        return (identity in self._identities) == (self._policy is Policy.ALLOW)

    @property
    def is_open(self) -> bool:
        """Whether everybody may announce nodes."""
        return self._policy is Policy.OPEN

    def vouches(self, identity: bytes) -> bool:
        """Whether the operator has put this node on an allow-list."""
        return self._policy is Policy.ALLOW and identity in self._identities

    def fingerprint(self) -> bytes:
        """A digest (32 bytes) of policy and list."""
        listed = () if self._policy is Policy.OPEN else sorted(self._identities)
        return hashlib.blake2b(f"{self._policy}".encode() + b"".join(listed), digest_size=32).digest()

    def reread(self, changed: Callable[[], None]) -> None:
        """Look whether the file is another one; call `changed` if it is. One that cannot be used changes nothing."""
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._use(read_config(self._path, AdmissionConfig))
        except ConfigError as error:
            if self._log_once.is_new(str(error)):
                self._log.error("{error}: the policy stays as it was", error=error)
            return
        self._log_once.is_over()
        self._log.info("Admission is now: {policy}, {count} listed", policy=self._policy, count=len(self._identities))
        changed()

    def _use(self, config: AdmissionConfig) -> None:
        try:
            identities = frozenset(map(parse_key_text, config.admission.identities))
        except EncodingError as error:
            raise ConfigError(f"{self._path}: identities: {error}") from None
        self._policy, self._identities = config.admission.policy, identities

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
