"""The one exception that a user caused and can mend."""


class InputError(Exception):
    """Bad input: the message says what is wrong, where, and how to mend it, in one line."""
