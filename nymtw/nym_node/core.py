"""The packet engine of a node that takes any role: that of a mixnode and that of a gateway in one. No sockets."""

from typing import Any

from nymtw.errors import PacketRejected
from nymtw.message.payload import DROP_DESTINATION
from nymtw.mixnode.core import MixnodeCore
from nymtw.provider.core import ProviderCore
from nymtw.sphinx import FinalHop, ForwardHop, recover_message


class AnyCore(ProviderCore, MixnodeCore):
    """A packet engine for both roles. The role for a packet follows from the peers that could send it.

    The allowed peers depend on the packet's key epoch. So a packet that is under way during a change of role still
    meets the node in the role that its sender chose it for.
    """

    def __init__(self, **engine: Any) -> None:
        """`engine`: the arguments of `ProviderCore`."""
        super().__init__(**engine)

    def ends_here(self, hop: ForwardHop | FinalHop) -> None:
        """Handle a last hop as a provider does, unless it is an intact loop of this node."""
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
