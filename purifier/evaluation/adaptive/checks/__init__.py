"""What tells whether an adaptive evaluation can be believed."""
