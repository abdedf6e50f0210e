"""Which version of nymtw is older: what the topology asks of clients."""

from functools import lru_cache

from nymtw.errors import ClientTooOld


def version(text: str) -> str:
    """A version, PEP 440. Raises `ValueError`, as `usage.Options` wants it."""
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(text))
    except InvalidVersion:
        raise ValueError(f"{text!r:.64} is not a version, such as 0.2.0") from None


version.coerceDoc = "must be a version, such as 0.2.0."  # type: ignore[attr-defined]


@lru_cache(maxsize=16)
def is_older(own: str, least: str) -> bool:
    """Whether the version `own` comes before `least` (PEP 440); never where one of them is none."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(own) < Version(least)
    except InvalidVersion:
        return False


def check_client(own: str, least: str) -> None:
    """Raises `ClientTooOld` where a client of the version `own` may not send in a network that asks for `least`."""
    if least and is_older(own, least):
        raise ClientTooOld(f"this client is nymtw {own}, and the network asks for {least} or later: upgrade it")
