"""A faucet: gives test tokens, on development chains alone."""
