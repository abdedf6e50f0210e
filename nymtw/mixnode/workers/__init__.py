"""A mixnode on several cores: worker processes, and the node's side of them."""
