"""What fails is one line on the terminal, and a traceback in the log that the terminal names."""

import signal
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.logs import collection_log, collection_logs, start_log, stop_log
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.layout import is_own
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.executors import local, ray, slurm
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation import attack_batches
from impure.pipeline.generation.events import ShardTask
from impure.pipeline.generation.run import GenerateConfig, Locations, worker_factory

TASK = ShardTask("t", "train", 0, ("fgsm", "pgd"), 5)


@pytest.fixture(autouse=True)
def no_log_left():
    yield
    stop_log()


def test_a_failing_attack_is_a_line_on_the_terminal_and_a_traceback_in_the_log(
    imagenet, card, run, tmp_path, monkeypatch
):
    def breaks(*_, **__):
        raise RuntimeError("cuDNN error: it cannot be said why")

    monkeypatch.setattr(attack_batches, "attack_batch", breaks)
    failed = run("data", "generate", "--images", imagenet, "--target", card, "--attack", "fgsm", "--split",
        "train", "--per-class", 1, "--threads", 1, "--out", tmp_path)  # fmt: skip
    assert failed.exit_code == 3, failed.output
    (log,) = (tmp_path / "_logs").iterdir()
    assert failed.stderr.count(f"Log: {log}\n") == 1
    assert "Traceback" not in failed.output
    text = log.read_text()
    assert text.count("small/fgsm/train/000000 failed\nTraceback (most recent call last)") == 3
    assert "in breaks" in text
    assert not is_own(log.relative_to(tmp_path).as_posix())
    assert Collection(tmp_path).marked() == []


def test_an_attack_that_breaks_on_images_leaves_its_traceback_once_a_batch(
    imagenet, card, run, tmp_path, monkeypatch
):
    original = attack_batches.attack_batch

    def breaks(config, model, clean, labels, ids, *more, **others):
        if any("n01440764" in source_id for source_id in ids):
            raise attack_batches.AttackError("NaN for an image")
        return original(config, model, clean, labels, ids, *more, **others)

    monkeypatch.setattr(attack_batches, "attack_batch", breaks)
    failed = run("data", "generate", "--images", imagenet, "--target", card, "--attack", "fgsm", "--split",
        "train", "--per-class", 1, "--threads", 1, "--out", tmp_path)  # fmt: skip
    assert failed.exit_code == 3, failed.output
    (log,) = (tmp_path / "_logs").iterdir()
    assert f"Log: {log}\n" in failed.stderr
    assert log.read_text().count("fgsm broke on 3 images\nTraceback") == 1


def test_a_run_in_which_all_is_well_leaves_no_log(collection_root):
    assert not (collection_root / "_logs").exists()


def opener(root: Path):
    """Opens a worker whose target is not there."""
    locations = Locations(images="builtin", labels=None, target="nowhere.json", weights=None, root=root,
        device="cpu", threads=1)  # fmt: skip
    config = GenerateConfig(attacks=(None,), splits=("train",), seed=0, batch_size=1, compiled=False,
        storage=Storage(), run_id="run")  # fmt: skip
    return worker_factory(locations, config, 1)


def in_a_local_process(open_worker):
    ours, theirs = Pipe()
    before = signal.getsignal(signal.SIGINT)
    try:
        local._work(open_worker, 0, theirs)
    finally:
        signal.signal(signal.SIGINT, before)
    raise ours.recv()


def in_a_slurm_job(open_worker):
    raise slurm._run_tasks(open_worker, [TASK])


def in_a_ray_task(open_worker):
    ray._run_task(ray.dumps(open_worker), TASK)


@pytest.mark.parametrize("work", [in_a_local_process, in_a_slurm_job, in_a_ray_task])
def test_a_worker_logs_what_ends_it_to_a_file_of_its_own(work, tmp_path):
    start_log(collection_log(tmp_path, "run"))  # the parent's
    with pytest.raises(InputError, match=r"nowhere\.json"):
        work(opener(tmp_path))
    (log,) = collection_logs(tmp_path, "run")
    assert log != collection_log(tmp_path, "run")
    text = log.read_text()
    assert text.count("Traceback (most recent call last)") >= 1
    assert "in open_run" in text
    assert "nowhere.json" in text.splitlines()[-1]


def test_the_death_of_a_worker_is_logged_with_the_shards_that_it_was_making(tmp_path):
    start_log(collection_log(tmp_path, "run"))
    queue = TaskQueue([TASK], lambda event: None)
    queue.worker_died([queue.next_task()], [ShardId("t", "pgd", "train", 0)], "its worker died (SIGKILL)")
    (line,) = collection_log(tmp_path, "run").read_text().splitlines()
    assert line.endswith("its worker died (SIGKILL), with t/pgd/train/000000")


def test_threads_log_whole_records(tmp_path):
    start_log(collection_log(tmp_path, "run"))
    threads = [threading.Thread(target=lambda: attack_batches.LOGGER.warning("a" * 5000)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = collection_log(tmp_path, "run").read_text().splitlines()
    assert len(lines) == 20
    assert all(line.endswith("a" * 5000) for line in lines)
