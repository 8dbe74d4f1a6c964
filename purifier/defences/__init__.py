"""Defences behind one interface, and the model that joins one to a classifier."""
