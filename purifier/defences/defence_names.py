"""Names of the defences, for the command line: free of torch, so that help comes at once.

`defence_registry` holds the defences themselves; a test compares the two.
"""

DEFENCE_NAMES = ("none", "jpeg", "riae")
