"""From photographs to attacked shards: sample, attack, write, report."""
