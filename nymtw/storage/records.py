"""The records that every mailbox store returns."""

import msgspec


class MailboxRecord(msgspec.Struct, frozen=True):
    """What a provider knows about a mailbox: the owner's Ed25519 key and the hash of their token, 32 bytes each."""

    public_key: bytes
    token_hash: bytes


class StoredItem(msgspec.Struct, frozen=True, gc=False):
    """One item of mail. Numbers grow and are never used twice."""

    number: int
    kind: int
    content: bytes
