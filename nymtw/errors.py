"""The errors of nymtw: one root, and one leaf for each cause that a caller can act on.

The docstring of an error is the text for users if the error has no message of its own.
"""

from enum import StrEnum

from nymtw.drop_reasons import DropReason


class NymtwError(Exception):
    """Something went wrong in nymtw."""

    def __str__(self) -> str:
        text = super().__str__()
        return text or " ".join((type(self).__doc__ or type(self).__name__).split())


class EncodingError(NymtwError):
    """The data is malformed."""


class ConfigError(NymtwError):
    """The configuration is invalid: the message names the file, the key and the line."""


class KeyFileError(NymtwError):
    """A key file is missing, of the wrong type, length or permission."""


class ListenError(NymtwError):
    """A port cannot be opened: the message names the address and the cause."""


class AddressError(NymtwError):
    """This is not the address of a client in this network: it has a typing error, or belongs to another network."""


class MessageTooLong(NymtwError):
    """The message is longer than 64 MiB."""


class QueueFull(NymtwError):
    """The queue is full; try again when it is shorter."""


class DeliveryFailed(NymtwError):
    """A message was not acknowledged in time, and was given up."""


class RegistrationRefused(NymtwError):
    """The provider refused the registration or the login."""


class DirectoryError(NymtwError):
    """The directory cannot be reached, or refuses the request."""


class TooManyRequests(DirectoryError):
    """Too many posts from this address; try again later."""


class TopologyError(NymtwError):
    """The topology cannot be used: the message says why."""


class TopologySignatureError(TopologyError):
    """The topology is not signed by the expected directory."""


class TopologyExpired(TopologyError):
    """The newest topology is out of date: the directory has been silent for too long."""


class TopologyIncomplete(TopologyError):
    """A layer, or the requested node, is missing from the topology."""


class ClientTooOld(TopologyError):
    """The network requires a newer client."""


class UnknownDestination(NymtwError):
    """Nobody at this provider has this address."""


class MailboxFull(NymtwError):
    """The mailbox, or the provider, is full."""


class ReplayGuardFull(NymtwError):
    """The replay guard is full."""


class DiskError(NymtwError):
    """The disk refused to read or write."""


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


class EthereumError(NymtwError):
    """The Ethereum node cannot be reached, or its answer cannot be used."""


class EthereumRefused(EthereumError):
    """The Ethereum node answered with an error; `code` is JSON-RPC's."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


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
    """A packet or a reply block cannot be made from these arguments: the message names the limit."""


class PacketRejected(NymtwError):
    """A packet was refused for `reason`. Never tell its sender more than that."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
