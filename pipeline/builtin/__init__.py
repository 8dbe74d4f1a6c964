"""The built-in dataset and its classifier: all that the pipeline needs, with nothing to download."""
