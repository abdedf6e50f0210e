"""nymtw: a Nym mixnet on Twisted. `docs/architecture.md` describes the packages."""
