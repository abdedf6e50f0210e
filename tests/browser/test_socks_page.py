"""A page with many assets in Chromium, through a localnet's exit, which the client finds by itself."""

import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program import Program
from socks_world import PAGE_ASSETS, RATES, Site, serving, set_rates

pytestmark = pytest.mark.browser

DEADLINE = 600.0


def command(name: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"import sys; from {name} import main; sys.exit(main())"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[int]:
    """The port of a client's SOCKS proxy in a localnet whose gateway is the one exit."""
    home = {"NYMTW_HOME": str(tmp_path / "home")}
    running: list[Program] = []

    def start(*words: str | Path) -> Program:
        running.append(Program(*words, **home))
        return running[-1]

    try:
        localnet = start(
            *command("nymtw.commands"), "localnet", "--mixnodes-per-layer=1", "--providers=1", "--dir", tmp_path / "net"
        )
        url, key = localnet.wait_for(r"Directory (\S+), its key (\S{44})").groups()
        localnet.wait_for("Running until Ctrl-C")
        client = command("nymtw.client.commands")
        made = start(*client, "init", "--id", "grace", "--directory", url, "--directory-key", key)
        assert made.wait() == 0, made.output
        set_rates(tmp_path / "home" / "clients" / "grace" / "config" / "config.toml", RATES)
        socks = start(*client, "socks5", "--id", "grace", "--port", "0")
        yield int(socks.wait_for(r"A SOCKS proxy is at 127\.0\.0\.1:(\d+)")[1])
    finally:
        for each in reversed(running):
            each.stop()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


def test_a_page_with_thirty_assets(proxy: int, page: Site, chromium: Callable[..., Any]) -> None:
    """Chromium goes past a proxy to this machine itself: `<-loopback>` forbids it. Names are the exit's to resolve."""
    browser = chromium(
        1280, 900, False, False, f"--proxy-server=socks5://127.0.0.1:{proxy}", "--proxy-bypass-list=<-loopback>"
    )
    browser.set_page_load_timeout(DEADLINE)
    browser.get(f"http://localhost:{page.server_port}/page")
    end = time.monotonic() + DEADLINE
    while browser.title != "all loaded":
        assert time.monotonic() < end, browser.title
        time.sleep(0.2)
    entries = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len({urllib.parse.urlsplit(entry).path for entry in entries}) == PAGE_ASSETS
    assert page.asked.count("/page") == 1
    assert sum(path.startswith("/asset/") for path in page.asked) == PAGE_ASSETS
