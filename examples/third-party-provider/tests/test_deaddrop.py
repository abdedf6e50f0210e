"""The dead drop keeps messages, up to its limit, and nothing else."""

from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from deaddrop.provider import Options, make_provider

from twisted.logger import Logger
from zope.interface.verify import verifyObject

from nymtw.errors import MailboxFull, UnknownDestination
from nymtw.interfaces import IProvider
from nymtw.provider.delivery import Delivery, MailKind
from nymtw.provider.plugin import find_implementations, load_options


def drop(folder: Path, *argv: str):
    options = Options()
    options.parseOptions(argv)
    made = make_provider(SimpleNamespace(data=folder, random=Random(1), log=Logger()), options)
    made.start()
    return made


def message(content: bytes) -> Delivery:
    return Delivery(b"d" * 32, MailKind.MESSAGE, content)


def files(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir())


def test_it_is_a_provider_and_is_found(tmp_path: Path) -> None:
    verifyObject(IProvider, drop(tmp_path))
    assert load_options(find_implementations().choose("deaddrop")) is Options


def test_each_message_is_a_file_that_says_nothing_about_when_it_came(tmp_path: Path) -> None:
    made = drop(tmp_path)
    for content in (b"one", b"two"):
        made.deliver(message(content))
    assert files(tmp_path) == [b"one", b"two"]
    assert {path.stat().st_mtime for path in tmp_path.iterdir()} == {0.0}


def test_it_is_full_at_its_limit_also_after_a_restart_and_takes_more_when_some_were_fetched(tmp_path: Path) -> None:
    drop(tmp_path, "--keep=1").deliver(message(b"one"))
    made = drop(tmp_path, "--keep=1")
    with pytest.raises(MailboxFull):
        made.deliver(message(b"two"))
    next(tmp_path.iterdir()).unlink()
    made.deliver(message(b"two"))
    assert files(tmp_path) == [b"two"]


@pytest.mark.parametrize("kind", [MailKind.ACK, MailKind.REPLY])
def test_acks_and_replies_have_no_business_here(tmp_path: Path, kind: MailKind) -> None:
    with pytest.raises(UnknownDestination):
        drop(tmp_path).deliver(Delivery(b"d" * 32, kind, b"x"))
    assert files(tmp_path) == []
