"""The providers that come with nymtw."""

from nymtw.provider.plugin import ProviderFactory

store = ProviderFactory("store", "Keeps messages until clients pull them.", "nymtw.provider.store")
echo = ProviderFactory(
    "echo", "Sends each message back: the smallest provider, a first example to read.", "nymtw.provider.echo"
)
webproxy = ProviderFactory("webproxy", "Makes web requests for clients.", "nymtw.provider.webproxy.service")
broadcaster = ProviderFactory(
    "broadcaster",
    "Submits signed transactions to Ethereum, CometBFT and Bitcoin nodes.",
    "nymtw.provider.broadcaster.service",
)
exit_ = ProviderFactory("exit", "Opens TCP connections for clients.", "nymtw.provider.exit.service")
