"""Starts a localnet beside others that are being started."""

from nymtw.localnet.localnet import Localnet, PortTaken


async def complete(localnet: Localnet) -> None:
    """Start it, and wait until it is complete; where another one took a port after it was chosen, on other ports."""
    for last in (False, False, True):
        try:
            await localnet.start()
            await localnet.complete()
        except PortTaken:
            if last:
                raise
            await localnet.restart_elsewhere()
        else:
            return
