"""What `--impl=store` makes of `--store`, and that mailboxes are there before anything waits."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from nymtw.errors import ConfigError
from nymtw.interfaces import IMailboxHost, IProvider
from nymtw.provider.options import Options
from nymtw.provider.services.multiplexer import Multiplexer
from nymtw.provider.store import make_provider, schema_of
from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.testing.clock import FakeClock

pytestmark = pytest.mark.pythons

PASSWORD = "geheim"


def provider(tmp_path: Path, *argv: str) -> Any:
    options = Options()
    options.parseOptions(list(argv))
    clock = FakeClock()
    context: Any = SimpleNamespace(
        identity=bytes(range(32)), clock=clock, wall_clock=clock.wall_clock, data=tmp_path, random=None, reactor=None
    )
    return make_provider(context, options)


def test_without_a_url_mail_is_in_the_nodes_home(tmp_path: Path) -> None:
    store = provider(tmp_path)
    assert store.start() is None
    assert isinstance(store.mailboxes, SQLiteMailboxes)
    assert (tmp_path / "mailboxes.sqlite").exists()
    store.stop()


def test_each_provider_has_a_schema_of_its_own() -> None:
    schemas = {schema_of(bytes([first]) * 32) for first in range(256)}
    assert len(schemas) == 256
    assert schema_of(bytes(range(32))) == "nymtw_000102030405060708090a0b0c0d0e0f"
    assert max(map(len, schemas)) <= 63  # what PostgreSQL takes


@pytest.mark.parametrize("url", [f"mysql://u:{PASSWORD}@h/d", f"postgresql://u:%zz{PASSWORD}@h/d", "mail.sqlite"])
def test_an_invalid_url_is_reported_without_showing_it(tmp_path: Path, url: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="--store: not a valid PostgreSQL URL: postgresql://") as caught:
        provider(tmp_path, f"--store={url}")
    assert PASSWORD not in str(caught.value)


def test_without_psycopg_the_error_tells_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'nymtw\[postgresql\]'"):
        provider(tmp_path, "--store=postgresql://nymtw@127.0.0.1/nymtw")


@implementer(IProvider)
class Slow:
    """Starts when it is told to."""

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()

    def start(self) -> Any:
        return self.started


@implementer(IMailboxHost)
class Host(Slow):
    mailboxes: Any = None

    def start(self) -> Any:
        self.mailboxes = "mailboxes"
        return super().start()


def test_mailboxes_are_there_from_the_moment_that_start_is_called() -> None:
    def service_host(name: str, provider: Any) -> Any:
        return SimpleNamespace(
            name=name,
            provider=provider,
            start=provider.start,
            is_service=True,
            address=SimpleNamespace(mailbox=name),
            stop=lambda: succeed(None),
        )

    slow, host = Slow(), Host()
    multiplexer = Multiplexer([service_host("slow", slow), service_host("host", host)])
    started: list[Any] = []
    multiplexer.start().addCallback(started.append)
    assert multiplexer.mailboxes == "mailboxes"
    host.started.callback(None)
    assert started == []
    slow.started.callback(None)
    assert started == [None]
