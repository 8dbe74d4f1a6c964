"""One collection on the disk: its schema, its names, its parts, and how they are kept true."""
