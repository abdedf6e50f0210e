"""The pure state machine: no clock, no chance, no floats, no I/O. The formats are in `docs/ledger.md`."""
