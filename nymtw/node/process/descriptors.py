"""The limit of descriptors of this process: many systems start low, and allow more."""

import resource
from typing import Final

WANTED: Final = 65_536


def raise_limit(wanted: int = WANTED) -> int:
    """Raise the soft limit to `wanted`, or as far as the hard one goes; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft
