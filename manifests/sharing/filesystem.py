"""A collection somewhere else: what it holds, and its bytes, through any fsspec filesystem."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from impure.manifests.base.errors import ImpureError, InputError, first_line
from impure.manifests.base.files import sha256_file
from impure.manifests.collection.layout import SUMS, is_own, parse_sums

T = TypeVar("T")
Advance = Callable[[int], object]

SMALL = 1 << 26  # bytes; no marker, plan or card is larger
PAUSES = (0.5, 2.0, 8.0)  # seconds before trying again
_BLOCK = 1 << 22  # bytes asked for at once
_SILENCE = 60  # seconds without a byte until a server counts as gone
_PASSING = (408, 425, 429)  # refusals of a web server that pass, as those from 500 do


class RemoteError(ImpureError):
    """Something far away cannot be read or written; `passing` where another try may help."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class _NoRanges(Exception):
    """The server has only whole files to give."""


@dataclass(frozen=True, slots=True)
class Share:
    """A collection at an fsspec URL.

    Attributes:
        url: Without a slash at the end; for messages.
        files: fsspec's filesystem.
        base: The collection's root in it.
        sums: What SHA256SUMS says, where there is no listing (the web); else None.
    """

    url: str
    files: Any
    base: str
    sums: dict[str, str] | None = None

    def names(self) -> list[str]:
        """Every file of the share that a collection has, sorted.

        Raises:
            RemoteError: It cannot be listed.
        """
        if self.sums is not None:
            return sorted([*self.sums, SUMS])

        def listing() -> list[str]:
            with self._clearly(""):
                self.files.invalidate_cache()
                return list(self.files.find(self.base))

        found = (path.removeprefix(self.base).lstrip("/") for path in patiently(listing))
        return sorted(filter(is_own, found))

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine."""
        protocol = self.files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def read(self, name: str, copy: Path | None = None) -> bytes:
        """The content of a small file.

        Args:
            name: The file.
            copy: Of it, perhaps: where SHA256SUMS vouches for that, it spares the way.

        Raises:
            RemoteError: It cannot be had, is larger than `SMALL`, or is not what SHA256SUMS says.
        """
        if self.sums and copy is not None and copy.is_file() and sha256_file(copy) == self.sums.get(name):
            return copy.read_bytes()
        data = patiently(lambda: b"".join(self._chunks(name, 0, SMALL)))
        if self.sums is not None and name != SUMS:
            self._check(name, hashlib.sha256(data).hexdigest(), self.sums.get(name), SUMS)
        return data

    def download(self, name: str, part: Path, size: int, sha256: str, advance: Advance) -> None:
        """Bring `part` to the whole of a file, going on from what an interrupted call left there.

        Args:
            name: The file in the share.
            part: Where to, on the local disk.
            size: How many bytes it has.
            sha256: What they hash to.
            advance: Called with the number of bytes as they come; a negative number takes some back.

        Raises:
            RemoteError: It cannot be had, or has other bytes than its marker says.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        began = part.stat().st_size if part.exists() else 0
        if began > size:
            part.unlink()
            began = 0
        advance(began)
        patiently(lambda: self._append(name, part, size, advance))
        if began and sha256_file(part) != sha256:  # what lay there was of other bytes: once more, from none
            part.unlink()
            advance(-size)
            patiently(lambda: self._append(name, part, size, advance))
        found = sha256_file(part)
        if found != sha256:
            part.unlink()
        self._check(name, found, sha256, "its marker")

    def upload(self, path: Path, name: str) -> None:
        """Copy a local file into the share, over what is there.

        Raises:
            RemoteError: It cannot be written, or has another size afterwards.
        """

        def put() -> None:
            with self._clearly(name):
                self.files.put_file(str(path), f"{self.base}/{name}")
                size = self.files.info(f"{self.base}/{name}")["size"]
            if size != path.stat().st_size:
                raise RemoteError(f"{self.url}/{name}: arrived with {size} bytes", passing=True)

        patiently(put)

    def _append(self, name: str, part: Path, size: int, advance: Advance) -> None:
        """Add to a file what it lacks; from the start where the server cannot do better."""
        there = part.stat().st_size if part.exists() else 0
        try:
            self._fill(name, part, there, size, advance)
        except _NoRanges:
            advance(-there)
            self._fill(name, part, 0, size, advance)
        if part.stat().st_size < size:
            raise RemoteError(f"{self.url}/{name}: ended early", passing=True)

    def _fill(self, name: str, part: Path, start: int, size: int, advance: Advance) -> None:
        """Write a file from byte `start` on."""
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in self._chunks(name, start, size) if start < size else ():
                file.write(chunk)
                advance(len(chunk))

    def _chunks(self, name: str, start: int, most: int) -> Iterator[bytes]:
        """A file's bytes from `start` on, at most up to `most`."""
        options: dict[str, Any] = {"block_size": _BLOCK}
        if (
            self.sums is not None
        ):  # the web: one stream, or ranges to go on; a size spares it one more request
            options = {"block_size": _BLOCK if start else 0, "cache_type": "none", "size": most}
        with self._clearly(name, ranges=start > 0):
            with self.files.open(f"{self.base}/{name}", "rb", **options) as file:
                if start:
                    file.seek(start)
                while chunk := file.read(_BLOCK):
                    start += len(chunk)
                    if start > most:
                        raise RemoteError(f"{self.url}/{name}: has more than {most} bytes", passing=False)
                    yield chunk

    def _check(self, name: str, found: str, wanted: str | None, source: str) -> None:
        """Refuse bytes with another hash."""
        if found != wanted:
            raise RemoteError(
                f"{self.url}/{name}: has another SHA-256 than {source} says; its owner should run "
                "`impure-data verify` and `impure-data card` and share it again",
                passing=False,
            )

    @contextmanager
    def _clearly(self, name: str, *, ranges: bool = False) -> Iterator[None]:
        """Turn whatever a filesystem raises into one line that names the address and the reason."""
        try:
            yield
        except RemoteError:
            raise
        except Exception as error:  # noqa: BLE001 - every filesystem has a library of errors of its own
            if ranges and isinstance(error, ValueError):
                raise _NoRanges from error
            reason, passing = _reason(error)
            raise RemoteError(f"{self.url}/{name}: {reason}", passing=passing) from error


