"""Errors, canonical JSON, files, images and tables that everything else is made of."""
