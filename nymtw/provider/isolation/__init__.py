"""An implementation in a process of its own (`--isolate`): the node's keys are not in it, and out of its reach."""
