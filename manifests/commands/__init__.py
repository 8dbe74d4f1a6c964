"""The command line's habits, and the commands that need nothing but a collection."""
