"""What nymtw finds. The name of this file must be one that no other distribution uses; import no reactor here."""

from nymtw.provider.plugin import ProviderFactory

deaddrop = ProviderFactory("deaddrop", "Keeps what is sent to it as files in a folder.", "deaddrop.provider")
