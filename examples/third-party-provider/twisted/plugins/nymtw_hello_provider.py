"""What nymtw finds. The name of this file must be one that no other distribution uses; import no reactor here."""

from nymtw.provider.plugin import ProviderFactory

hello = ProviderFactory("hello", "Greets whoever sends it a message.", "nymtw_hello.provider")
