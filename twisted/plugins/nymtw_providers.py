"""The providers that come with nymtw."""

from nymtw.provider.plugin import ProviderFactory

store = ProviderFactory("store", "Keeps messages for clients, who pull them.", "nymtw.provider.store")
