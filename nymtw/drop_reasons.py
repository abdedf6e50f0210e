"""Drop reasons: the one list for counters, metrics and errors."""

from enum import StrEnum


class DropReason(StrEnum):
    """The reason why a packet was dropped, for counters, metrics and `PacketRejected`."""

    # refused by `nymtw.sphinx`
    WRONG_LENGTH = "wrong-length"
    LOW_ORDER_POINT = "low-order-point"
    NON_CANONICAL_POINT = "non-canonical-point"
    BAD_MAC = "bad-mac"
    UNKNOWN_FLAG = "unknown-flag"
    REFUSED_VERSION = "refused-version"
    MALFORMED_PAYLOAD = "malformed-payload"
    # refused by a node
    REPLAYED = "replayed"
    REPLAY_GUARD_FULL = "replay-guard-full"
    UNKNOWN_EPOCH = "unknown-epoch"
    UNKNOWN_NEXT_HOP = "unknown-next-hop"
    NOT_A_LAST_HOP = "not-a-last-hop"
    WRONG_LAYER = "wrong-layer"
    DELAY_TOO_LONG = "delay-too-long"
    PEER_SHARE = "peer-share"
    # refused by an edge for a client
    OVER_ALLOWANCE = "over-allowance"
    # lost in a full or closed queue
    DELAY_QUEUE_FULL = "delay-queue-full"
    LINK_QUEUE_FULL = "link-queue-full"
    LINK_DOWN = "link-down"
    TOO_LATE = "too-late"
    LINE_FULL = "line-full"
    SHUTDOWN = "shutdown"
    WORKER_LOST = "worker-lost"
    DISK_ERROR = "disk-error"
    # refused by a provider
    UNKNOWN_DESTINATION = "unknown-destination"
    MAILBOX_FULL = "mailbox-full"
    PROVIDER_ERROR = "provider-error"
    PROVIDER_BUSY = "provider-busy"
