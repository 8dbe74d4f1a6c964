"""What every defence is made of: its interface, parameters and the pieces that several share."""
