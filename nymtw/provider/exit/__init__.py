"""The exit: TCP connections for clients of the mixnet."""
