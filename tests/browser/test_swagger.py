"""Swagger UI in a real Chromium: it shows a server's own description, and asks nobody else."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
KEY = "A" * 43 + "="


def assert_can_be_tried(browser: Any, url: str, page: str, shows: set[str], tries: str, answer: str) -> None:
    """The page shows these operations; one of them, tried, gives an answer with this text."""
    browser.get(url + page)
    end = time.monotonic() + 100
    paths = "return [...document.querySelectorAll('.opblock-summary-path')].map(e => e.dataset.path)"
    while not shows <= set(browser.execute_script(paths)):
        assert time.monotonic() < end, browser.execute_script("return document.body.innerText")
        time.sleep(0.1)
    tried = f"[data-path='{tries}']"
    browser.execute_script(f"document.querySelector(\"{tried}\").closest('.opblock').querySelector('button').click()")
    for name in ("try-out__btn", "execute"):
        while not browser.execute_script(f"const b = document.querySelector('.{name}'); b?.click(); return Boolean(b)"):
            assert time.monotonic() < end
            time.sleep(0.1)
    answered = "return document.querySelector('.live-responses-table')?.innerText ?? ''"
    while answer not in browser.execute_script(answered):
        assert time.monotonic() < end, browser.execute_script(answered)
        time.sleep(0.1)
    asked = {
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    }
    assert [each for each in asked if not each.startswith((url, "data:", "chrome"))] == []


def test_the_directory_s_api_can_be_read_and_tried(site: Any, chromium: Any, screenshots: Path) -> None:
    browser = chromium(1280, 1600)
    shows = {"/api/v1/topology", "/ws", "/api/presence/mixnodes", "/api/presence/nodes"}
    assert_can_be_tried(browser, site.url, "/swagger/index.html", shows, "/api/healthcheck", '"ok": true')
    browser.save_screenshot(str(screenshots / "swagger.png"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[str]:
    """The URL of a node whose directory is away."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    code = "import sys; from nymtw.nym_node.commands import main; sys.exit(main())"
    words = ["run", "--id=n", "--mode=mixnode", "--layer=2", "--host=127.0.0.1", "--port=0", f"--http-port={port}"]
    words += ["--rate=50", "--directory=http://127.0.0.1:1", f"--directory-key={KEY}"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "NYMTW_HOME": str(tmp_path / "nym")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 150
        while True:
            try:
                urllib.request.urlopen(f"{url}/api/v1/roles", timeout=25).close()
                break
            except OSError:
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(150)


def test_a_node_s_api_can_be_read_and_tried(node: str, chromium: Any, screenshots: Path) -> None:
    browser = chromium(1280, 1600)
    shows = {"/api/v1/roles", "/api/v1/health", "/api/v1/metrics/packets"}
    assert_can_be_tried(browser, node, "/", shows, "/api/v1/roles", '"place": "mixnode-2"')
    browser.save_screenshot(str(screenshots / "swagger-node.png"))
