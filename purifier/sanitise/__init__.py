"""Taking backdoor triggers out of a data set."""
