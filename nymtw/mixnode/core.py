"""What a mixnode does with packets: it passes them on, and takes back loops of its own. No sockets."""

from collections.abc import Callable
from typing import Any

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected
from nymtw.mixing.loop_loss import PAUSE, SLOW_DOWN
from nymtw.node.engine.packet_engine import PacketEngine
from nymtw.sphinx import FinalHop, ForwardHop, recover_message


class MixnodeCore(PacketEngine):
    """A packet engine at which nothing ends but loops."""

    def __init__(self, **engine: Any) -> None:
        """`engine`: what `PacketEngine` is given."""
        super().__init__(**engine)
        self.came_back: Callable[[bytes], bool] = _nobody_waits

    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """Drop it, unless it is a loop of this node that comes back whole.

        Either a mixnode was made the last hop of a route, or nobody of the next layer has this address.
        """
        if not isinstance(hop, FinalHop):
            self.counters.dropped(DropReason.UNKNOWN_NEXT_HOP)
            return
        try:
            recover_message(hop.payload)
        except PacketRejected:
            self.counters.dropped(DropReason.MALFORMED_PAYLOAD)
            return
        if self.came_back(hop.identifier):
            self.counters.delivered()
        else:
            self.counters.dropped(DropReason.NOT_A_LAST_HOP)

    def act(self, action: str) -> None:
        """What a cover policy has decided: hold packets twice as long, or release none, from now on; or as usual."""
        self.stretch = 2 if action == SLOW_DOWN else 1
        if action == PAUSE:
            self._queue.pause()
        else:
            self._queue.resume()


def _nobody_waits(identifier: bytes) -> bool:
    return False
