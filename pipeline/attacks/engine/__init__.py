"""What all attacks share: threat model, criteria, loop, randomness, precision."""
