"""The validator: a node of the ledger, alone or with others under CometBFT."""
