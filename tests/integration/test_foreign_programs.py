"""Programs that nobody here wrote, at the client's two sockets. Those that are not installed are skipped."""

import asyncio
import base64
import http.server
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from chromium import CHROMIUM_ARGUMENTS
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_now

pytestmark = pytest.mark.integration

DEADLINE = 300.0
CHROMIUM = (*CHROMIUM_ARGUMENTS, "--host-resolver-rules=MAP foreign.example 127.0.0.1")
PAGE = """<!doctype html><title>A page</title><script>
const say = text => fetch("/said", {method: "POST", body: text});
const socket = new WebSocket("ws://127.0.0.1:PORT/mix?token=TOKEN");
socket.onmessage = event => say(event.data);
socket.onerror = () => say("refused");
socket.onopen = () => {
    socket.send(JSON.stringify({details: {}}));
    socket.send(JSON.stringify({subscribe: {}}));
    socket.send(JSON.stringify({send: {message: btoa("from a page"), recipient: "RECIPIENT"}}));
};
</script>"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def carol(mixnet: Any) -> int:
    """The port of a client with a websocket."""
    return int(mixnet.client_with_socket("carol", "websocket"))


@pytest.fixture(scope="module")
def token(mixnet: Any, carol: int) -> str:
    return str(mixnet.token(carol))


@pytest.fixture(scope="module")
def to_carol(mixnet: Any, carol: int) -> str:
    return str(mixnet.details(carol, "websocket")["address"])


def test_websockets_of_python_with_text_and_binary_frames(carol: int, token: str, to_carol: str) -> None:
    import cbor2

    data = bytes(range(256)) * 20
    url = f"ws://127.0.0.1:{carol}/mix?token={token}"
    with connect_now(url, origin="http://localhost:3000", max_size=None) as socket:
        socket.send(json.dumps({"subscribe": {}}))
        assert json.loads(socket.recv(DEADLINE)) == {"subscribe": {"confirm": False, "progress": False}}
        socket.send(json.dumps({"nonsense": {}}))
        assert "exception" in json.loads(socket.recv(DEADLINE))
        socket.send(cbor2.dumps({"send": {"message": data, "recipient": to_carol}}))
        sent = cbor2.loads(socket.recv(DEADLINE))["send"]
        assert sent["fragments"] == 4
        received = cbor2.loads(socket.recv(DEADLINE))["received"]
        assert (received["id"], received["message"]) == (sent["id"], data)
        socket.ping().wait(DEADLINE)


def test_websockets_of_python_many_at_once(carol: int, token: str, to_carol: str) -> None:
    everything = {encoded(b"%d" % number) for number in range(8)}

    async def one(number: int) -> set[str]:
        received: set[str] = set()
        async with connect(f"ws://127.0.0.1:{carol}/mix") as socket:
            await socket.send(json.dumps({"authenticate": {"token": token}}))
            assert json.loads(await socket.recv()) == {"authenticate": {}}
            await socket.send(json.dumps({"subscribe": {}}))
            await socket.recv()
            await socket.send(json.dumps({"send": {"message": encoded(b"%d" % number), "recipient": to_carol}}))
            while not received >= everything:
                answer = json.loads(await socket.recv())
                if "received" in answer:
                    received.add(answer["received"]["message"])
        return received

    async def main() -> list[set[str]]:
        async with asyncio.timeout(DEADLINE):
            return await asyncio.gather(*map(one, range(8)))

    assert asyncio.run(main()) == [everything] * 8


def test_websockets_of_python_from_a_foreign_origin(carol: int) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        connect_now(f"ws://127.0.0.1:{carol}/mix", origin="http://foreign.example")
    assert refused.value.response.status_code == 403


def test_a_page_of_this_machine_without_the_token_reads_nothing(carol: int) -> None:
    """What any program of this machine serves at http://localhost:ANYPORT."""
    with connect_now(f"ws://127.0.0.1:{carol}/mix", origin="http://localhost:3000") as socket:
        socket.send(json.dumps({"fetch": {}}))
        assert "needs its token" in json.loads(socket.recv(DEADLINE))["exception"]["error"]
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            socket.recv(DEADLINE)


