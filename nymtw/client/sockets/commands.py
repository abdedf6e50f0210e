"""`nym-client send`, `receive` and `status`: commands that use the socket of a running client."""

import base64
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from twisted.python import usage

from nymtw.client.options import DEFAULT_PORT
from nymtw.client.sockets.blocking_client import BlockingClient
from nymtw.client.sockets.tokens import read_token, token_file
from nymtw.errors import ConfigError, DeliveryFailed
from nymtw.node.option_types import CommandOptions, options_first
from nymtw.node.tap import port_number


class SocketOptions(CommandOptions):
    """The options that select the client's socket."""

    optParameters: ClassVar[list[Any]] = [
        ["port", None, DEFAULT_PORT, "Port of the client's socket", port_number],
        ["token-file", None, None, "File with the socket's token [default: ~/.nym/sockets/PORT.token]"],
        ["socket", None, None, "Kind of the client's socket, websocket or tcp [default: whichever it is]"],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`, with the arguments before, between or after the options."""
        super().parseOptions(options_first(self, sys.argv[1:] if options is None else options))

    def postOptions(self) -> None:
        """Check the socket's kind."""
        if self["socket"] not in (None, "websocket", "tcp"):
            raise usage.UsageError(f"--socket: {self['socket']!r:.40} is neither websocket nor tcp")

    def connect(self, timeout: float | None = 60.0) -> BlockingClient:
        """The client's socket. Raises `NotRunning`, `ConfigError`."""
        named = self["token-file"]
        token = read_token(token_file(self["port"]) if named is None else Path(named))
        if named is not None and token is None:
            raise ConfigError(f"{named}: there is no token in it that can be read")
        return BlockingClient(self["socket"], self["port"], timeout, token)


class SendOptions(SocketOptions):
    """`nym-client send RECIPIENT [FILE]`."""

    optFlags: ClassVar[list[Any]] = [
        ["explain", None, "Show what happened to each packet"],
        ["no-wait", None, "Do not wait until the message is delivered"],
    ]
    optParameters: ClassVar[list[Any]] = [["surbs", None, 0, "Reply blocks to send along", int]]

    def parseArgs(self, recipient: str, file: str | None = None) -> None:  # type: ignore[override]  # the signature follows usage.Options
        """Take the recipient's address, and the file; without a file, standard input is sent."""
        self["recipient"], self["file"] = recipient, file


class ReceiveOptions(SocketOptions):
    """`nym-client receive`."""

    optFlags: ClassVar[list[Any]] = [
        ["follow", None, "Continue with new messages as they arrive"],
        ["json", None, "Print one JSON object per line, the message in base64"],
    ]


class StatusOptions(SocketOptions):
    """`nym-client status`."""

    optFlags: ClassVar[list[Any]] = [["json", None, "Print one JSON object"]]


def send(options: SendOptions) -> int:
    """Send a file or standard input, and wait until it is delivered. Raises `DeliveryFailed`."""
    name = options["file"]
    try:
        data = sys.stdin.buffer.read() if name in (None, "-") else Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None
    client = options.connect(None)
    client.request("subscribe", confirm=True, progress=True)
    start = time.monotonic()
    message = base64.b64encode(data).decode()
    recipient, surbs, explain = options["recipient"], options["surbs"], bool(options["explain"])
    sent = client.request("send", message=message, recipient=recipient, replySurbs=surbs, explain=explain)
    print(
        f"{sent['id']}: {len(data)} bytes in {sent['fragments']} fragments, {sent['laneQueueLength']} wait in the queue"
    )
    if "waits" in sent:
        print(f"it waits: {sent['waits']}", flush=True)
    if options["no-wait"]:
        return 0
    while True:
        progress = client.event().get("progress", {})
        if progress.get("id") == sent["id"] and progress["state"] != "sending":
            break
    if explain:
        for packet in client.request("progress", id=sent["id"], explain=True)["packets"]:
            print(explained(packet))
    if progress["state"] == "failed":
        raise DeliveryFailed
    print(f"delivered in {time.monotonic() - start:.2f} s")
    return 0


def explained(packet: dict[str, Any]) -> str:
    """The line about one packet."""
    if "leftOut" in packet:
        return f"and {packet['leftOut']} more packets"
    route = " > ".join(f"{hop['layer'] or hop['role']}:{hop['id'][:8]}" for hop in packet["route"])
    delays = " ".join(f"{delay * 1000:.0f}" for delay in packet["delays"])
    arrived = "no ack" if packet["ackArrived"] is None else f"ack at {packet['ackArrived']:.3f} s"
    return (
        f"fragment {packet['fragment']}, attempt {packet['attempt']} ({packet['why']}): sent at {packet['sent']:.3f} s "
        f"over {route}, delays {delays} ms, ack predicted at {packet['ackPredicted']:.3f} s, {arrived}"
    )


def receive(options: ReceiveOptions) -> int:
    """Print the messages that have arrived."""
    client = options.connect(None if options["follow"] else 60.0)
    if not options["follow"]:
        for message in client.request("fetch")["messages"]:
            _print(message, bool(options["json"]))
        return 0
    client.request("subscribe", confirm=True)
    while True:
        event = client.event()
        if "received" in event:
            _print(event["received"], bool(options["json"]))
            client.request("confirm", ids=[event["received"]["id"]])


def _print(message: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(message).decode(), flush=True)
    else:
        sys.stdout.buffer.write(base64.b64decode(message["message"]) + b"\n")
        sys.stdout.buffer.flush()


def status(options: StatusOptions) -> int:
    """Print the client's status. The exit status is 0 if it can send, otherwise 1."""
    found = options.connect().request("status")
    if options["json"]:
        print(msgspec.json.encode(found).decode())
    else:
        width = max(len(name) for name in found)
        for name, value in found.items():
            text = " ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else value
            print(f"{name:{width}}  {'-' if text in (None, '') else text}")
    return 0 if found["ready"] else 1
