"""The dashboard in a real Chromium."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from nymtw.encoding import key_text
from nymtw.topology.address import Address
from nymtw.topology.presence import make_validator

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title="hacked"</script>'
LIMIT = 75.0


def until(condition: Callable[[], Any], limit: float = LIMIT) -> Any:
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def small_network(site: Any) -> None:
    for number in range(1, 7):
        site.nodes.add(
            number, "mixnode", 220 + 60 * number, country="DE" if number % 2 else "NL", description=f"Mix {number}"
        )
    site.nodes.add(7, "provider", number=1234, description="Letters, kept", country="IS")
    site.nodes.add(8, "provider", number=77)
    identity = bytes(SigningKey((9).to_bytes(32, "big")).verify_key)
    site.nodes.add(
        9, "gateway", number=250, services={"exit": Address(bytes(32), bytes(32), identity).encode(bytes(16))}
    )


def rows(browser: Any, table: str = "mixnodes") -> list[list[str]]:
    script = "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
    script += ".map(row => [...row.cells].map(cell => cell.textContent))"
    return list(browser.execute_script(script, table))


def keys(browser: Any, state: str = "") -> list[str]:
    selector = f"#mixnodes tbody tr{state} a"
    return list(
        browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(a => a.title)", selector)
    )


@pytest.mark.parametrize(
    ("name", "width", "height", "dark"),
    [
        ("desktop-light", 1280, 1900, False),
        ("desktop-dark", 1280, 1900, True),
        ("phone-light", 390, 844, False),
        ("phone-dark", 390, 844, True),
    ],
)
def test_it_can_be_looked_at(
    site: Any, chromium: Any, screenshots: Path, name: str, width: int, height: int, dark: bool
) -> None:
    small_network(site)
    phone = name.startswith("phone")
    browser = chromium(width, height, dark=dark, phone=phone)
    browser.get(site.url)
    until(lambda: len(rows(browser)) == 6 and len(rows(browser, "providers")) == 3)
    until(lambda: all(int(row[3].replace(",", "")) > 0 for row in rows(browser)))
    # Nothing is wider than the screen, and all text can be read against what is behind it.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert contrast_failures(browser) == []
    time.sleep(3)  # for the picture: dots on their way, a piece of the curve
    browser.save_screenshot(str(screenshots / f"{name}.png"))
    if phone:
        for part in ("tables", "join"):
            browser.execute_script("document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})", part)
            time.sleep(0.3)
            browser.save_screenshot(str(screenshots / f"{name}-{part}.png"))
    browser.execute_script("document.querySelector('#mixnodes tbody a').click()")
    until(lambda: browser.execute_script("return document.querySelectorAll('#node-standing tr').length") == 3)
    time.sleep(1.2)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.save_screenshot(str(screenshots / f"{name}-node.png"))


CONTRAST = """
const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m.slice(0, 3), 1] : m; };
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => { for (let at = node; at; at = at.parentElement) {
  const c = getComputedStyle(at).backgroundColor;
  if (c.startsWith("rgb") && parse(c)[3] > 0.95) return parse(c); } return [255, 255, 255, 1]; };
