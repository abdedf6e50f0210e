"""The broadcaster: submits signed transactions of clients to chains."""
