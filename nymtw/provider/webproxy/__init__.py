"""The web proxy: web requests for whoever sends them."""
