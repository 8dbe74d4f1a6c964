"""RIAE, the network."""