def connect(url: str) -> Share:
    """A share at an fsspec URL (`s3://`, `gs://`, `hf://`, `https://`, `file://`) or a path; asks nothing.

    Raises:
        InputError: Nobody knows such addresses, or the library for them is not installed.
    """
    web = url.startswith(("http://", "https://"))
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]

        files, base = url_to_fs(url, **(_web_options() if web else {}))
    except ImportError as error:
        extra = "gs" if url.startswith(("gs:", "gcs:")) else "remote"
        raise InputError(
            f"{url}: needs a library for such addresses ({first_line(error)}); pip install 'impure[{extra}]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{url}: not an address that can be read ({first_line(error)})") from error
    return Share(url.rstrip("/"), files, base.rstrip("/"), {} if web else None)


def open_share(url: str) -> Share:
    """Connect to a collection (see `connect`), ready to tell what it holds.

    Raises:
        RemoteError: A web server has no SHA256SUMS there, without which nothing tells what there is.
    """
    share = connect(url)
    if share.sums is None:
        return share
    try:
        text = share.read(SUMS).decode(errors="replace")
    except RemoteError as error:
        raise RemoteError(
            f"{error}; without {SUMS} nothing tells what a web server has: its owner should run "
            "`impure-data card`",
            passing=False,
        ) from error
    return replace(share, sums=parse_sums(text, f"{share.url}/{SUMS}"))


def _web_options() -> dict[str, Any]:
    """Settings of fsspec's web client: proxies as the environment says, patience for large files only."""
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def patiently(action: Callable[[], T]) -> T:
    """Do something that may fail for a while, again after growing pauses.

    Raises:
        RemoteError: It failed for good, or still.
    """
    for pause in PAUSES:
        try:
            return action()
        except RemoteError as error:
            if not error.passing:
                raise
        time.sleep(pause)
    return action()


def _reason(error: Exception) -> tuple[str, bool]:
    """What went wrong, and whether it may pass."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        detail = getattr(error, "message", "") or first_line(error)
        return f"refused with HTTP status {status} ({detail})", status >= 500 or status in _PASSING
    if isinstance(error, FileNotFoundError):
        return "not found", False
    if isinstance(error, PermissionError):
        return f"access denied ({first_line(error)})", False
    if isinstance(error, TimeoutError):
        return "no answer in time", True
    return f"{type(error).__name__}: {first_line(error)}", "Credential" not in type(error).__name__
