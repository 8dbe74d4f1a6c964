"""Defences that impure-train trains: the network, its loss, and what stands before a classifier."""
