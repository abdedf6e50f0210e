"""The providers that come with nymtw."""

from nymtw.provider.plugin import ProviderFactory

store = ProviderFactory("store", "Keeps messages for clients, who pull them.", "nymtw.provider.store")
echo = ProviderFactory("echo", "Sends back what it is sent: the smallest one, to read first.", "nymtw.provider.echo")
webproxy = ProviderFactory("webproxy", "Makes web requests for whoever sends them.", "nymtw.provider.webproxy.service")
broadcaster = ProviderFactory(
    "broadcaster",
    "Submits signed transactions to Ethereum, CometBFT and Bitcoin nodes.",
    "nymtw.provider.broadcaster.service",
)
exit_ = ProviderFactory("exit", "Opens TCP connections for whoever asks.", "nymtw.provider.exit.service")
