"""SOCKS and HTTP proxies at a client, and commands that use services over the mixnet."""
