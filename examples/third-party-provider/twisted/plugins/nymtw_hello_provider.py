"""The plugin that nymtw finds. No other distribution may use the name of this file. Do not import the reactor here."""

from nymtw.provider.plugin import ProviderFactory

hello = ProviderFactory("hello", "The provider hello.", "nymtw_hello.provider")
