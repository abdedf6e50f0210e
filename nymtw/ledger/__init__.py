"""The ledger: a deterministic state machine, what orders its transactions, and who asks it."""
