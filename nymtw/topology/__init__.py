"""The network's nodes and clients, as signed documents, and the posts of nodes. No clock, no I/O, no reactor."""
