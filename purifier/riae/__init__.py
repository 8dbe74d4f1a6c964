"""The network: RIAE, its parts, and how a trained one is read."""
