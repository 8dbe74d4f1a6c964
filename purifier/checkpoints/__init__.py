"""What is kept of a training, other people's weights, exported files and the Hub."""
