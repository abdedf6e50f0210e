"""Turns application messages into packets, and back. No clock, no I/O, no reactor."""
