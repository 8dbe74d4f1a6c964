"""The attacks themselves, one file each."""
