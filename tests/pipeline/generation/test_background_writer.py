"""What goes wrong beside the attack is never taken for done."""

import io
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from impure.manifests.base.images import px_sha256
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.generation import clean_cache as shard_images
from impure.pipeline.generation.background_writer import BackgroundWriter
from impure.pipeline.generation.clean_cache import open_clean_cache
from impure.pipeline.generation.events import ShardFailed, ShardProgress
from impure.pipeline.generation.progress import ProgressBar, _UnbrokenStream
from impure.pipeline.targets.preprocess import CleanImage

PIXELS = np.full((2, 2, 3), 7, np.uint8)


def test_after_a_step_that_fails_none_runs():
    writer, done = BackgroundWriter(1), []

    def fails():
        raise OSError(28, "No space left on device")

    writer.submit(fails)
    writer.submit(lambda: done.append("settled"))
    with pytest.raises(OSError, match="No space"):
        writer.flush()
    writer.close()
    assert not done


def test_an_image_whose_decoding_fails_is_lost_to_no_attack(tmp_path, monkeypatch):
    tries = []

    def load(source, image, card):
        tries.append(image.source_id)
        if image.source_id == "b":
            raise OSError(5, "Input/output error")
        return CleanImage(image, PIXELS, "", "")

    monkeypatch.setattr(shard_images, "load_clean", load)
    rows = [
        {"source_id": name, "wnid": "n", "status": STATUS_OK, "clean_px_sha256": px_sha256(PIXELS)}
        for name in "abc"
    ]
    job = SimpleNamespace(
        source=None, target=SimpleNamespace(card=None), storage=Storage(),
        collection=SimpleNamespace(root=tmp_path),
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool, open_clean_cache(job, rows, pool, lambda event: None) as images:
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                images.read(0, 3)
        (first,) = images.read(0, 1)
        assert (first.pixels == PIXELS).all()
        assert sorted(tries) == ["a", "b", "c"]


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_work_goes_on_when_nobody_watches(monkeypatch):
    monkeypatch.setattr("sys.stderr", Gone())
    shard_id = ShardId("t", "fgsm", "train", 0)
    with ProgressBar(4, 1, 1, 1) as view:
        view(ShardProgress(shard_id, 2))
        view(ShardFailed(shard_id, "broken"))
    assert _UnbrokenStream(Gone()).write("text") is None
