"""The twistd commands of nymtw. No import here may install a reactor."""

from twisted.application.service import ServiceMaker

directory = ServiceMaker(
    "nymtw directory", "nymtw.directory.tap", "A directory: who is in the mixnet, signed", "nym-directory"
)
mixnode = ServiceMaker("nymtw mixnode", "nymtw.mixnode.tap", "A mixnode: holds packets, passes them on", "nym-mixnode")
provider = ServiceMaker("nymtw provider", "nymtw.provider.tap", "A provider: where packets end", "nym-provider")
gateway = ServiceMaker(
    "nymtw gateway", "nymtw.gateway.tap", "A gateway: the clients' door to the mixnet", "nym-gateway"
)
client = ServiceMaker("nymtw client", "nymtw.client.tap", "A client: sends and receives messages", "nym-client")
node = ServiceMaker("nymtw node", "nymtw.nym_node.tap", "A node that is a mixnode, a gateway, or either", "nym-node")
validator = ServiceMaker("nymtw validator", "nymtw.validator.tap", "A validator: a node of the ledger", "nym-validator")
watcher = ServiceMaker(
    "nymtw watcher", "nymtw.pipe.watcher.tap", "A watcher: notarises what comes from Ethereum", "nym-watcher"
)
redeemer = ServiceMaker(
    "nymtw redeemer", "nymtw.pipe.redeemer.tap", "A redeemer: lets tokens out on Ethereum", "nym-redeemer"
)
faucet = ServiceMaker("nymtw faucet", "nymtw.pipe.faucet.tap", "A faucet: gives test tokens", "nym-faucet")
devchain = ServiceMaker(
    "nymtw devchain", "nymtw.pipe.devchain.tap", "A chain of Ethereum for trying things", "nym-devchain"
)
