"""Training data: stored pairs and photographs as batches."""
