"""A whole network of real processes on one machine: what `nymtw localnet` runs. `session` reads from top to bottom."""
