"""A version of the topology that is being made: the vote on it, its document, and the directories that signed it."""

from dataclasses import dataclass, field

from nacl.signing import SigningKey

from nymtw.directory.consensus.rounds import Ballot
from nymtw.directory.consensus.votes import Endorsement, Roster, digest, endorsement_bytes, sign, signed_by
from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import EncodingError
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, SignedTopology, Topology, sign_topology, signed_bytes


@dataclass(slots=True)
class Version:
    """One version, by its serial number. Its endorsements are kept by directory."""

    serial: int
    ballot: Ballot
    roster: Roster
    endorsements: dict[bytes, Endorsement] = field(default_factory=dict)
    topology: Topology | None = None
    document: bytes = b""
    asked: set[tuple[bytes, bytes]] = field(default_factory=set)  # (directory, digest of the vote)
    early: bool = False  # it began before this directory votes
    late: bool = False  # the time in which all could sign is over
    done: bool = False

    def sign(self, topology: Topology, key: SigningKey) -> Endorsement:
        """Take `topology` as this directory's outcome, and sign it."""
        own = from_cbor(sign_topology(topology, [key]), SignedTopology, MAX_TOPOLOGY_LENGTH)
        self.topology, self.document = topology, own.document
        name, signature = digest(own.document), own.signatures[self.roster.own]
        proof = sign(key, endorsement_bytes(self.roster.trust.network, self.serial, name, signature))
        return Endorsement(name, signature, proof)

    def endorse(self, directory: bytes, endorsement: Endorsement) -> bool:
        """Keep the endorsement of `directory`; whether it is its first. Raises `EncodingError` for a bad proof."""
        if self.roster.signer(directory) in self.endorsements:
            return False
        content = endorsement_bytes(self.roster.trust.network, self.serial, endorsement.digest, endorsement.signature)
        if not signed_by(directory, endorsement.proof, content):
            raise EncodingError("an endorsement is not signed by its directory")
        self.endorsements[directory] = endorsement
        return True

    def signed(self) -> bytes | None:
        """The signed topology, once all have signed it, or enough and the others have had their time."""
        name, content = digest(self.document), signed_bytes(self.document)
        signatures = {
            key: each.signature
            for key, each in self.endorsements.items()
            if each.digest == name and signed_by(key, each.signature, content)
        }
        enough = self.roster.trust.threshold if self.late else len(self.roster.trust.directories)
        if len(signatures) < enough:
            return None
        return to_cbor(SignedTopology(document=self.document, signatures=signatures))

    def dissenters(self) -> list[bytes]:
        """The other directories that signed another topology than this one did."""
        signed = [key for key in self.roster.others if self.document and key in self.endorsements]
        return [key for key in signed if self.endorsements[key].digest != digest(self.document)]
