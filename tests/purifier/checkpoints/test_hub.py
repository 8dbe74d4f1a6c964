"""Against a small Hub of our own that speaks what the real client asks."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from impure.manifests.base.errors import InputError
from impure.purifier.checkpoints.checkpoint import save_checkpoint
from impure.purifier.checkpoints.hub import push_to_hub
from impure.purifier.checkpoints.model_card import write_card
from impure.purifier.defences.defence_registry import build_defence
from impure.purifier.defences.trained.disco import Disco, DiscoNetwork
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.pretrained import is_hub_name
from tests.common import small_run

Make = Callable[[str], RIAE]
TOKEN = "hf_test"


class Hub(ThreadingHTTPServer):
    """Models by name, their branches, and the files of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""

    def answer(self, status: int, value: Any = b"", **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def branch(self, repo: str, revision: str) -> dict[str, bytes] | None:
        branches = self.server.models.get(repo, {})
        commits = {commit_of(files): files for files in branches.values()}
        return branches.get(revision, commits.get(revision))

    def do_HEAD(self) -> None:  # noqa: N802
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        path = unquote(urlparse(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            repo, kind, revision = match.groups()
            if (files := self.branch(repo, revision or "main")) is None:
                code = "RevisionNotFound" if repo in self.server.models else "RepoNotFound"
                return self.answer(404, X_Error_Code=code)
            if kind == "tree":
                return self.answer(200, [entry(name, data) for name, data in files.items()])
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": repo, "sha": commit_of(files), "siblings": siblings})
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo, revision, name = match.groups()
            files = self.branch(repo, revision) or {}
            etag = hashlib.sha1(files[name]).hexdigest()
            return self.answer(200, files[name], ETag=f'"{etag}"', X_Repo_Commit=commit_of(files))
        return self.answer(404)

    def do_POST(self) -> None:  # noqa: N802
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        path = unquote(urlparse(self.path).path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid user token."})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.server.private[repo] = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.server.models.setdefault(repo, {"main": {}})
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{repo}", "name": repo})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/(.+)", path)
        assert match is not None, path
        branches, kind, revision = self.server.models[match[1]], match[2], match[3]
        if kind == "branch":
            branches.setdefault(revision, dict(branches["main"]))
            return self.answer(200, {})
        if kind == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                branches[revision][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = commit_of(branches[revision])
        address = f"http://{self.headers['Host']}/{match[1]}/commit/{commit}"
        return self.answer(200, {"commitUrl": address, "commitOid": commit})

    def chunks(self) -> bytes:
        """A body in chunks, as generators are sent."""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()


def entry(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(tmp_path: Path, riae: Make) -> Path:
    write_card(small_run(tmp_path / "run", riae("both")))
    (tmp_path / "run" / "log.csv").write_text("not for everybody")
    return tmp_path / "run"


def test_there_and_back(hub: Hub, run: Path) -> None:
    url = push_to_hub(run, "lab/purifier", private=True)
    assert url.endswith("/lab/purifier") and hub.private == {"lab/purifier": True}
    assert set(hub.models["lab/purifier"]["main"]) == {"config.json", "model.safetensors", "README.md"}
    hub.models["lab/purifier"]["main"]["state.pt"] = b"never asked for"
    images = torch.rand(1, 3, 16, 16)
    fetched = RIAE.from_pretrained("lab/purifier")
    assert torch.equal(fetched.purify(images, seed=3), RIAE.from_pretrained(run).purify(images, seed=3))


def test_revisions(hub: Hub, run: Path, riae: Make) -> None:
    push_to_hub(run, "lab/purifier")
    model = riae("both")
    with torch.no_grad():
        model.decoder_pred.bias += 1
    save_checkpoint(run, model.state_dict(), {})
    push_to_hub(run, "lab/purifier", revision="v2")
    assert set(hub.models["lab/purifier"]) == {"main", "v2"}
    new, old = RIAE.from_pretrained("lab/purifier@v2"), RIAE.from_pretrained("lab/purifier")
    assert torch.equal(new.decoder_pred.bias, old.decoder_pred.bias + 1)
    commit = commit_of(hub.models["lab/purifier"]["main"])
    assert torch.equal(
        RIAE.from_pretrained(f"lab/purifier@{commit}").decoder_pred.bias, old.decoder_pred.bias
    )
    with pytest.raises(InputError, match="lab/purifier@v3: no such path here.*RevisionNotFound"):
        RIAE.from_pretrained("lab/purifier@v3")


def test_the_cache_works_without_a_network(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(run, "lab/purifier")
    RIAE.from_pretrained("lab/purifier")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert isinstance(RIAE.from_pretrained("lab/purifier"), RIAE)
    with pytest.raises(InputError, match=r"lab/other: no such path here, .*Check the path or the name"):
        RIAE.from_pretrained("lab/other")


def test_a_path_that_is_there_is_never_asked_for(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    run.rename(tmp_path / "lab" / "purifier")
    monkeypatch.chdir(tmp_path)
    assert isinstance(RIAE.from_pretrained("lab/purifier"), RIAE)


def test_the_best_weights_of_a_run_that_was_not_validated_are_not_looked_up(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(InputError, match=f"{run.name}/best: not there; .* give {run.name} itself"):
        RIAE.from_pretrained(f"{run.name}/best")


def test_models_that_are_none(hub: Hub, run: Path) -> None:
    with pytest.raises(InputError, match="nobody/nothing: no such path here.*RepositoryNotFound"):
        RIAE.from_pretrained("nobody/nothing")
    hub.models["lab/other"] = {"main": {"config.json": b"{}", "pytorch_model.bin": b"code"}}
    with pytest.raises(InputError, match=r"lab/other: no checkpoint of .* has no model\.safetensors"):
        RIAE.from_pretrained("lab/other")


def test_a_trained_defence_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    sizes = {"width": 4, "blocks": 1, "hidden": 6, "layers": 1}
    save_file(DiscoNetwork(**sizes).state_dict(), tmp_path / "weights.safetensors")
    config = json.dumps({"network": {"name": "disco", **sizes}}).encode()
    files = {"config.json": config, "model.safetensors": (tmp_path / "weights.safetensors").read_bytes()}
    hub.models["lab/disco"] = {"main": {}, "v2": files}
    assert isinstance(build_defence("disco:weights=lab/disco@v2"), Disco)
    with pytest.raises(InputError, match="a checkpoint of disco; wanted is one of nrp"):
        build_defence("nrp:weights=lab/disco@v2")


def test_refusals_of_the_hub(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match="lab/purifier: the Hugging Face Hub did not take .*hf auth login"):
        push_to_hub(run, "lab/purifier")
    with pytest.raises(InputError, match="did not take"):
        push_to_hub(run, "no/such/name")


def test_only_whole_checkpoints_are_pushed(hub: Hub, run: Path) -> None:
    (run / "README.md").unlink()
    with pytest.raises(InputError, match=r"has no README\.md; write its model card first"):
        push_to_hub(run, "lab/purifier")
    (run / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="not a readable safetensors"):
        push_to_hub(run, "lab/purifier")
    assert hub.models == {}


def test_names() -> None:
    assert all(map(is_hub_name, ("a/b", "a-1/b.c", "a/b@main", "a/b@refs/pr/1")))
    assert not any(
        map(is_hub_name, ("a", "./a", "../a", "/a/b", "a/b/c", "a/b@", "a/b@../x", "a /b", "", "ä/b"))
    )
