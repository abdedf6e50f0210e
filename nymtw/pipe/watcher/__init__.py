"""A watcher: says on the ledger what has come to the pipe on Ethereum."""
