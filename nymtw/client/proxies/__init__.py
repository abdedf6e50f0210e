"""SOCKS and HTTP proxies at a client, and commands that ask services over the mixnet."""
