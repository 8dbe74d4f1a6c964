"""What all commands share, and the commands that need nothing but a collection."""
