"""The local sockets for other programs, and the commands that use these sockets."""
