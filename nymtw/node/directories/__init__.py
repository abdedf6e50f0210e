"""How nodes and clients ask directories: over HTTP, several as one, and the newest topology at hand."""
