"""Ethereum as the ledger's roles see it: a node's JSON-RPC, token and pipe, transactions, a chain to try it on."""
