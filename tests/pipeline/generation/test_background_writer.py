"""What goes wrong beside the attack is never taken for done."""

import errno
import io
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from impure.manifests.base.errors import ReadBackError
from impure.manifests.base.images import px_sha256
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.writer import ShardWriter
from impure.pipeline.generation import attack_batches, clean_cache
from impure.pipeline.generation.background_writer import (
    MAX_WAITING,
    BackgroundWriter,
    PendingShard,
    worth_retrying,
)
from impure.pipeline.generation.clean_cache import DECODE_AHEAD, CleanCache, open_clean_cache
from impure.pipeline.generation.events import ShardFailed, ShardProgress, ShardTask
from impure.pipeline.generation.progress import ProgressBar, _UnbrokenStream
from impure.pipeline.generation.time_left import Costs
from impure.pipeline.targets.preprocess import CleanImage
from tests.pipeline.generation.small_run import arguments

PIXELS = np.full((2, 2, 3), 7, np.uint8)
PAIRS = Storage()
SHARD = ShardId("t", "fgsm", "train", 0)


@pytest.mark.parametrize("where", ["write", "commit"])
def test_after_a_step_that_fails_none_runs(where):
    writer, done = BackgroundWriter(1), []

    def fails():
        raise OSError(28, "No space left on device")

    (writer.write if where == "write" else writer.commit)(fails)
    writer.after_commits(lambda: done.append("finished"))
    with pytest.raises(OSError, match="No space"):
        writer.flush()
    writer.write(lambda: done.append("later"))
    writer.commit(lambda: done.append("later still"))
    writer.flush()
    writer.close()
    assert not done


def planned(names):
    return [
        {"source_id": name, "wnid": "n", "status": STATUS_OK, "clean_px_sha256": px_sha256(PIXELS)}
        for name in names
    ]


def a_job(root, storage=PAIRS):
    return SimpleNamespace(
        source=None, target=SimpleNamespace(card=None), storage=storage, collection=SimpleNamespace(root=root)
    )


def test_a_bounded_number_of_images_is_decoded_ahead(tmp_path, monkeypatch):
    decoded = []
    load = lambda source, image, card: (decoded.append(image), CleanImage(image, PIXELS, "", ""))[1]  # noqa: E731
    monkeypatch.setattr(clean_cache, "load_clean", load)
    rows = planned(map(str, range(3 * DECODE_AHEAD)))
    with (
        ThreadPoolExecutor(4) as pool,
        open_clean_cache(a_job(tmp_path), rows, pool, lambda _: None) as images,
    ):
        assert [image.row["source_id"] for image in images.read(0, 2)] == ["0", "1"]
        pool.shutdown()
        assert len(decoded) <= DECODE_AHEAD + 2
    assert not list((tmp_path / "_tmp").iterdir())


@pytest.mark.parametrize("profile", ["pairs", "clean-once", "delta"])
def test_an_encoding_is_cached_where_every_attack_stores_it(tmp_path, monkeypatch, profile):
    monkeypatch.setattr(
        clean_cache, "load_clean", lambda source, image, card: CleanImage(image, PIXELS, "", "")
    )
    job = a_job(tmp_path, Storage(profile=profile))
    with ThreadPoolExecutor(1) as pool, open_clean_cache(job, planned("a"), pool, lambda _: None) as images:
        (first,) = images.read(0, 9)
        assert first.encoded == (job.storage.encode(PIXELS) if profile == "pairs" else b"")
        assert images.read(1, 9) == []


def test_an_image_whose_decoding_fails_is_lost_to_no_attack(tmp_path, monkeypatch):
    tries = []

    def load(source, image, card):
        tries.append(image.source_id)
        if image.source_id == "b":
            raise OSError(5, "Input/output error")
        return CleanImage(image, PIXELS, "", "")

    monkeypatch.setattr(clean_cache, "load_clean", load)
    with (
        ThreadPoolExecutor(1) as pool,
        open_clean_cache(a_job(tmp_path), planned("abc"), pool, lambda event: None) as images,
    ):
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                images.read(0, 3)
        (first,) = images.read(0, 1)
        assert (first.pixels == PIXELS).all()
        assert sorted(tries) == ["a", "b", "c"]


