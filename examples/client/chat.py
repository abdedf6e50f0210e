"""Terminal chat with aliases: python chat.py NAME

NAME is a client that `nym-client init` made. There are three kinds of lines:

* `/alias NICK ADDRESS` gives a name to an address,
* `NICK: text` sends text to an alias,
* other text goes to the alias of the last message.

The client's folder for applications keeps the aliases.
"""

import asyncio
import json
import sys
from pathlib import Path

from nymtw.client import Client
from nymtw.client.config import ClientConfig
from nymtw.errors import NymtwError
from nymtw.node.config import read_config
from nymtw.node.home import NodeHome


def aliases_of(name: str) -> Path:
    """The file with the aliases of this client."""
    home = NodeHome("client", name)
    folder = home.path / read_config(home.config_file, ClientConfig).client.mixapps_directory / "chat"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "aliases.json"


async def show(client: Client, aliases: dict[str, str]) -> None:
    async for message in client.messages():
        sender, _, text = message.data.decode("utf-8", "replace").partition("\n")
        nick = next((nick for nick, address in aliases.items() if address == sender), sender[:12])
        print(f"{nick}> {text!r}"[:4000], flush=True)


async def main(name: str) -> None:
    file = aliases_of(name)
    aliases: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    client = await Client.open(name)
    print(f"You are {client.address}", flush=True)
    showing = asyncio.ensure_future(show(client, aliases))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    to = ""
    try:
        while line := (await lines.readline()).decode("utf-8", "replace").strip("\r\n"):
            if line.startswith("/alias ") and len(line.split()) == 3:
                _, nick, address = line.split()
                aliases[nick] = address
                file.write_text(json.dumps(aliases, indent=2))
                continue
            nick, colon, text = line.partition(": ")
            if colon and nick in aliases:
                to = nick
            else:
                text = line
            try:
                # The first line is the sender's address. Leave it empty to stay anonymous.
                await client.send(f"{client.address}\n{text}".encode(), aliases.get(to, to))
            except NymtwError as error:
                print(error, flush=True)
    finally:
        showing.cancel()
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "client"))
