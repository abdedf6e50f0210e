"""A provider for nymtw that keeps whatever is sent to it as files in a folder."""
