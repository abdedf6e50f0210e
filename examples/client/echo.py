"""An echo bot: sends every message back, without learning who the sender is.

Run it with the name of a client that `nym-client init` made: python echo.py bob
Send it a message: nym-client send --surbs 5 ADDRESS
"""

import asyncio
import sys

from nymtw.client import Client
from nymtw.errors import NymtwError


async def main(name: str) -> None:
    client = await Client.open(name)
    print(f"Echoing messages to {client.address}", flush=True)
    try:
        async for message in client.messages():
            try:
                await message.reply(message.data)
                print(f"echoed {len(message.data)} bytes", flush=True)
            except NymtwError as error:
                print(f"not echoed: {error}", flush=True)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "client"))
