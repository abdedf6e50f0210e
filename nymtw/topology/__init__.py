"""Who is in the network, as the directory signs it, and routes through it. No clock, no I/O, no reactor."""
