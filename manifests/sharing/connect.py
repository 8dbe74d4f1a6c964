"""Connect to a collection at a URL: which filesystem it lies in, and what a web server says it holds."""

import re
from dataclasses import replace
from typing import Any

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.collection.layout import SUMS, parse_sums
from impure.manifests.sharing.remote_collection import RemoteCollection
from impure.manifests.sharing.remote_errors import RemoteError

_SERVER_TIMEOUT = 60  # seconds without a byte until a server counts as gone


def connect(url: str) -> RemoteCollection:
    """A collection at an fsspec URL (`s3://`, `gs://`, `hf://`, `https://`, `file://`) or a path.

    Nothing is read yet.

    Raises:
        InputError: Nobody knows such addresses, or the library for them is not installed.
    """
    is_web = url.startswith(("http://", "https://"))
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]

        filesystem, root = url_to_fs(url, **(_web_options() if is_web else {}))
    except ImportError as error:
        extra = "gs" if url.startswith(("gs:", "gcs:")) else "remote"
        raise InputError(
            f"{url}: needs a library for such addresses ({first_line(error)}); pip install 'impure[{extra}]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{url}: not an address that can be read ({first_line(error)})") from error
    if is_web:
        return RemoteCollection(url.rstrip("/"), filesystem, root.rstrip("/"), {})
    # `s3://lab//y` is `s3://lab/y`, as on a disk; for a bucket they are two places, though not in every call
    return RemoteCollection(url.rstrip("/"), filesystem, re.sub("(?<!:)/{2,}", "/", root).rstrip("/"))


def open_remote(url: str) -> RemoteCollection:
    """Connect to a collection (see `connect`), ready to list its files.

    Raises:
        InputError: See `connect`.
        RemoteError: A web server has no SHA256SUMS there, without which its files cannot be listed.
    """
    remote = connect(url)
    if remote.sums is None:
        return remote
    try:
        text = remote.read(SUMS).decode(errors="replace")
    except RemoteError as error:
        raise RemoteError(
            f"{error}; without {SUMS} nothing tells what a web server has: its owner should run "
            "`impure-data card`"
        ) from error
    return replace(remote, sums=parse_sums(text, f"{remote.url}/{SUMS}"))


def _web_options() -> dict[str, Any]:
    """Settings of fsspec's web client: proxies as the environment says, patience for large files only."""
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_SERVER_TIMEOUT, sock_read=_SERVER_TIMEOUT)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
