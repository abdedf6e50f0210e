"""The process around a role: clock, log, reload, and its end with its parent."""
