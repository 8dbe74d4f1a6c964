"""Purifying image files, large ones in tiles."""
