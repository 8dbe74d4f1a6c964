"""Defences with weights that impure-train learns: the network, its loss and what stands before a classifier."""
