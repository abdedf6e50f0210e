"""The exit: TCP connections for whoever asks over the mixnet."""
