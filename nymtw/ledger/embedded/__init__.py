"""A ledger of one process: blocks when transactions wait, each signed by the node."""
