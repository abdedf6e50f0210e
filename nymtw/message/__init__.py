"""From an application's message to packets, and back. No clock, no I/O, no reactor."""
