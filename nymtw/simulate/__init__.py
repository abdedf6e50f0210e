"""`nymtw simulate`: attacks on a simulated network, trial by trial, and what comes of them. Needs `nymtw[lab]`."""
