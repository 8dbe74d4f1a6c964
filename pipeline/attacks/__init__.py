"""The attacks: what each one is, with which parameters, and how to run it."""
