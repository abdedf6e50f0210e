"""A real Chromium, and a directory in a process of its own whose nodes the test plays."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chromium import CHROMIUM_ARGUMENTS
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from nymtw.topology.presence import make_metric

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))  # where programs are started and sites are served
DEADLINE = 100.0
PATHS = {"mixnode": "mixnodes", "provider": "mixproviders", "gateway": "gateways"}


class Nodes(threading.Thread):
    """Nodes that announce themselves every second or so, and mixnodes that report."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.nodes: dict[int, dict[str, Any]] = {}
        self.over = threading.Event()
        self.failures: list[str] = []

    def add(self, number: int, role: str = "mixnode", rate: int = 0, /, **details: Any) -> str:
        """A node from now on; returns its identity key as text."""
        from nymtw.encoding import key_text

        signing = SigningKey(number.to_bytes(32, "big"))
        self.nodes[number] = {"role": role, "rate": rate, "signing": signing, "details": details}
        return key_text(bytes(signing.verify_key))

    def post(self, path: str, body: Any) -> None:
        request = urllib.request.Request(
            self.url + path, msgspec.json.encode(body), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE):
            pass

    def run(self) -> None:
        while not self.over.is_set():
            begin = time.monotonic()
            for number, node in list(self.nodes.items()):
                try:
                    self._speak(number, node)
                except OSError as error:
                    if not self.over.is_set():
                        self.failures.append(f"{error}: {getattr(error, 'fp', None) and error.fp.read()!r}")
            self.over.wait(max(0.0, 1.0 - (time.monotonic() - begin)))

    def add_now(self, number: int, rate: int) -> float:
        """A mixnode that has announced itself when this returns; returns when that was, in seconds since 1970."""
        node = {"role": "mixnode", "rate": rate, "signing": SigningKey(number.to_bytes(32, "big")), "details": {}}
        self._speak(number, node)
        announced = time.time()
        self.nodes[number] = node
        return announced

    def _speak(self, number: int, node: dict[str, Any]) -> None:
        keys = {1: number.to_bytes(32, "little")}
        role = node["role"]
        place = {"layer": 1 + number % 3} if role == "mixnode" else {"client_port": 30000 + number}
        heartbeat = signed_heartbeat(
            role,
            host="127.0.0.1",
            port=10000 + number,
            keys=keys,
            timestamp=time.time_ns(),
            signing_key=node["signing"],
            **{"version": "0.1.0", **place, **node["details"]},
        )
        self.post(f"/api/presence/{PATHS[role]}", heartbeat)
        if role == "mixnode" and node["rate"]:
            wave = int(node["rate"] * (0.85 + 0.3 * ((number * 7919 + int(time.time())) % 100) / 100))
            metric = make_metric(
                public_key=keys[1],
                sent=wave,
                received=wave + number % 5,
                timestamp=time.time_ns(),
                signing_key=node["signing"],
                loops=(20, 19),
            )
            self.post("/api/metrics/mixes", metric)


class Site:
    """A running directory and its nodes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.nodes = Nodes(url)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A directory in a process of its own."""
    command = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
    process = subprocess.Popen(
        [*command, "nym-directory", "--port=0", "--refresh=2"],
        env={**os.environ, "NYMTW_HOME": str(tmp_path / "nym")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    url = ""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "The directory is at " in line:
            url = line.split("The directory is at ")[1].strip()
        if "identity key" in line:
            break
    assert url, "".join(lines)
    drain = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    drain.start()
    site = Site(url)
    site.nodes.start()
    yield site
    site.nodes.over.set()
    site.nodes.join(DEADLINE)
    process.terminate()
    process.wait(DEADLINE)
    drain.join(DEADLINE)
    process.stdout.close()
    assert site.nodes.failures == [], "".join(lines[-200:])


@pytest.fixture
def chromium() -> Iterator[Callable[..., Any]]:
    """Opens a window: `chromium(width, height, dark, phone, *arguments)`. Every one is closed, and none may have had a
    script error.
    """
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are needed")
    opened: list[tuple[Any, str]] = []

    def launch(width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False, *arguments: str) -> Any:
        folder = tempfile.mkdtemp(prefix="nymtw-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for argument in (
            *CHROMIUM_ARGUMENTS,
            *arguments,
            f"--user-data-dir={folder}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 2.0}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
        opened.append((browser, folder))
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        return browser

    yield launch
    complaints = []
    for browser, folder in opened:
        complaints += [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        browser.quit()
        shutil.rmtree(folder, ignore_errors=True)
    assert complaints == []


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the pages go, to be looked at: NYMTW_SCREENSHOTS, or pytest's own folder."""
    folder = Path(os.environ.get("NYMTW_SCREENSHOTS") or tempfile.mkdtemp(prefix="nymtw-screenshots-"))
    folder.mkdir(parents=True, exist_ok=True)
    print("screenshots:", folder)
    return folder
