"""Offline data pipeline: sources, targets, sampling, attacks, shards."""
