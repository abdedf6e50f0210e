"""Announcements of a node to the directory: its presence, its place, and its traffic."""
