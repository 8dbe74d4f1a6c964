"""Failures that can be foreseen: the command line shows one line for each, without a traceback."""


class ImpureError(Exception):
    """A foreseeable failure: the message says in one line what is wrong, where, and how to mend it."""


class InputError(ImpureError):
    """Bad input: an option, a file or a collection that somebody gave is not what it has to be."""


class WriteError(ImpureError):
    """A file or folder cannot be written: the disk is full, read-only, broken or somebody else's."""


class ReadBackError(ImpureError):
    """What is read back is not what was encoded, kept or written: the memory or the disk is at fault."""


def first_line(error: BaseException) -> str:
    """The first line of what a library said, or the kind of error where it said nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
