"""nymtw: a Nym mixnet on Twisted. `docs/architecture.md` says which room does what."""
