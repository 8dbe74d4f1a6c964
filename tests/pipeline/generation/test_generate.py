import hashlib
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.samples import read_shard
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.temp_dirs import sweep
from impure.manifests.collection.writer import ShardWriter, encode, open_shard
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.targets.load import load_target


def hashes(root):
    """Pixel hashes by sample, of everything that is committed."""
    return {
        row["key"]: (row["clean_px_sha256"], row["adv_px_sha256"])
        for shard in Collection(root).committed
        for row in shard.rows()[0].to_pylist()
        if row["status"] == STATUS_OK
    }


def command(imagenet, card, root, *more):
    return (
        "data", "generate", "--images", imagenet, "--target", card, "--split", "train", "--per-class", 2,
        "--shard-size", 4, "--batch-size", 4, "--threads", 1, "--out", root, *more,
    )  # fmt: skip


def test_the_verdict_is_the_targets_on_the_stored_bytes(collection_root, card):
    target = load_target(str(card))
    for shard in select_shards(str(collection_root)):
        rows = {row["key"]: row for row in shard.rows()[0].to_pylist()}
        for sample in read_shard(shard.tar):
            row = rows[sample.key]
            image = torch.tensor(sample.adversarial).permute(2, 0, 1)[None] / 255
            assert target(image).argmax().item() == row["pred_adv"]
            assert row["success"] == (row["pred_adv"] != row["label"]) == sample.meta["success"]
            assert sample.label == row["label"] == target.card.wnids.index(row["wnid"])
            assert row["conf_adv"] == pytest.approx(target(image).softmax(1).max().item(), abs=1e-4)


def test_rows_measure_the_stored_change_and_what_the_attack_took(collection_root):
    for shard in select_shards(str(collection_root)):
        rows = {row["key"]: row for row in shard.rows()[0].to_pylist()}
        for sample in read_shard(shard.tar):
            row, change = rows[sample.key], sample.adversarial.astype(int) - sample.clean
            assert row["linf_255"] == np.abs(change).max()
            assert row["l2"] == pytest.approx(np.sqrt((change**2).sum()) / 255)
            assert row["grad_evals"] == {"clean": 0, "fgsm": 1}.get(
                shard.shard_id.attack, AttackConfig(name="pgd").params["steps"]
            )


def test_budgets_hold_on_the_stored_bytes_and_clean_pairs_are_untouched(collection_root):
    for shard in select_shards(str(collection_root)):
        most = 0 if shard.shard_id.attack == "clean" else 16
        for sample in read_shard(shard.tar):
            assert np.abs(sample.adversarial.astype(int) - sample.clean).max() <= most


def test_every_planned_image_has_a_row_and_the_config_travels_along(collection_root):
    for shard in select_shards(str(collection_root)):
        table, config = shard.rows()
        assert config == shard.marker["config"]
        assert table["index_in_shard"].to_pylist() == list(range(shard.marker["counts"]["planned"]))
    about = Collection(collection_root).about()
    assert set(about["targets"]) == {"small"}
    assert len(about["config_digest"]) == 64


def test_the_same_command_changes_nothing_and_another_config_is_refused(imagenet, card, tmp_path, run):
    first = run(*command(imagenet, card, tmp_path, "--attack", "fgsm"))
    assert first.exit_code == 0, first.output
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    again = run(*command(imagenet, card, tmp_path, "--attack", "fgsm"))
    assert "2 of them there already" in again.output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    other = run(*command(imagenet, card, tmp_path, "--attack", "fgsm", "--precision", "bf16"))
    assert other.exit_code == 1
    assert "precision" in other.output


def test_a_sweep_over_budgets_and_a_targeted_run_lie_side_by_side(imagenet, card, tmp_path, run):
    made = run(*command(imagenet, card, tmp_path, "--attack", "pgd", "--eps", 4, 16, 8, "--json"))
    assert made.exit_code == 0, made.output
    more = run(*command(imagenet, card, tmp_path, "--attack", "pgd", "--targeted", "least-likely"))
    assert more.exit_code == 0, more.output
    shards = select_shards(str(tmp_path))
    assert {shard.shard_id.attack for shard in shards} == {"pgd", "pgd-e4", "pgd-e8", "pgd-least-likely"}
    rows = [(shard.shard_id.attack, row) for shard in shards for row in shard.rows()[0].to_pylist()]
    assert len({row["key"] for _, row in rows}) == len(rows) == 24
    for name, row in rows:
        assert row["attack"] == "pgd"
        assert row["eps_255"] == {"pgd-e4": 4, "pgd-e8": 8}.get(name, 16)
        assert row["linf_255"] <= row["eps_255"]
        wanted = (
            row["pred_adv"] == row["target_class"] if "least" in name else row["pred_adv"] != row["label"]
        )
        assert row["success"] == wanted
        assert (row["target_class"] >= 0) == ("least" in name)
        assert json.loads(row["params_json"])["targeted"] == ("least-likely" if "least" in name else "")
    assert verify(Collection(tmp_path), "decode") == []


