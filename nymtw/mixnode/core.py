"""What a mixnode does with packets: it passes them on. No sockets."""

from nymtw.errors import DropReason
from nymtw.node.packet_engine import PacketEngine
from nymtw.sphinx import FinalHop, ForwardHop


class MixnodeCore(PacketEngine):
    """A packet engine at which nothing ends."""

    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """Drop it: either a mixnode was made the last hop of a route, or nobody of the next layer has this address."""
        final = isinstance(hop, FinalHop)
        self.account.dropped(DropReason.NOT_A_LAST_HOP if final else DropReason.UNKNOWN_NEXT_HOP)
