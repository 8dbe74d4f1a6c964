"""Published weights: what is known of them is said first, and a file with another digest is refused."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.commands.evaluate.tables.defence_list import print_defences
from impure.purifier.defences.base import published_weights
from impure.purifier.defences.base.published_weights import (
    PUBLISHED_WEIGHTS,
    PublishedWeights,
    published_file,
)
from impure.purifier.defences.defence_registry import build_defence

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that "wavelet-sr" is published as; the cache is empty."""
    (file := tmp_path / "edsr.pt").write_bytes(CONTENT)
    publish(monkeypatch, file, DIGEST[:8])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    return file


def publish(monkeypatch: pytest.MonkeyPatch, file: Path, digest: str) -> None:
    entry = PublishedWeights(address=file.as_uri(), licence="MIT", sha256=digest)
    monkeypatch.setitem(published_weights.PUBLISHED_WEIGHTS, "wavelet-sr", entry)


def test_address_licence_and_digest_are_said(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert published_file("wavelet-sr").read_bytes() == CONTENT
    assert f"wavelet-sr: weights {weights.as_uri()} (MIT, sha256 {DIGEST[:8]}…)" in capsys.readouterr().err
    weights.unlink()
    assert published_file("wavelet-sr").read_bytes() == CONTENT  # from the cache


def test_another_file_is_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = published_file("wavelet-sr")
    cached.write_bytes(b"other")
    with pytest.raises(InputError, match=f"{cached}: refused, its sha256 is d9298a10.*delete it"):
        published_file("wavelet-sr")
    cached.unlink()
    publish(monkeypatch, weights, "0" * 64)
    with pytest.raises(InputError, match="invalid hash value"):
        published_file("wavelet-sr")
    assert not list(cached.parent.iterdir())


def test_without_a_network(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights.unlink()
    with pytest.raises(InputError, match=r"cannot be had from file:.* give wavelet-sr:weights=FILE$"):
        published_file("wavelet-sr")
    with pytest.raises(InputError, match="download them in a browser from https://drive.google.com"):
        published_file("nrp")
    assert "no digest known" in capsys.readouterr().err
    with pytest.raises(InputError, match="'disco' are known; there are some of wavelet-sr, nrp"):
        published_file("disco")


def test_the_word_published_stands_for_the_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="cache.*edsr.pt: not a readable weights file"):
        build_defence("wavelet-sr:weights=published")
    with pytest.raises(InputError, match="in a browser"):
        build_defence("nrp:weights=published")
    capsys.readouterr()
    print_defences(as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert listed["wavelet-sr"]["published_weights"] == str(PUBLISHED_WEIGHTS["wavelet-sr"])
    assert listed["disco"]["published_weights"] is None
    print_defences(as_json=False)
    assert "nrp:weights=published, https://drive.google.com" in " ".join(capsys.readouterr().out.split())


def test_entries_are_complete() -> None:
    for weights in PUBLISHED_WEIGHTS.values():
        assert weights.address.startswith("https://") and weights.licence
        assert weights.sha256 or weights.by_hand, "what is downloaded is verified"
