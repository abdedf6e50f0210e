"""The local sockets by which other programs use a client, and the commands that speak to them."""
