"""The framework around provider implementations: discovery, context, limits, sending and receiving."""
