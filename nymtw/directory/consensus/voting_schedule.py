"""When the next version begins, for directories whose clocks differ. Pure: times are arguments.

Each directory claims, signed, the newest slot that has come by its own clock. A version begins at the slot that one
directory more has claimed than may lie, so that an honest clock has reached it; and as every claim is passed on, it
begins for all within the time of one message (Srikanth and Toueg, "Optimal clock synchronization", 1987).
"""

from typing import Final

from nacl.signing import SigningKey

from nymtw.directory.consensus.votes import Claim, Roster, sign, signed_by, slot_bytes
from nymtw.errors import EncodingError

# In refreshes: how soon the next slot may be claimed, and after how long a version that did not come is not waited for.
SOONEST: Final = 0.75
LATEST: Final = 2.0


class VotingSchedule:
    """The claims of all. A slot's serial is the nanosecond since 1970 at which it is due, a multiple of `refresh`."""

    def __init__(self, roster: Roster, signing_key: SigningKey, refresh: float) -> None:
        """`refresh` in seconds."""
        self._roster = roster
        self._key = signing_key
        self._refresh = refresh
        self._step = round(refresh * 1e9)
        self._begun = 0
        self._begun_at: float | None = None
        self._since: float | None = None
        self.claims: dict[bytes, Claim] = {}

    def claim(self, wall: float, now: float) -> bool:
        """Claim the slot that has come; whether it is a new one. `wall`: seconds since 1970, `now`: never stepped."""
        serial = int(wall * 1e9) // self._step * self._step
        waited = LATEST * self._refresh if self._begun_at is None else now - self._begun_at
        if waited < SOONEST * self._refresh:
            return False
        if waited < LATEST * self._refresh:
            # Whose clock is ahead does not run away from the others: no version is cut short by the next.
            serial = min(serial, self._begun + self._step)
        own = self._roster.own
        if serial <= 0 or (own in self.claims and serial <= self.claims[own].serial):
            return False
        self.claims[own] = Claim(serial, sign(self._key, slot_bytes(self._roster.trust.network, serial)))
        return True

    def hear(self, directory: bytes, claim: Claim) -> bool:
        """Take a claim of another directory; whether it is new. Raises `EncodingError` if its signature is wrong."""
        known = self.claims.get(self._roster.signer(directory))
        if directory == self._roster.own or (known is not None and claim.serial <= known.serial):
            return False
        if not signed_by(directory, claim.signature, slot_bytes(self._roster.trust.network, claim.serial)):
            raise EncodingError("the signature of a slot is wrong")
        self.claims[directory] = claim
        return True

    def due(self) -> int | None:
        """The serial of the version that is to begin now, if one is."""
        ordered = sorted((claim.serial for claim in self.claims.values()), reverse=True)
        if len(ordered) <= self._roster.faulty or ordered[self._roster.faulty] <= self._begun:
            return None
        return ordered[self._roster.faulty]

    def is_late(self, now: float) -> bool:
        """Whether no version has begun for long."""
        if self._since is None:
            self._since = now
        return now - self._since > (LATEST + 1) * self._refresh

    def begin(self, serial: int, now: float) -> None:
        """It has begun."""
        self._begun, self._begun_at = serial, now
        self._since = now
