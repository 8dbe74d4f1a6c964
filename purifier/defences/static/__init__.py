"""Defences without weights, one file each."""
