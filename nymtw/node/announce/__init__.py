"""What a node tells the directory: that it is there, where, and how much it carries."""
