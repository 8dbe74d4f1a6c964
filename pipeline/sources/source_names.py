"""The name of the built-in images, for every place that compares with it; free of torch."""

BUILTIN = "builtin"
"""Names the built-in dataset as a source, and the built-in classifier as a target."""
