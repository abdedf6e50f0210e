"""What comes in at a client: mail opened and reassembled, messages for applications, replies."""
