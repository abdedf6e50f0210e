"""A client's keys: the encryption key (X25519), to which messages are sealed, and the mailbox key (Ed25519)."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from nacl.bindings import crypto_scalarmult_base
from nacl.signing import SigningKey

from nymtw.errors import KeyFileError
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, load_private, load_public, save_private, save_public

MAILBOX_FILE = "mailbox_private_key.pem"


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """`private` and `public` (32 bytes each) are the encryption key, `mailbox` signs logins."""

    private: bytes = field(repr=False)
    public: bytes
    mailbox: SigningKey = field(repr=False)


def load_or_create_keys(home: NodeHome, private_file: Path, public_file: Path, random: Random) -> ClientKeys:
    """The keys in the client's home, made at the first start.

    Raises `KeyFileError` for files that cannot be used, do not belong together, or of which one is missing later.
    """
    mailbox_file = home.config / MAILBOX_FILE
    if not any(path.exists() for path in (private_file, public_file, mailbox_file)):
        private = random.randbytes(32)
        save_private(private_file, KeyKind.SPHINX, private)
        save_public(public_file, KeyKind.SPHINX, crypto_scalarmult_base(private))
        save_private(mailbox_file, KeyKind.IDENTITY, random.randbytes(32))
    private = load_private(private_file, KeyKind.SPHINX)
    public = crypto_scalarmult_base(private)
    if not mailbox_file.exists() and not public_file.exists():
        # Only the first file was there: the process that wrote it was killed before it could write the others.
        save_public(public_file, KeyKind.SPHINX, public)
        save_private(mailbox_file, KeyKind.IDENTITY, random.randbytes(32))
    if load_public(public_file, KeyKind.SPHINX) != public:
        raise KeyFileError(f"{public_file}: not the public key that belongs to {private_file.name}")
    return ClientKeys(private, public, SigningKey(load_private(mailbox_file, KeyKind.IDENTITY)))
