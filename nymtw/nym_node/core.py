"""What a node that takes any role does with packets: what a mixnode does, and what a gateway does. No sockets."""

from typing import Any

from nymtw.errors import PacketRejected
from nymtw.message.payload import DROP_DESTINATION
from nymtw.mixnode.core import MixnodeCore
from nymtw.provider.core import ProviderCore
from nymtw.sphinx import FinalHop, ForwardHop, recover_message


class AnyCore(ProviderCore, MixnodeCore):
    """A packet engine that is both. Which of the two a packet finds here was decided by who could send it here.

    Who is beside this node goes by the key epoch of the packet, so one that is under way while the node changes its
    role finds it in the role that it was made for.
    """

    def __init__(self, **engine: Any) -> None:
        """`engine`: what `ProviderCore` is given."""
        super().__init__(**engine)

    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """As at a provider, unless it is a loop of this node that comes back whole."""
        if isinstance(hop, FinalHop) and hop.destination == DROP_DESTINATION and self._is_own_loop(hop):
            self.counters.delivered()
        else:
            super().ends_here(hop)

    def _is_own_loop(self, hop: FinalHop) -> bool:
        try:
            recover_message(hop.payload)
        except PacketRejected:
            return False
        return self.came_back(hop.identifier)
