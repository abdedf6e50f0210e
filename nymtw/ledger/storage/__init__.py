"""The state on disk, and a node's own copy of the chain: what both drivers do with a block."""
