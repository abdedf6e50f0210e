"""The roles between Ethereum and the ledger: watcher, redeemer, faucet, and a chain to try them on."""
