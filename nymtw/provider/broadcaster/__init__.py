"""The broadcaster: signed transactions to chains for whoever sends them."""
