"""Swagger UI in a real Chromium: it shows the directory's own description, and asks nobody else."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_the_api_can_be_read_and_tried(site: Any, chromium: Any, screenshots: Path) -> None:
    browser = chromium(1280, 1600)
    browser.get(f"{site.url}/swagger/index.html")
    end = time.monotonic() + 20
    paths = "return [...document.querySelectorAll('.opblock-summary-path')].map(e => e.dataset.path)"
    while len(browser.execute_script(paths)) < 13:
        assert time.monotonic() < end, browser.execute_script("return document.body.innerText")
        time.sleep(0.1)
    assert {"/api/v1/topology", "/ws", "/api/presence/mixnodes"} <= set(browser.execute_script(paths))
    health = "[data-path='/api/healthcheck']"
    browser.execute_script(f"document.querySelector(\"{health}\").closest('.opblock').querySelector('button').click()")
    for name in ("try-out__btn", "execute"):
        while not browser.execute_script(f"const b = document.querySelector('.{name}'); b?.click(); return Boolean(b)"):
            assert time.monotonic() < end
            time.sleep(0.1)
    answer = "return document.querySelector('.live-responses-table')?.innerText ?? ''"
    while '"ok": true' not in browser.execute_script(answer):
        assert time.monotonic() < end, browser.execute_script(answer)
        time.sleep(0.1)
    browser.save_screenshot(str(screenshots / "swagger.png"))
    asked = {
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    }
    assert [url for url in asked if not url.startswith((site.url, "data:", "chrome"))] == []
