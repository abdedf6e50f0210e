"""What can go wrong: one root error, one leaf for each cause a caller can act on, and why a packet was dropped.

The docstring of an error is the text that a user reads when the error carries no message of its own.
"""

from enum import StrEnum

from nymtw.drop_reasons import DropReason


class NymtwError(Exception):
    """Something went wrong in nymtw."""

    def __str__(self) -> str:
        text = super().__str__()
        return text or " ".join((type(self).__doc__ or type(self).__name__).split())


class EncodingError(NymtwError):
    """The bytes are not what this place expects."""


class ConfigError(NymtwError):
    """The configuration cannot be used: the message names the file, the key and the line."""


class KeyFileError(NymtwError):
    """A key file is missing, of the wrong type, length or permission."""


class ListenError(NymtwError):
    """A port cannot be listened on: the message names the address and the cause."""


class AddressError(NymtwError):
    """This is not a client's address on this network: a letter is wrong, or it belongs to another network."""


class MessageTooLong(NymtwError):
    """The message is longer than a message may be (64 MiB)."""


class QueueFull(NymtwError):
    """The client has as much to send as it keeps; try again when the queue is shorter."""


class DeliveryFailed(NymtwError):
    """A message was not acknowledged in time and has been given up."""


class RegistrationRefused(NymtwError):
    """The provider refused the registration or the login."""


class DirectoryError(NymtwError):
    """The directory cannot be reached, or refuses what it was sent."""


class TopologyError(NymtwError):
    """The topology cannot be used: the message says why."""


class TopologySignatureError(TopologyError):
    """The topology is not signed by the directory that was expected."""


class TopologyExpired(TopologyError):
    """The newest topology is past its validity: the directory has been silent for too long."""


class TopologyIncomplete(TopologyError):
    """A layer, or the node that was asked for, is missing from the topology."""


class ClientTooOld(TopologyError):
    """The network asks for a newer client."""


class UnknownDestination(NymtwError):
    """Nobody at this provider has this address."""


class MailboxFull(NymtwError):
    """The mailbox, or the provider, stores as much as it may."""


class ReplayGuardFull(NymtwError):
    """The replay guard holds as many tags as it was sized for."""


class DiskError(NymtwError):
    """The disk refused what had to be written or read."""


class PluginError(NymtwError):
    """A provider implementation is unknown, doubled or broken."""


class LedgerError(NymtwError):
    """The ledger cannot be reached, or its answer cannot be used."""


class TransactionRefused(LedgerError):
    """The ledger refused a transaction; `code` (1 to 255) is the cause, as in `nymtw.ledger.machine.refusals`."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class ProofError(LedgerError):
    """What was answered does not follow from the state's root, or the root is not signed by the validators."""


class LedgerBroken(LedgerError):
    """The ledger's stored state was changed by something else, or breaks a rule: it must not go on."""


class CredentialFault(StrEnum):
    """Why a credential, or a step on the way to one, was refused."""

    BAD_KEY = "bad-key"
    BAD_PROOF = "bad-proof"
    BAD_SHARE = "bad-share"
    BAD_SIGNATURE = "bad-signature"
    MIXED = "mixed"
    TOO_FEW = "too-few"
    WRONG_COUNT = "wrong-count"
    DOUBLED = "doubled"
    BOOK_USED_UP = "book-used-up"
    BAD_DEALING = "bad-dealing"
    BAD_COMPLAINT = "bad-complaint"


class CredentialRejected(NymtwError):
    """A credential, or a step on the way to one, was refused.

    `fault` says why, `issuer` whose fault it is where that is known.
    """

    def __init__(self, fault: CredentialFault, issuer: int | None = None) -> None:
        super().__init__(fault.value if issuer is None else f"{fault.value}: issuer {issuer}")
        self.fault = fault
        self.issuer = issuer


class SphinxInputError(NymtwError, ValueError):
    """A packet or a reply block cannot be made from this: the message names the limit."""


class PacketRejected(NymtwError):
    """A packet was refused; `reason` says why. Never more is told to whoever sent it."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
