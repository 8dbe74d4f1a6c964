"""A collection in any fsspec filesystem: list its files, and read, download and upload them."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impure.manifests.base.files import sha256_file
from impure.manifests.collection.layout import SUMS, is_own
from impure.manifests.sharing.remote_errors import RemoteError, remote_error, with_retries

Advance = Callable[[int], object]
"""Called with the number of bytes that came; a negative number takes some back."""

MAX_SMALL = 1 << 26  # bytes; no marker, plan or card is larger

_CHUNK = 1 << 22  # bytes asked for at once
_STREAMED = 1 << 18  # bytes read at once of a stream: aiohttp buffers twice as much, and a cut loses that


class _NoRanges(Exception):
    """The server has only whole files to give."""


@dataclass(frozen=True, slots=True)
class RemoteCollection:
    """A collection at an fsspec URL; see `connect`.

    Attributes:
        url: Without a slash at the end; for messages.
        filesystem: fsspec's.
        root: The collection's root in it.
        sums: SHA-256 by name as SHA256SUMS says, where files cannot be listed (the web); else None.
    """

    url: str
    filesystem: Any
    root: str
    sums: dict[str, str] | None = None

    def names(self) -> list[str]:
        """Every file of a collection that lies there, sorted.

        Raises:
            RemoteError: They cannot be listed.
        """
        return sorted(self.sizes() if self.sums is None else [*self.sums, SUMS])

    def sizes(self) -> dict[str, int]:
        """The bytes of every file of a collection that lies there, by name, as the filesystem lists them.

        Raises:
            RemoteError: They cannot be listed.
        """
        listed = with_retries(self._list)
        sizes = {path.removeprefix(self.root).lstrip("/"): info["size"] for path, info in listed.items()}
        return {name: size for name, size in sizes.items() if is_own(name)}

    def _list(self) -> dict[str, dict[str, Any]]:
        """What the filesystem tells of all files below the root, by path."""
        with self._remote_errors(""):
            self.filesystem.invalidate_cache()
            return dict(self.filesystem.find(self.root, detail=True))

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine."""
        protocol = self.filesystem.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def read(self, name: str, copy: Path | None = None) -> bytes:
        """The content of a small file.

        Args:
            name: The file.
            copy: A local file that may be a copy of it: if SHA256SUMS says so, nothing is downloaded.

        Raises:
            RemoteError: It cannot be read, is larger than `MAX_SMALL`, or is not what SHA256SUMS says.
        """
        if self.sums and copy is not None and copy.is_file() and sha256_file(copy) == self.sums.get(name):
            return copy.read_bytes()
        data = with_retries(lambda: b"".join(self._chunks(name, 0, MAX_SMALL)))
        if self.sums is not None and name != SUMS:
            self._check_hash(name, hashlib.sha256(data).hexdigest(), self.sums.get(name), SUMS)
        return data

    def download(
        self, name: str, part: Path, size: int, sha256: str, advance: Advance = lambda count: None
    ) -> None:
        """Make `part` a copy of a file, going on from what an interrupted call left there.

        Args:
            name: The file in the collection.
            part: Where to, on the local disk.
            size: How many bytes it has.
            sha256: What they hash to.
            advance: See `Advance`.

        Raises:
            RemoteError: It cannot be read, or has other bytes than its marker says.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        resumed = _size(part)
        if resumed > size:
            part.unlink()
            resumed = 0
        advance(resumed)
        with_retries(lambda: self._append(name, part, size, advance))
        if resumed and sha256_file(part) != sha256:  # what lay there was of other bytes: start over
            part.unlink()
            advance(-size)
            with_retries(lambda: self._append(name, part, size, advance))
        actual = sha256_file(part)
        if actual != sha256:
            part.unlink()
        self._check_hash(name, actual, sha256, "its marker")

    def upload(self, path: Path, name: str) -> None:
        """Copy a local file there, over what is there.

        Raises:
            RemoteError: It cannot be written, or has another size afterwards.
        """

        def put() -> None:
            with self._remote_errors(name):
                self.filesystem.put_file(str(path), f"{self.root}/{name}")
                size = self.filesystem.info(f"{self.root}/{name}")["size"]
            if size != path.stat().st_size:
                raise RemoteError(f"{self.url}/{name}: arrived with {size} bytes", transient=True)

        with_retries(put)

    def _append(self, name: str, part: Path, size: int, advance: Advance) -> None:
        """Add to a file what it lacks; from the start where the server cannot do better."""
        begun = _size(part)
        try:
            self._write(name, part, begun, size, advance)
        except _NoRanges:
            advance(-begun)
            self._write(name, part, 0, size, advance)
        if _size(part) < size:
            raise RemoteError(f"{self.url}/{name}: ended early", transient=True)

    def _write(self, name: str, part: Path, start: int, size: int, advance: Advance) -> None:
        """Write a file from byte `start` on."""
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in self._chunks(name, start, size) if start < size else ():
                file.write(chunk)
                advance(len(chunk))

    def _chunks(self, name: str, start: int, most: int) -> Iterator[bytes]:
        """A file's bytes from `start` on; more than `most` in all are refused."""
        piece = _CHUNK if start or self.sums is None else _STREAMED
        with self._remote_errors(name, ranges=start > 0):
            with self.filesystem.open(f"{self.root}/{name}", "rb", **self._read_options(start, most)) as file:
                if start:
                    file.seek(start)
                while chunk := file.read(piece):
                    start += len(chunk)
                    if start > most:
                        raise RemoteError(f"{self.url}/{name}: has more than {most} bytes")
                    yield chunk

    def _read_options(self, start: int, most: int) -> dict[str, Any]:
        """How fsspec is to read: from the web in one stream, or in ranges to go on."""
        if self.sums is None:
            return {"block_size": _CHUNK}
        # A size spares one more request to the server.
        return {"block_size": _CHUNK if start else 0, "cache_type": "none", "size": most}

    def _check_hash(self, name: str, actual: str, expected: str | None, source: str) -> None:
        """Refuse bytes with another hash."""
        if actual != expected:
            raise RemoteError(
                f"{self.url}/{name}: has another SHA-256 than {source} says; its owner should run "
                "`impure-data verify` and `impure-data card` and share it again"
            )

    @contextmanager
    def _remote_errors(self, name: str, *, ranges: bool = False) -> Iterator[None]:
        """Turn whatever a filesystem raises into a RemoteError."""
        try:
            yield
        except RemoteError:
            raise
        except Exception as error:  # noqa: BLE001 - every filesystem has a library of errors of its own
            if ranges and isinstance(error, ValueError):
                raise _NoRanges from error
            raise remote_error(f"{self.url}/{name}", error) from error


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0
