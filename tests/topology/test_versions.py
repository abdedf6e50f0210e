"""Which client is too old for a network."""

import pytest

from nymtw.errors import ClientTooOld
from nymtw.topology.versions import check_client, is_older, version


@pytest.mark.parametrize(
    ("own", "least", "older"),
    [
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.1", False),
        ("0.1.0", "0.1.1", True),
        ("0.9.0", "0.10.0", True),
        ("1.0rc1", "1.0", True),
        ("1.0.post1", "1.0", False),
        ("2!0.1", "9.0", False),
        ("nonsense", "1.0", False),
        ("1.0", "nonsense", False),
    ],
)
def test_versions_are_compared_as_versions(own: str, least: str, older: bool) -> None:
    assert is_older(own, least) is older
    if older:
        with pytest.raises(ClientTooOld, match=f"is nymtw {own}, but the network requires {least} or later"):
            check_client(own, least)
    else:
        check_client(own, least)


def test_a_network_that_asks_for_nothing_takes_everybody() -> None:
    assert not is_older("0.0.1", "")
    check_client("0.0.1", "")


def test_what_is_no_version_is_refused() -> None:
    assert version("v1.02") == "1.2"
    for text in ("", "one", "1..2", "1.0; rm"):
        with pytest.raises(ValueError, match="is not a version"):
            version(text)