const bad = [];
for (const node of document.querySelectorAll("main *, footer *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.offsetParent) continue;
  const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push([node.tagName, node.className, node.textContent.slice(0, 30), ratio]);
}
return bad;
"""


def contrast_failures(browser: Any) -> list[Any]:
    """Text below the 4.5:1 of WCAG 2.2, criterion 1.4.3."""
    return list(browser.execute_script(CONTRAST))


def test_a_new_node_appears_without_a_reload(site: Any, chromium: Any) -> None:
    small_network(site)
    browser = chromium()
    browser.get(site.url)
    until(lambda: len(rows(browser)) == 6)
    before = rows(browser)
    until(lambda: [row[2:4] for row in rows(browser)] != [row[2:4] for row in before], 3)
    # The page itself notes when the row is there: asking it takes time too.
    browser.execute_script(
        "const wanted = arguments[0]; window.came = null; new MutationObserver(() => {"
        " if (!window.came && [...document.querySelectorAll('#mixnodes tbody a')].some(a => a.title === wanted))"
        " window.came = Date.now(); })"
        ".observe(document.body, {childList: true, subtree: true, attributes: true, characterData: true});",
        key_of(20),
    )
    announced = site.nodes.add_now(20, 1)
    came = until(lambda: browser.execute_script("return window.came"))
    assert came / 1000 >= announced


def test_a_node_that_dies_turns_stale_then_gone(site: Any, chromium: Any) -> None:
    small_network(site)
    browser = chromium()
    browser.get(site.url)
    dies = until(lambda: len(keys(browser)) == 6 and keys(browser)[0])
    number = next(n for n, node in site.nodes.nodes.items() if _key(node) == dies)
    del site.nodes.nodes[number]
    until(lambda: dies in keys(browser, ".stale"), 6)
    until(lambda: dies in keys(browser, ".gone"), 6)
    colours = browser.execute_script(
        "return ['tr.gone', 'tr:not(.gone):not(.stale)']"
        ".map(row => getComputedStyle(document.querySelector(`#mixnodes tbody ${row} td`)).color)"
    )
    assert colours[0] != colours[1]
    assert "gone" in next(row for row in rows(browser) if row[1].startswith(dies[:8]))[4]
    assert "silent" in browser.execute_script("return document.getElementById('picture').getAttribute('aria-label')")


def test_a_gateway_is_told_from_a_provider(site: Any, chromium: Any) -> None:
    small_network(site)
    browser = chromium()
    browser.get(site.url)
    until(lambda: len(rows(browser, "providers")) == 3)
    found = next(row for row in rows(browser, "providers") if row[0] == "gateway")
    assert found[2] == "250"
    assert "exit" in found
    picture = "return document.getElementById('picture').getAttribute('aria-label')"
    assert "2 providers and 1 gateways" in browser.execute_script(picture)
    assert browser.execute_script("return document.getElementById('fig-edges').textContent") == "3"
    page = "const rows = [...document.querySelectorAll('#providers tbody tr')];"
    page += "rows.find(row => row.cells[0].textContent === 'gateway').querySelector('a').click()"
    browser.execute_script(page)
    facts = "return Object.fromEntries([...document.querySelectorAll('#node-facts div')]"
    facts += ".map(fact => [...fact.children].map(cell => cell.textContent)))"
    shown = until(lambda: browser.execute_script(facts))
    assert shown["Role"] == "gateway"
    assert shown["Clients connect to"] == "127.0.0.1:30009"
    assert (shown["Registered clients"], shown["Services"]) == ("250", "exit")


def _key(node: dict[str, Any]) -> str:
    return key_text(bytes(node["signing"].verify_key))


def key_of(number: int) -> str:
    return key_text(bytes(SigningKey(number.to_bytes(32, "big")).verify_key))


def test_tables_sort_and_filter_by_keyboard(site: Any, chromium: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    small_network(site)
    browser = chromium()
    browser.get(site.url)
    until(lambda: len(rows(browser)) == 6 and all(int(row[3].replace(",", "")) for row in rows(browser)))
    sent = browser.find_elements(By.CSS_SELECTOR, "#mixnodes th button")[3]
    sent.send_keys(Keys.ENTER)

    def ordered(down: bool) -> bool:
        values = [int(row[3].replace(",", "")) for row in rows(browser)]
        return values == sorted(values, reverse=down)

    header = browser.find_elements(By.CSS_SELECTOR, "#mixnodes th")[3]
    assert header.get_attribute("aria-sort") == "descending"
    until(lambda: ordered(True))
    sent.send_keys(Keys.SPACE)
    assert header.get_attribute("aria-sort") == "ascending"
    until(lambda: ordered(False))
    browser.find_element(By.CSS_SELECTOR, "#mixnodes input").send_keys("mix 3")
    until(lambda: [row[-1] for row in rows(browser)] == ["Mix 3"])
    # Every control can be reached with the tab key and has a name.
    names = browser.execute_script(
        "return [...document.querySelectorAll('a[href], button, input')].filter(e => e.offsetParent && e.tabIndex >= 0)"
        ".map(e => e.getAttribute('aria-label') || e.textContent.trim() || e.title)"
    )
    assert names
    assert all(names)
    seen = set()
    browser.execute_script("document.activeElement.blur()")
    for _ in range(60):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        seen.add(browser.execute_script("return document.activeElement.id || document.activeElement.tagName"))
    assert {"theme", "chart", "INPUT", "BUTTON", "A"} <= seen


def test_what_a_node_says_is_text(site: Any, chromium: Any) -> None:
    small_network(site)
    hostile = site.nodes.add(9, "mixnode", 5, description=HOSTILE, version=HOSTILE[:64])
    browser = chromium()
    browser.get(site.url)
    until(lambda: hostile in keys(browser))
    validator = make_validator(
        public_key=HOSTILE,
        host="127.0.0.1",
        port=26656,
        kind=HOSTILE[:64],
        timestamp=time.time_ns(),
        signing_key=SigningKey(bytes([9]) * 32),
    )
    site.nodes.post("/api/presence/coconodes", validator)
    shown_there = "return document.getElementById('validators').textContent"
    until(lambda: HOSTILE[:64] in browser.execute_script(shown_there), 5)
    assert HOSTILE in [row[-1] for row in rows(browser)]
    assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    browser.get(f"{site.url}/#/node/{hostile}")
    shown = "return document.getElementById('node-description').textContent"
    until(lambda: browser.execute_script(shown) == HOSTILE)
    assert "nymtw" in browser.title
    assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0


def test_it_asks_nobody_else_and_says_how_to_join(site: Any, chromium: Any) -> None:
    small_network(site)
    browser = chromium()
    browser.get(site.url)
    until(lambda: len(rows(browser)) == 6)
    commands = browser.execute_script("return [...document.querySelectorAll('#commands pre')].map(p => p.textContent)")
    assert len(commands) == 4  # a client, a mixnode, a provider, a gateway
    assert all(f"--directory {site.url} --directory-key " in command for command in commands)
    asked = {
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    }
    assert asked
    assert [url for url in asked if not url.startswith((site.url, "data:", "chrome"))] == []


def test_five_hundred_nodes_stay_smooth(site: Any, chromium: Any, screenshots: Path) -> None:
    for number in range(1, 496):
        site.nodes.add(number, "mixnode", number % 50 + 1)
    for number in range(496, 501):
        site.nodes.add(number, "provider", number=number)
    browser = chromium(1280, 1300)
    browser.get(site.url)
    count = "return Number(document.getElementById('fig-mixnodes').textContent)"
    until(lambda: browser.execute_script(count) >= 480, 300)
    browser.execute_script("document.querySelector('#mixnodes button.more').click()")
    until(lambda: len(rows(browser)) >= 480)
    gaps = browser.execute_async_script(
        "const done = arguments[0], gaps = []; let last = performance.now(); const end = last + 5000;"
        "const step = (now) => { gaps.push(now - last); last = now; "
        "now < end ? requestAnimationFrame(step) : done(gaps); };"
        "requestAnimationFrame(step);"
    )
    gaps.sort()
    print(f"{len(gaps)} frames in 5 s; median {gaps[len(gaps) // 2]:.1f} ms, worst {gaps[-1]:.0f} ms")
    browser.save_screenshot(str(screenshots / "five-hundred.png"))
    # Without a graphics card and beside the directory and its 500 nodes: still a moving picture, and never a hang.
    assert gaps[len(gaps) // 2] < 100
    assert gaps[-1] < 1500
