"""List the members of a tar that a stranger may have made, reading its headers only.

CPython's `tarfile` trusts headers: an extended header is read into memory whole, whatever size it claims, a
negative size sends it in circles, and it raises whatever a malformed field leads it to. A shard needs none of
that: its members are plain files with short names, and anything odder is refused here.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from impure.manifests.base.errors import InputError

BLOCK = 512
MAX_NAME = 100  # bytes: of a member in the USTAR header itself

_END = bytes(BLOCK)
_MAGIC = (b"ustar\0", b"ustar ")  # POSIX, GNU
# Type flags:
_PLAIN = b"0\0"
_BARE = b"123456"  # links, devices, folders, pipes
_EXTENDED = b"xg"
_MAX_EXTENDED = 1 << 16
_NUMBER = re.compile(rb" *([0-7]+)[ \0]*")
_RECORD = re.compile(rb"[0-9]+ ([^=\n]+)=[^\n]*\n")
_MEANINGFUL = re.compile(rb"path|linkpath|size|hdrcharset|GNU\.sparse.*")  # change what a member is


@dataclass(frozen=True, slots=True)
class Member:
    """Where one member's content lies: in which tar, from which byte, how many; `plain` if it is a file."""

    path: Path
    name: str
    offset: int
    size: int
    plain: bool


def walk(path: Path) -> Iterator[Member]:
    """List a tar's members in order, reading headers only; in constant memory, and never a byte twice.

    Extended headers are passed over as long as they change neither name nor size: stock WebDataset writes
    one for each modification time.

    Raises:
        InputError: The file cannot be read, is cut short, or a header is malformed or of a kind that no
            shard needs.
    """
    try:
        with path.open("rb", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            at = 0
            while (header := _block(file, path, at)) != _END:
                member = _parse(header, path, at + BLOCK)
                at = member.offset + -(-member.size // BLOCK) * BLOCK
                if at > end:
                    raise InputError(f"{path}: cut short inside {member.name!r}; fetch or make it again")
                if header[156] in _EXTENDED:
                    _check_extended(file, member)
                else:
                    yield member
    except OSError as error:
        raise InputError(f"{path}: not a readable tar file ({error.strerror})") from error


def read_members(members: Mapping[str, Member]) -> dict[str, bytes]:
    """Read the content of members under the same names; each tar is opened once.

    Raises:
        InputError: A tar cannot be read, or has become shorter.
    """
    of_tar: dict[Path, dict[str, Member]] = {}
    for name, member in members.items():
        of_tar.setdefault(member.path, {})[name] = member
    contents: dict[str, bytes] = {}
    for path, listed in of_tar.items():
        contents |= _read(path, listed)
    if short := [members[name] for name, data in contents.items() if len(data) != members[name].size]:
        raise InputError(f"{short[0].path}: cut short inside {short[0].name!r}; fetch or make it again")
    return contents


def _read(path: Path, members: Mapping[str, Member]) -> dict[str, bytes]:
    """The content of one tar's members, which may be cut short."""
    contents: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            for name, member in members.items():
                file.seek(member.offset)
                contents[name] = file.read(member.size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return contents


def _block(file: BinaryIO, path: Path, at: int) -> bytes:
    """One header, or the empty block that ends a tar."""
    file.seek(at)
    header = file.read(BLOCK)
    if len(header) != BLOCK:
        raise InputError(f"{path}: no tar file" if at == 0 else f"{path}: cut short; fetch or make it again")
    return header


def _parse(header: bytes, path: Path, offset: int) -> Member:
    """Read the fields that matter of a header whose content begins at `offset`."""
    where = f"{path}: header at byte {offset - BLOCK}"
    if header[257:263] not in _MAGIC:
        raise InputError(f"{where}: no tar file, or damaged")
    if _number(header[148:156], where) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise InputError(f"{where}: damaged, its checksum is wrong")
    name = _text(header[:MAX_NAME])
    if header[262] == 0 and header[345]:  # POSIX keeps the front of a long path apart
        name = f"{_text(header[345:500])}/{name}"
    kind = header[156]
    size = _number(header[124:136], where)
    if kind not in _PLAIN + _BARE + _EXTENDED:
        raise InputError(f"{where}: member {name!r} is of kind {chr(kind)!r}, which no shard holds")
    if kind in _BARE and size:
        raise InputError(f"{where}: member {name!r} is no file and yet has {size} bytes")
    return Member(path, name, offset, size, kind in _PLAIN)


def _text(field: bytes) -> str:
    """A name up to its NUL, as ASCII."""
    return field.partition(b"\0")[0].decode("ascii", "backslashreplace")


def _number(field: bytes, where: str) -> int:
    """An octal number; binary ones are for files beyond 8 GiB, or negative."""
    match = _NUMBER.fullmatch(field)
    if not match:
        raise InputError(f"{where}: {field!r} is no octal number")
    return int(match[1], 8)


def _check_extended(file: BinaryIO, member: Member) -> None:
    """Refuse an extended header that changes what the next member is."""
    where = f"{member.path}: extended header at byte {member.offset - BLOCK}"
    if member.size > _MAX_EXTENDED:
        raise InputError(f"{where}: refused, {member.size} bytes are more than {_MAX_EXTENDED}")
    file.seek(member.offset)
    records = file.read(member.size)
    at = 0
    while record := _RECORD.match(records, at):
        if _MEANINGFUL.fullmatch(record[1]):
            raise InputError(f"{where}: refused, it sets {record[1].decode('ascii', 'replace')!r}")
        at = record.end()
    if at != len(records):
        raise InputError(f"{where}: malformed")