def test_out_of_memory_halves_the_batch_and_says_so(imagenet, card, tmp_path, run, monkeypatch):
    import impure.pipeline.generation.attack_batches as module

    original, sizes = module.attack_batch, []

    def small(config, model, clean, *arguments, **more):
        if len(clean) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(clean))
        return original(config, model, clean, *arguments, **more)

    monkeypatch.setattr(module, "attack_batch", small)
    made = run(*command(imagenet, card, tmp_path, "--attack", "fgsm"))
    assert made.exit_code == 0, made.output
    assert [shard.marker["attacked_together"] for shard in select_shards(str(tmp_path))] == [[1] * 4, [1] * 2]
    assert [shard.marker["config"]["batch_size"] for shard in select_shards(str(tmp_path))] == [4, 4]
    assert len(sizes) == 6


def test_the_batch_size_is_frozen_with_the_plan(imagenet, card, tmp_path, run):
    assert run("data", "sample", *command(imagenet, card, tmp_path)[2:]).exit_code == 0
    made = run(*command(imagenet, card, tmp_path, "--attack", "fgsm", "--batch-size", "auto"))
    assert made.exit_code == 0, made.output
    assert {shard.marker["config"]["batch_size"] for shard in select_shards(str(tmp_path))} == {4}


def test_damaged_shards_are_made_again_and_whole_ones_are_not(imagenet, card, tmp_path, run):
    make = command(imagenet, card, tmp_path, "--attack", "fgsm,pgd")
    assert run(*make).exit_code == 0
    before = hashes(tmp_path)
    shards = Collection(tmp_path).committed
    shards[0].tar.write_bytes(shards[0].tar.read_bytes()[:-512])
    shards[1].manifest.unlink()
    Collection(tmp_path).marker_path(shards[2].shard_id).write_text("{")
    again = run(*make)
    assert again.exit_code == 0, again.output
    assert "4 shards, 1 of them there already" in again.output
    assert verify(Collection(tmp_path), "decode") == []
    assert hashes(tmp_path) == before


def test_of_two_processes_the_first_to_commit_wins_and_another_config_is_told_so(
    imagenet, card, tmp_path, run
):
    assert run(*command(imagenet, card, tmp_path, "--attack", "fgsm")).exit_code == 0
    shard_id = Collection(tmp_path).committed[0]
    samples, rows = list(read_shard(shard_id.tar)), shard_id.rows()[0].to_pylist()
    there = shard_id.tar.stat().st_mtime_ns

    def commit(config, facts):
        with open_shard(Collection(tmp_path), shard_id.shard_id) as shard:
            for sample, row in zip(samples, rows, strict=True):
                shard.add(encode(sample, row, Storage(), "fgsm"))
            return shard.commit(config, facts)

    marker = commit(shard_id.marker["config"], {"run_id": "later"})
    assert marker["run_id"] == shard_id.marker["run_id"]
    assert shard_id.tar.stat().st_mtime_ns == there
    with pytest.raises(InputError, match="seed"):
        commit({**shard_id.marker["config"], "seed": 9}, {})


def test_manifests_record_the_software(collection_root):
    for shard in select_shards(str(collection_root)):
        facts = json.loads(pq.read_metadata(shard.manifest).metadata[b"impure.facts"])
        assert {"torch", "impure", "python"} <= set(facts["software"])
        assert facts["threads"] == 1


def test_shards_are_byte_identical_when_made_again(imagenet, card, tmp_path, run):
    digests = []
    for name in ("a", "b"):
        assert run(*command(imagenet, card, tmp_path / name, "--attack", "pgd")).exit_code == 0
        digests.append(
            [hashlib.sha256(shard.tar.read_bytes()).digest() for shard in select_shards(str(tmp_path / name))]
        )
    assert digests[0] == digests[1]


