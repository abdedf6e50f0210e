"""Compares versions of nymtw: the topology names the oldest version that clients may have."""

from functools import lru_cache

from nymtw.errors import ClientTooOld


def version(text: str) -> str:
    """Check a version (PEP 440). Raises `ValueError`, for `usage.Options`."""
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(text))
    except InvalidVersion:
        raise ValueError(f"{text!r:.64} is not a version, such as 0.2.0") from None


@lru_cache(maxsize=16)
def is_older(own: str, least: str) -> bool:
    """Whether the version `own` is older than `least` (PEP 440). False if one of them is not a version."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(own) < Version(least)
    except InvalidVersion:
        return False


def check_client(own: str, least: str) -> None:
    """Raises `ClientTooOld` if a client of version `own` may not send in a network that requires `least`."""
    if least and is_older(own, least):
        raise ClientTooOld(f"this client is nymtw {own}, but the network requires {least} or later: upgrade it")
