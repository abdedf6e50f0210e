"""What credentials refuse, and for which fault."""

from collections.abc import Callable

import pytest

from nymtw.errors import CredentialFault, CredentialRejected


def assert_refused(fault: CredentialFault, do: Callable[..., object], *arguments: object) -> int | None:
    """`do` is refused with this fault; returns the index of the issuer that is named."""
    with pytest.raises(CredentialRejected) as caught:
        do(*arguments)
    assert caught.value.fault is fault
    return caught.value.issuer
