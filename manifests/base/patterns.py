"""Files that a pattern names: `*`, `?`, `[ab]`, and WebDataset's braces, `{000000..000009}` or `{a,b}`."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from impure.manifests.base.errors import InputError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


def find_files(pattern: str) -> list[Path]:
    """Files and folders that a path or a pattern names, as absolute paths, in order.

    A name that is there as it stands is no pattern; nor are square brackets, where names hold them.

    Raises:
        InputError: Braces name a file that is not there.
    """
    if Path(pattern).exists():
        return [Path(pattern).absolute()]
    names: set[str] = set()
    for alternative in expand_braces(pattern):
        matching = glob.glob(alternative.replace("[", "[[]")) or glob.glob(alternative)
        if not matching and alternative != pattern and not {*alternative} & {*"*?"}:
            raise InputError(f"{alternative}: no such file, which {pattern} names")
        names.update(matching)
    return [Path(name).absolute() for name in sorted(names)]


def expand_braces(pattern: str) -> Iterator[str]:
    """What a pattern with braces stands for, in order: `{08..10}` for 08, 09, 10, and `{a,b}` for a, b."""
    braces = next((match for match in _BRACES.finditer(pattern) if _choices(match[1])), None)
    if braces is None:
        yield pattern
        return
    for choice in _choices(braces[1]):
        for rest in expand_braces(pattern[braces.end() :]):
            yield f"{pattern[: braces.start()]}{choice}{rest}"


def _choices(text: str) -> list[str]:
    """What the inside of braces offers; nothing where they are part of a name."""
    if match := _RANGE.fullmatch(text):
        first, last = match.groups()
        return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return text.split(",") if "," in text else []
