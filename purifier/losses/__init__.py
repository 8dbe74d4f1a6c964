"""What RIAE is trained to make small."""
