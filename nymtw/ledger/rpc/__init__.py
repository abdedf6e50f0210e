"""The ledger over HTTP: routes over an `ILedger` on one side, an `ILedger` over URLs on the other."""
