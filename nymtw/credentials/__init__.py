"""Anonymous credentials: Coconut and compact e-cash on one core. No clock, no I/O, no reactor.

`docs/credentials.md` gives the schemes, every byte form, and who learns what. Needs the extra `nymtw[credentials]`;
nothing else in nymtw does.
"""
