"""A web server for tests: it has Range or not, counts what it sends, breaks off and refuses on demand."""

import contextlib
import re
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from impure.manifests.base.files import sha256_file
from impure.manifests.sharing import remote_errors


class Web(ThreadingHTTPServer):
    """Serves the folder `root`; `sent` lists (path, first byte, bytes) of every answered GET."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.ranges = True
        self.cuts: dict[str, list[int]] = {}  # path -> bytes after which its next answers break off
        self.stalls: dict[str, list[int]] = {}  # path -> bytes after which its next answers stand still
        self.stalled, self.over = Event(), Event()
        self.statuses: dict[str, list[int]] = {}  # path -> its next answers
        self.sent: list[tuple[str, int, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bytes_of(self, ending: str) -> int:
        return sum(count for path, _, count in self.sent if path.endswith(ending))


class Handler(BaseHTTPRequestHandler):
    server: Web

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, head: bool) -> None:
        name = self.path.lstrip("/")
        path = self.server.root / name
        if not head and self.server.statuses.get(name):
            return self.send_error(self.server.statuses[name].pop(0))
        if not path.is_file():
            return self.send_error(404)
        data, first, status = path.read_bytes(), 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.server.ranges:
            first, status = int(asked[1]), 206
            data = data[first : int(asked[2]) + 1 if asked[2] else None]
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if head:
            return None
        stall, cut = self.server.stalls.get(name), self.server.cuts.get(name)
        data = data[: (stall or cut).pop(0)] if stall or cut else data
        self.server.sent.append((name, first, len(data)))
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)
        if stall is not None and not self.server.stalled.is_set():
            self.server.stalled.set()
            self.server.over.wait()
        self.close_connection = True
        return None


@pytest.fixture
def web(shared, monkeypatch):
    """A web server of the collection `shared`; nobody waits before trying again."""
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", (0.0, 0.0))
    server = Web(shared)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shared(collection_root, tmp_path):
    """A copy of the finished collection, with sums."""
    root = shutil.copytree(
        collection_root, tmp_path / "shared", ignore=shutil.ignore_patterns("_tmp", "*.png", "README.md")
    )
    write_sums(root)
    return root


def write_sums(root: Path) -> None:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "SHA256SUMS"]
    lines = [f"{sha256_file(path)}  {path.relative_to(root).as_posix()}\n" for path in files]
    (root / "SHA256SUMS").write_text("".join(lines))
