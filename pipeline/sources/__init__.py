"""Where clean photographs come from."""
