"""What is fuzzed: each target takes any bytes and raises where nymtw.sphinx or nymtw.credentials breaks a promise.

A raw packet never gets past the MAC, so half of the packet target's inputs are sealed first: what the hop decrypts is
then the fuzzer's.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from nymtw.credentials import coconut, ecash
from nymtw.credentials.blind import BlindShare, Pending, Share
from nymtw.credentials.complaints import Complaint
from nymtw.credentials.dkg import Dealing, TransportKey, TransportSecret
from nymtw.credentials.keys import IssuerKey, SecretKey, VerificationKey
from nymtw.credentials.wire import Kind
from nymtw.errors import EncodingError, PacketRejected
from nymtw.sphinx import SURB, FinalHop, SizeClass, SURBRecord, Unwrapper, process_packet, recover_message
from nymtw.sphinx.header import header_mac, open_beta
from nymtw.sphinx.keys import derive_keys, public_key

PRIVATE_KEY = bytes(range(32))
ALPHA = public_key(bytes(range(1, 33)))
_HOP = X25519PrivateKey.from_private_bytes(PRIVATE_KEY)
_KEYS = derive_keys(_HOP.exchange(X25519PublicKey.from_public_bytes(ALPHA)))
_UNWRAPPER = Unwrapper({0: PRIVATE_KEY})
ACK_LENGTH, ACK_PAYLOAD = 386, 38


def seal(step: bytes) -> bytes:
    """An ack packet with a right MAC whose header decrypts to `step` (300 bytes) at the hop."""
    beta = open_beta(_KEYS.stream_key, step)[:300]
    return ALPHA + header_mac(_KEYS.mac_key, beta) + beta + bytes(ACK_PAYLOAD)


def check_packet(data: bytes) -> None:
    """First byte even: the rest is a packet. Odd: the rest is what the hop decrypts."""
    raw = data[1:]
    if data[:1] and data[0] % 2:
        raw = seal(raw[:300].ljust(300, b"\0"))
    (batched,) = _UNWRAPPER.unwrap_many([(0, raw)])
    try:
        hop = process_packet(raw, _HOP)
    except PacketRejected as rejected:
        reason = rejected.reason
    else:
        reason = None
    if reason is not None:
        assert isinstance(batched, PacketRejected)
        assert batched.reason is reason
        return
    assert batched == hop
    assert len(hop.replay_tag) == 32
    if isinstance(hop, FinalHop):
        assert (len(hop.destination), len(hop.identifier), len(hop.payload)) == (32, 16, len(raw) - 348)
        try:
            recover_message(hop.payload)
        except PacketRejected:
            pass
    else:
        assert (len(hop.next_address), len(hop.packet)) == (32, len(raw))
        assert 0 <= hop.delay < 2**64


def check_surb(data: bytes) -> None:
    """First byte even: the rest is a SURB. Odd: the rest is a record, and the SURB's packet is opened with it."""
    kind = SURBRecord if data[:1] and data[0] % 2 else SURB
    try:
        parsed = kind.from_bytes(data[1:])
    except EncodingError:
        return
    assert parsed.to_bytes() == data[1:]
    if isinstance(parsed, SURB):
        address, made = parsed.use(b"reply", size_class=SizeClass.ACK)
        assert (len(address), len(made)) == (32, ACK_LENGTH)
        return
    for opened in (
        lambda: parsed.open_packet(parsed.last_header + bytes(ACK_PAYLOAD)),
        lambda: parsed.open(bytes(ACK_PAYLOAD)),
        lambda: parsed.open(data),
    ):
        try:
            opened()
        except PacketRejected:
            pass


PARSERS = {
    Kind.SECRET_KEY: SecretKey.from_bytes,
    Kind.VERIFICATION_KEY: VerificationKey.from_bytes,
    Kind.ISSUER_KEY: IssuerKey.from_bytes,
    Kind.PENDING: Pending.from_bytes,
    Kind.BLIND_SHARE: BlindShare.from_bytes,
    Kind.SHARE: Share.from_bytes,
    Kind.COCONUT_REQUEST: coconut.Request.from_bytes,
    Kind.CREDENTIAL: coconut.Credential.from_bytes,
    Kind.SHOW: coconut.Show.from_bytes,
    Kind.SHOW_CONTEXT: coconut.Context.from_bytes,
    Kind.WITHDRAWAL: ecash.Withdrawal.from_bytes,
    Kind.INDEX_SIGNATURES: lambda data: ecash.HelperSignatures.from_bytes(data, ecash.Indices),
    Kind.DATE_SIGNATURES: lambda data: ecash.HelperSignatures.from_bytes(data, ecash.Dates),
    Kind.TICKET_BOOK: ecash.TicketBook.from_bytes,
    Kind.PAYMENT_INFO: ecash.PaymentInfo.from_bytes,
    Kind.PAYMENT: ecash.Payment.from_bytes,
    Kind.TRANSPORT_KEY: TransportKey.from_bytes,
    Kind.TRANSPORT_SECRET: TransportSecret.from_bytes,
    Kind.DEALING: Dealing.from_bytes,
    Kind.COMPLAINT: Complaint.from_bytes,
}


def check_credential(data: bytes) -> None:
    """The first byte is the type, which says whose parser gets all of it: one byte form for each object."""
    if not data or data[0] not in PARSERS:
        return
    try:
        parsed = PARSERS[Kind(data[0])](data)
    except EncodingError:
        return
    assert parsed.to_bytes() == data


TARGETS = {"packet": check_packet, "surb": check_surb, "credential": check_credential}