def test_wscat(mixnet: Any, carol: int, token: str, to_carol: str) -> None:
    lines = [{"subscribe": {}}, {"send": {"message": encoded(b"from wscat"), "recipient": to_carol}}]
    words = [word for line in lines for word in ("--execute", json.dumps(line))]
    wscat = mixnet.start(
        program("wscat"), "--connect", f"ws://127.0.0.1:{carol}/mix?token={token}", "--wait", "-1", *words
    )
    assert wscat.wait_for('"laneQueueLength"')
    assert wscat.wait_for(encoded(b"from wscat"))
    wscat.stop()


def test_nc_speaks_lines_of_json(mixnet: Any) -> None:
    address = mixnet.details(mixnet.bob)["address"]
    nc = mixnet.start(program("nc"), "127.0.0.1", str(mixnet.bob))
    nc.write_line(json.dumps({"authenticate": {"token": mixnet.token(mixnet.bob)}}))
    nc.write_line('{"subscribe": {}}')
    nc.write_line(json.dumps({"send": {"message": encoded(b"from nc"), "recipient": address}}))
    nc.wait_for('"laneQueueLength"')
    nc.wait_for(encoded(b"from nc"))
    nc.write_line("GET / HTTP/1.1")
    nc.wait_for('^{"exception":')
    nc.end_input()  # after which nc ends as soon as the client has hung up
    assert nc.wait() == 0


def test_nc_is_answered_after_it_has_sent_all(mixnet: Any) -> None:
    """`-N`: what a shell pipe does. The answers come although no more requests will."""
    asked = subprocess.run(
        [program("nc"), "-N", "127.0.0.1", str(mixnet.alice)],
        input=json.dumps({"authenticate": {"token": mixnet.token(mixnet.alice)}}).encode()
        + b'\n{"details": {}}\n{"clients": {}}\n',
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    _, details, clients = map(json.loads, asked.stdout.splitlines())
    assert "@" in details["details"]["details"]["address"]
    assert clients == {"clients": {"clients": []}}


class Site:
    """Serves one page, under any name; `said` is what it tells."""

    def __init__(self, page: str) -> None:
        posted: queue.Queue[str] = queue.Queue()
        self.posted = posted

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(page.encode() if self.path == "/" else b"")

            def do_POST(self) -> None:
                posted.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site(carol: int, token: str, to_carol: str) -> Iterator[Site]:
    site = Site(PAGE.replace("PORT", str(carol)).replace("TOKEN", token).replace("RECIPIENT", to_carol))
    yield site
    site.stop()


def browse(mixnet: Any, site: Site, host: str, profile: Path) -> Any:
    return mixnet.start(program("chromium"), *CHROMIUM, f"--user-data-dir={profile}", f"http://{host}:{site.port}/")


def test_a_page_of_this_machine_in_chromium(mixnet: Any, site: Site, to_carol: str, tmp_path: Path) -> None:
    chromium = browse(mixnet, site, "localhost", tmp_path)
    posted: list[Any] = []
    while "received" not in (answer := json.loads(site.posted.get(timeout=DEADLINE))):
        posted.append(answer)
    chromium.stop()
    # Each was posted by itself: the order is not that in which they came.
    assert {next(iter(answer)) for answer in posted} <= {"details", "subscribe", "send"}
    assert answer["received"]["message"] == encoded(b"from a page")


def test_a_page_from_elsewhere_in_chromium_is_refused(mixnet: Any, site: Site, tmp_path: Path) -> None:
    chromium = browse(mixnet, site, "foreign.example", tmp_path)
    assert site.posted.get(timeout=DEADLINE) == "refused"
    chromium.stop()
