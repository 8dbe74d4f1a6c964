"""The one exception that a user caused and can mend."""


class InputError(Exception):
    """Bad input: the message says what is wrong, where, and how to mend it, in one line."""


def first_line(error: BaseException) -> str:
    """The first line of what a library said, or the kind of error where it said nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
