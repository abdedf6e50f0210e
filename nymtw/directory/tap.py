"""`twistd nym-directory`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.application.service import IService

from nymtw.directory.profiles import PROFILES, profile
from nymtw.node.tap import RoleOptions, port_number, run_or_exit, several
from nymtw.topology.versions import version

PROGRAM = "nym-directory"
DEFAULT_ID = "directory"
_RATES = (
    "loop-cover-traffic-rate",
    "message-sending-rate",
    "drop-cover-traffic-rate",
    "fetch-message-rate",
    "average-packet-delay",
    "fetch-slots",
    "mixnode-loop-rate",
    "service-sending-rate",
    "line-wait",
    "line-headroom",
)


class Options(RoleOptions):
    """The command line; what is not given comes from `config.toml`."""

    longdesc = (
        "The directory: nodes announce themselves to it, and it publishes a signed list of them. It listens on "
        "127.0.0.1:8080 unless it is told otherwise; --host=0.0.0.0 opens it to the network."
    )
    optParameters: ClassVar[list[Any]] = [
        ["public-url", None, None, "URL at which others reach it, for the network's file (its address and port)"],
        ["refresh", None, None, "Seconds from one signed topology to the next (60)", float],
        ["expiry", None, None, "Seconds until a silent node leaves the topology (three refreshes, at least 60)", float],
        ["validity", None, None, "Seconds for which a topology can be used if the directory is away", float],
        ["epoch-seconds", None, None, "Seconds for which a Sphinx key is the current one (86400)", int],
        ["capacity", None, None, "The most nodes that are kept (10000)", int],
        ["per-prefix", None, None, "The most nodes of one /24 or /48 that no allow-list names; 0: any number (8)", int],
        [
            "minimum-client-version",
            None,
            None,
            "The oldest version whose clients may send, such as 0.2.0",
            version,
        ],
        ["certificate", None, None, "PEM file of a certificate and those above it, for HTTPS"],
        ["certificate-key", None, None, "PEM file of the certificate's private key"],
        ["https-port", None, None, "TCP port for HTTPS, where there is a certificate (8443)", port_number],
        ["threshold", None, None, "Of how many directories a topology needs the signatures (more than half)", int],
        ["history", None, None, "File or postgresql:// URL in which metrics are kept (history.sqlite)"],
        ["loop-cover-traffic-rate", None, None, "Recommended to clients: loops a second (5)", float],
        ["message-sending-rate", None, None, "Recommended to clients: packets a second (20)", float],
        ["drop-cover-traffic-rate", None, None, "Recommended to clients: drop cover, packets a second (0)", float],
        ["fetch-message-rate", None, None, "Recommended to clients: pulls a second (10)", float],
        ["average-packet-delay", None, None, "Recommended to clients: seconds a packet waits at a hop (0.05)", float],
        ["fetch-slots", None, None, "Recommended to clients: slots in the answer to a pull (16)", int],
        ["mixnode-loop-rate", None, None, "Recommended to mixnodes: loops a second (14)", float],
        [
            "service-sending-rate",
            None,
            None,
            "Recommended to services: packets a second, replies or cover (100)",
            float,
        ],
        [
            "line-wait",
            None,
            None,
            "Seconds that a packet waits for its slot on a padded line (0.015); 0: none is",
            float,
        ],
        ["line-headroom", None, None, "What padded lines carry over what they are offered, a factor (1.25)", float],
        ["profile", None, None, "default, safer or faster: sets those of these that are not given", profile],
    ]
    opt_peer = several("peer", "URL=KEY of another directory that signs with this one; again for each of them")
    optFlags: ClassVar[list[Any]] = [
        ["unsigned-localhost", None, "Show what this machine posts without a signature, to try old programs"],
        ["trust-hosts", None, "Believe a node's address even if its posts come from another one"],
    ]

    def sections(self) -> Mapping[str, Mapping[str, Any]]:
        """What was given, as the sections of `config.toml`."""
        section = {
            "id": self["id"] or DEFAULT_ID,
            **self.given(
                "host",
                "port",
                "public-url",
                "refresh",
                "expiry",
                "validity",
                "epoch-seconds",
                "capacity",
                "per-prefix",
                "history",
                "threshold",
                "minimum-client-version",
                "certificate",
                "certificate-key",
                "https-port",
            ),
        }
        if self.get("peer"):
            section["peers"] = self["peer"]
        for flag in ("trust-hosts", "unsigned-localhost"):
            if self[flag]:
                section[flag.replace("-", "_")] = True
        chosen = PROFILES[self["profile"]] if self["profile"] else {}
        return {"directory": section, "recommended": {**chosen, **self.given(*_RATES)}}


def makeService(options: Options) -> IService:
    """The service, or the end of the process with one line."""

    def build(reactor: Any) -> Any:
        from nymtw.directory.service import DirectoryService, load_directory_config
        from nymtw.node.home import NodeHome

        home = NodeHome("directory", options["id"] or DEFAULT_ID)
        return DirectoryService.from_config(reactor, home, load_directory_config(home, options.sections()))

    return run_or_exit(PROGRAM, options, build)
