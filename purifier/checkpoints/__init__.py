"""Weights on the disk and on the Hub: ours, others', exported."""
