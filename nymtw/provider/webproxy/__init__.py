"""The web proxy: web requests for clients of the mixnet."""
