"""The directory's certificate, for HTTPS."""

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from twisted.internet.ssl import CertificateOptions, TLSVersion

from nymtw.errors import ConfigError

_LIMIT = 2**20  # bytes


def server_security(certificate: str, key: str) -> Any:
    """The TLS settings for HTTPS (`IOpenSSLServerConnectionCreator`): TLS 1.2 and later.

    `certificate` names a PEM file with the certificate and those above it, `key` one with its private key. Raises
    `ConfigError` naming the file, and where the two do not belong together.
    """
    if not key:
        raise ConfigError("--certificate-key is needed for --certificate")
    try:
        first, *above = x509.load_pem_x509_certificates(_read(certificate))
    except ValueError:
        raise ConfigError(f"{certificate}: there is no PEM certificate in it") from None
    try:
        private: Any = load_pem_private_key(_read(key), None)
    except (ValueError, TypeError):
        raise ConfigError(f"{key}: there is no PEM private key without a password in it") from None
    parts: dict[str, Any] = {"privateKey": private, "certificate": first, "extraCertChain": above}
    options = CertificateOptions(**parts, raiseMinimumTo=TLSVersion.TLSv1_2)
    try:
        options.getContext().check_privatekey()
    except SSL.Error:
        raise ConfigError(f"{key}: it is not the key of {certificate}") from None
    return options


def _read(name: str) -> bytes:
    try:
        with open(Path(name).expanduser(), "rb") as file:
            return file.read(_LIMIT)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None
