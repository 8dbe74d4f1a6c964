"""Attacks of other libraries, to compare ours with."""
