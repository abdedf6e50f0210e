"""The rate at which a gateway pushes mail, from what the topology recommends to clients."""

from nymtw.topology.document import Recommended


def downlink_rate(recommended: Recommended) -> float:
    """Slots a second that are pushed to a client, at least 1.

    The sum of three parts: its own loops, the acks of everything it sends, and the packets of one other client to it.
    """
    sending = recommended.message_sending_rate
    own = sending + recommended.loop_cover_traffic_rate + recommended.drop_cover_traffic_rate
    return max(1.0, 2 * own + sending)