def test_the_attack_waits_where_writing_falls_behind():
    writer, go_on, submitted = BackgroundWriter(1), threading.Event(), threading.Event()
    for _ in range(MAX_WAITING):
        writer.write(go_on.wait)
    attack = threading.Thread(target=lambda: (writer.write(lambda: None), submitted.set()))
    attack.start()
    too_early = submitted.wait(0.2)
    go_on.set()
    attack.join()
    writer.flush()
    writer.close()
    assert not too_early
    assert submitted.is_set()


def test_encoded_pairs_that_wait_are_bounded(imagenet, card, run, tmp_path, monkeypatch):
    """Memory is bounded by this: `MAX_WAITING` batches, the one being written and the one being encoded."""
    encode, add, waiting, most, most_reached = attack_batches.encode, ShardWriter.add, Counter(), [], []

    def encoded(*arguments):
        waiting["pairs"] += 1
        most.append(waiting["pairs"])
        return encode(*arguments)

    def added(shard, pair):
        before = -1
        while not most_reached and len(most) > before:  # until the attack gets no farther ahead
            before = len(most)
            time.sleep(0.2)
        most_reached.append(True)
        waiting["pairs"] -= 1
        add(shard, pair)

    monkeypatch.setattr(attack_batches, "encode", encoded)
    monkeypatch.setattr(ShardWriter, "add", added)
    given = ("--attack", "clean", "--per-class", 10, "--shard-size", 30, "--batch-size", 2)
    made = run("data", *arguments(imagenet, card, tmp_path / "root"), *given)
    assert made.exit_code == 0 and len(most) == 30, made.output
    assert max(most) <= 2 * (MAX_WAITING + 2)


def test_the_next_shard_is_written_while_one_is_committed_and_the_task_ends_last():
    """The disk is waited for beside the writing; a commit never comes before the writes it is made of."""
    writer, done, written = BackgroundWriter(1), [], threading.Event()
    writer.write(lambda: (time.sleep(0.05), done.append("first written")))
    writer.commit(lambda: (written.wait(9), done.append("first committed")))
    writer.write(lambda: (done.append("second written"), written.set()))
    writer.after_commits(lambda: done.append("task finished"))
    writer.flush()
    writer.close()
    assert done == ["first written", "second written", "first committed", "task finished"]


def test_a_cached_image_that_changes_on_the_disk_is_found(tmp_path, monkeypatch):
    """Its pixels were attacked and its encoding would be stored: a bit that flips in either is not."""
    monkeypatch.setattr(
        clean_cache, "load_clean", lambda source, image, card: CleanImage(image, PIXELS, "", "")
    )
    with (
        ThreadPoolExecutor(1) as pool,
        (tmp_path / "cache").open("w+b") as file,
    ):
        images = CleanCache(a_job(tmp_path), planned("a"), pool, file, lambda event: None)
        images.read(0, 1)[0].check()
        data = (tmp_path / "cache").read_bytes()
        for byte in (0, PIXELS.size + 3):
            (tmp_path / "cache").write_bytes(data[:byte] + bytes([data[byte] ^ 1]) + data[byte + 1 :])
            with pytest.raises(ReadBackError, match="a: what was cached"):
                images.read(0, 1)[0].check()


def test_a_shard_that_failed_takes_no_more_samples_and_fails_once():
    writer, events, written = BackgroundWriter(1), [], []

    def breaks():
        raise RuntimeError("cuDNN error\nmore")

    shard = SimpleNamespace(
        add=written.append, add_rows=written.append, commit=lambda *_: written.append("it")
    )
    pending = PendingShard(SHARD, shard, ExitStack(), writer, events.append)
    pending.add([breaks])
    pending.add([lambda: "a sample"])
    pending.add_rows([{}])
    pending.commit({}, {})
    pending.give_up(RuntimeError("again"))
    writer.flush()
    writer.close()
    assert pending.ended
    assert not written
    assert events == [ShardFailed(SHARD, "RuntimeError: cuDNN error")]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (RuntimeError("cuDNN error"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("CUDA error: an illegal memory access"), False),
        (ReadBackError("not what was written"), True),
        (ValueError("a bug"), False),
    ],
    ids=str,
)
def test_what_is_worth_another_try(error, again):
    assert worth_retrying(error) == again


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_work_goes_on_when_nobody_watches(monkeypatch):
    monkeypatch.setattr("sys.stderr", Gone())
    with ProgressBar([ShardTask("t", "train", 0, ("fgsm",), 4)], Costs({}), 1, 1) as view:
        view(ShardProgress(SHARD, 2))
        view(ShardFailed(SHARD, "broken"))
    assert _UnbrokenStream(Gone()).write("text") is None