def test_an_interrupted_run_ends_as_an_undisturbed_one(imagenet, card, tmp_path, run, monkeypatch):
    assert run(*command(imagenet, card, tmp_path / "a", "--attack", "fgsm,pgd")).exit_code == 0
    calls = []

    def breaks(*arguments, **_):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(tmp_path))
        return original(*arguments)

    original = ShardWriter.commit
    monkeypatch.setattr(ShardWriter, "commit", breaks)
    broken = run(*command(imagenet, card, tmp_path / "b", "--attack", "fgsm,pgd"))
    assert broken.exit_code == 1
    assert "No space left" in broken.output
    assert len(select_shards(str(tmp_path / "b"))) == 2
    monkeypatch.setattr(ShardWriter, "commit", original)
    assert run(*command(imagenet, card, tmp_path / "b", "--attack", "fgsm,pgd")).exit_code == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_images_lost_since_the_plan_are_named_in_the_manifest(imagenet, card, tmp_path, run):
    images = shutil.copytree(imagenet, tmp_path / "images")
    out = tmp_path / "out"
    arguments = [argument for argument in command(images, card, out)]
    assert run("data", "sample", *arguments[2:]).exit_code == 0
    planned = Collection(out).plans()["small-train"].table.to_pylist()
    (images / planned[0]["source_id"]).unlink()
    Image.new("RGB", (64, 64)).save(images / planned[1]["source_id"])
    result = run(*arguments, "--attack", "fgsm", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["attacks"]["fgsm"]["failed"] == 2
    rows = [row for shard in select_shards(str(out)) for row in shard.rows()[0].to_pylist()]
    status = {row["source_id"]: row["status"] for row in rows}
    assert status[planned[0]["source_id"]] == "failed"
    assert status[planned[1]["source_id"]] == "changed"
    assert verify(Collection(out), "decode") == []


def test_an_image_on_which_the_attack_breaks_costs_only_itself(imagenet, card, tmp_path, run, monkeypatch):
    import impure.pipeline.generation.attack_batches as module
    from impure.pipeline.attacks.engine.threat_model import AttackError

    original = module.attack_batch

    def breaks(config, model, clean, labels, ids, seed, **more):
        if broken in ids:
            raise AttackError(f"NaN for image {broken}")
        return original(config, model, clean, labels, ids, seed, **more)

    assert run("data", "sample", *command(imagenet, card, tmp_path)[2:]).exit_code == 0
    broken = Collection(tmp_path).plans()["small-train"].table["source_id"][0].as_py()
    monkeypatch.setattr(module, "attack_batch", breaks)
    assert run(*command(imagenet, card, tmp_path, "--attack", "fgsm")).exit_code == 3
    rows = [row for shard in select_shards(str(tmp_path)) for row in shard.rows()[0].to_pylist()]
    assert {row["source_id"]: row["error"] for row in rows if row["status"] != "ok"} == {
        broken: f"NaN for image {broken}"
    }
    assert len(rows) == 6


def test_what_killed_processes_left_is_swept_and_what_living_ones_hold_stays(tmp_path):
    import fcntl

    for name in ("dead", "alive"):
        (tmp_path / "_tmp" / name).mkdir(parents=True)
        (tmp_path / "_tmp" / name / "alive.lock").touch()
    with (tmp_path / "_tmp" / "alive" / "alive.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(Collection(tmp_path))
        assert [path.parent.name for path in (tmp_path / "_tmp").glob("*/alive.lock")] == ["alive"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own compiler
def test_a_compiled_target_attacks_and_the_plain_one_classifies(imagenet, card, tmp_path, run):
    made = run(*command(imagenet, card, tmp_path, "--attack", "pgd,deepfool", "--compile"))
    assert made.exit_code == 0, made.output
    target = load_target(str(card))
    for shard in select_shards(str(tmp_path)):
        assert shard.marker["config"]["compiled"] is (shard.shard_id.attack == "pgd")
        rows = shard.rows()[0].to_pylist()
        for sample, row in zip(read_shard(shard.tar), rows, strict=True):
            image = torch.tensor(sample.adversarial).permute(2, 0, 1)[None] / 255
            assert target(image).argmax().item() == row["pred_adv"]
            assert row["success"]
