"""File transfer through two running clients: one process sends a file, another writes the files that arrive.

    python transfer.py receive PORT FOLDER
    python transfer.py send PORT ADDRESS FILE

PORT is the port of a client's TCP socket (`nym-client socket --socket tcp --port PORT`). A message is a file's name, a
zero byte and its contents. The sender chooses the name, so the receiver uses only its last part. The socket's token is
in ~/.nym/sockets/PORT.token, or where NYMTW_HOME says.
"""

import base64
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def connected(port: str) -> Iterator[tuple[socket.socket, Iterator[dict[str, Any]]]]:
    """The socket, and the client's answers, one object at a time."""
    home = Path(os.environ.get("NYMTW_HOME") or Path.home() / ".nym")
    token = (home / "sockets" / f"{port}.token").read_text().strip()
    with socket.create_connection(("127.0.0.1", int(port))) as connection, connection.makefile("rb") as lines:
        ask(connection, {"authenticate": {"token": token}})
        lines.readline()
        yield connection, (json.loads(line) for line in lines)


def ask(connection: socket.socket, request: dict[str, Any]) -> None:
    connection.sendall(json.dumps(request).encode() + b"\n")


def send(port: str, address: str, file: str) -> int:
    path = Path(file)
    message = path.name.encode() + b"\0" + path.read_bytes()
    with connected(port) as (connection, answers):
        # With confirm, messages for other applications stay with the client.
        ask(connection, {"subscribe": {"progress": True, "confirm": True}})
        ask(connection, {"send": {"message": base64.b64encode(message).decode(), "recipient": address}})
        mine = None
        for answer in answers:
            if "exception" in answer:
                print(answer["exception"]["error"], file=sys.stderr)
                return 1
            if "send" in answer:
                mine = answer["send"]["id"]
            elif "progress" in answer and answer["progress"]["id"] == mine:
                step = answer["progress"]
                print(f"{step['acknowledged']} of {step['fragments']} fragments: {step['state']}", flush=True)
                if step["state"] != "sending":
                    return 0 if step["state"] == "done" else 1
    return 1


def receive(port: str, folder: str) -> int:
    with connected(port) as (connection, answers):
        ask(connection, {"subscribe": {"confirm": True}})
        for answer in answers:
            if "received" in answer:
                name, _, contents = base64.b64decode(answer["received"]["message"]).partition(b"\0")
                path = Path(folder) / (Path(name.decode("utf-8", "replace")).name or "unnamed")
                path.write_bytes(contents)
                ask(connection, {"confirm": {"ids": [answer["received"]["id"]]}})
                print(f"received {path} ({len(contents)} bytes)", flush=True)
    return 1


if __name__ == "__main__":
    commands = {"send": send, "receive": receive}
    if len(sys.argv) < 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
