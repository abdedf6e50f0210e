"""Sending: the outbox, cover traffic, and the Poisson streams that send both."""
