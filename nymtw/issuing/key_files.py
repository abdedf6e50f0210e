"""Issuing keys as files: PEM, mode 0600, with the canonical bytes of `nymtw.credentials.keys` inside."""

from pathlib import Path
from typing import Final

from nymtw.credentials.keys import Dealt, IssuerKey, SecretKey, VerificationKey
from nymtw.errors import EncodingError, KeyFileError
from nymtw.node.home import private_folder
from nymtw.node.keys import load_pem, save_pem

PRIVATE: Final = "BLS12381 ISSUER PRIVATE KEY"
PUBLIC: Final = "BLS12381 ISSUER PUBLIC KEY"
THRESHOLD: Final = "BLS12381 THRESHOLD PUBLIC KEY"
VERIFICATION_KEY_FILE: Final = "verification_key.pem"
_LIMIT: Final = 16384  # a public key of 32 attributes in base64 is half of it


def secret_key_file(index: int) -> str:
    """The name of an issuer's private key file."""
    return f"issuer{index}_private_key.pem"


def public_key_file(index: int) -> str:
    """The name of an issuer's public key file."""
    return f"issuer{index}_public_key.pem"


def save_secret_key(path: Path, key: SecretKey) -> None:
    """Write an issuer's share. Raises `KeyFileError`."""
    save_pem(path, PRIVATE, key.to_bytes())


def load_secret_key(path: Path) -> SecretKey:
    """An issuer's share. Raises `KeyFileError` naming the file, also where others than its owner can read it."""
    try:
        return SecretKey.from_bytes(load_pem(path, PRIVATE, True, _LIMIT))
    except EncodingError as error:
        raise KeyFileError(f"{path}: {error}") from None


def load_issuer_key(path: Path) -> IssuerKey:
    """An issuer's public key. Raises `KeyFileError` naming the file."""
    try:
        return IssuerKey.from_bytes(load_pem(path, PUBLIC, False, _LIMIT))
    except EncodingError as error:
        raise KeyFileError(f"{path}: {error}") from None


def load_verification_key(path: Path) -> VerificationKey:
    """The key of the threshold. Raises `KeyFileError` naming the file."""
    try:
        return VerificationKey.from_bytes(load_pem(path, THRESHOLD, False, _LIMIT))
    except EncodingError as error:
        raise KeyFileError(f"{path}: {error}") from None


def save_dealt(folder: Path, dealt: Dealt) -> list[Path]:
    """Write the keys of every issuer and that of the threshold into `folder`, which is made; returns the files.

    Nothing is overwritten. Raises `KeyFileError` where a file is there already, `ConfigError` for the folder.
    """
    files = {folder / secret_key_file(key.index): (PRIVATE, key.to_bytes()) for key in dealt.secrets}
    files |= {folder / public_key_file(key.index): (PUBLIC, key.to_bytes()) for key in dealt.issuers}
    files[folder / VERIFICATION_KEY_FILE] = (THRESHOLD, dealt.key.to_bytes())
    private_folder(folder)
    for path in files:
        if path.exists():
            raise KeyFileError(f"{path}: is there already, and keys are not overwritten")
    for path, (label, content) in files.items():
        save_pem(path, label, content)
    return list(files)
