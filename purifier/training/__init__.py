"""Training runs: the step, the loop, the folder, the log, validation."""
