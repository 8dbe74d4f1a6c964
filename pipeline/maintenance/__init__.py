"""Collections that exist already: checked against their targets, repaired, rebuilt."""
