"""The trusted directories of a node or client, from its command line and configuration."""

from collections.abc import Sequence

from nymtw.errors import ConfigError
from nymtw.node.keys import read_directory_key
from nymtw.topology.document import Trust


def majority(count: int) -> int:
    """More than half of `count`: the default number of signatures."""
    return count // 2 + 1


def read_trust(keys: str | Sequence[str], threshold: int = 0) -> Trust:
    """The identities in `keys`, each 44 characters or the path of a PEM file; `threshold` of them must have signed.

    0 asks for a majority. Raises `KeyFileError`, or `ConfigError` where the numbers do not fit.
    """
    found = tuple(read_directory_key(key) for key in as_list(keys))
    count = len(found)
    if len(set(found)) != count:
        raise ConfigError("--directory-key: one directory's key is given twice")
    if not 0 <= threshold <= count or not count:
        raise ConfigError(f"--directory-threshold: {threshold} of {count} directories cannot sign")
    return Trust(found, threshold or majority(count))


def as_list(value: str | Sequence[str]) -> list[str]:
    """One text as a list of one."""
    return [value] if isinstance(value, str) else list(value)
