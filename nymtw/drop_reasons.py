"""Why packets are dropped: the one list that counters, metrics and errors share."""

from enum import StrEnum


class DropReason(StrEnum):
    """Why a packet was dropped: the one enumeration that counters, metrics and `PacketRejected` share."""

    # what `nymtw.sphinx` refuses
    WRONG_LENGTH = "wrong-length"
    LOW_ORDER_POINT = "low-order-point"
    NON_CANONICAL_POINT = "non-canonical-point"
    BAD_MAC = "bad-mac"
    UNKNOWN_FLAG = "unknown-flag"
    REFUSED_VERSION = "refused-version"
    MALFORMED_PAYLOAD = "malformed-payload"
    # what a node refuses
    REPLAYED = "replayed"
    REPLAY_GUARD_FULL = "replay-guard-full"
    UNKNOWN_EPOCH = "unknown-epoch"
    UNKNOWN_NEXT_HOP = "unknown-next-hop"
    NOT_A_LAST_HOP = "not-a-last-hop"
    WRONG_LAYER = "wrong-layer"
    DELAY_TOO_LONG = "delay-too-long"
    PEER_SHARE = "peer-share"
    # what an edge refuses its clients
    OVER_ALLOWANCE = "over-allowance"
    # what a full or closed queue loses
    DELAY_QUEUE_FULL = "delay-queue-full"
    LINK_QUEUE_FULL = "link-queue-full"
    LINK_DOWN = "link-down"
    SHUTDOWN = "shutdown"
    WORKER_LOST = "worker-lost"
    DISK_ERROR = "disk-error"
    # what a provider refuses
    UNKNOWN_DESTINATION = "unknown-destination"
    MAILBOX_FULL = "mailbox-full"
    PROVIDER_ERROR = "provider-error"
    PROVIDER_BUSY = "provider-busy"
