"""Requests of nodes and clients to directories: over HTTP, several as one, and the newest topology at hand."""
