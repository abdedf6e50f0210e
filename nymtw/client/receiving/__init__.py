"""Receiving: mail is opened and reassembled into messages for applications, and replies."""
