"""The host of provider implementations: finding them, what they are given, and their bounds."""
