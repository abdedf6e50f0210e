"""The issuing side of credentials on this machine: key files, and the command that deals them."""
