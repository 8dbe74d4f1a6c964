import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from impure.manifests.base.files import read_json
from impure.manifests.collection.shard_filter import select_shards
from tests.common import one_line, small_run


def generate(images, card, out, *more):
    return (
        "data", "generate", "--images", images, "--target", card, "--attack", "fgsm", "--split", "train",
        "--per-class", 2, "--threads", 1, "--out", out, *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (("--attack", "fgsn"), r"fgsn.*fgsm, cw.*clean, all", 1),
        (("--attack", ","), r"unknown attack ''", 1),
        (("--images", "/nowhere/*.tar", "--split", "all"), "--split train or --split val", 1),
        (("--eps", 0), r"eps.* 1 to 255, got 0", 1),
        (("--eps", 300), r"eps.* 1 to 255, got 300", 1),
        (("--eps", 4, 300), r"eps.* 1 to 255, got 300", 1),
        (("--batch-size", 0), "'0' is neither a whole number from 1 nor auto", 2),
        (("--precision", "tf32"), "tf32 needs a CUDA device", 1),
        (("--restarts", 2), "fgsm draws nothing", 1),
        (("--targeted", "most-likely"), "most-likely", 2),
        (("--attack", "deepfool", "--targeted", "random"), "deepfool has no targeted form.*fgsm", 1),
        (("--set", "stepz=3"), "stepz", 1),
        (("--set", "steps"), "NAME=VALUE", 1),
        (("--target", "nowhere.json"), r"nowhere\.json", 1),
        (("--target", "resnet1001"), r"resnet1001.*inception_v3", 1),
        (("--device", "cuda:77"), "cuda:77", 1),
        (("--split", "dev"), "dev", 2),
        (("--per-class", 0), "per-class", 2),
        (("--executor", "rank"), "give --worker i/n", 1),
        (("--per-class", 500), "too few", 1),
    ],
)
def test_bad_options_are_one_clear_line(imagenet, card, tmp_path, run, more, said, code):
    one_line(run(*generate(imagenet, card, tmp_path / "out", *more)), said, code)
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert not left or said == "too few" and all(name.startswith("out/_logs/") for name in left[2:]), left


def test_missing_and_empty_folders_are_one_clear_line(card, tmp_path, run):
    one_line(run(*generate(tmp_path / "nowhere", card, tmp_path / "out")), "nowhere: no such folder")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    one_line(run(*generate(tmp_path / "empty", card, tmp_path / "out")), "no images there")


def test_an_unknown_wnid_is_one_clear_line(imagenet, card, tmp_path, run):
    images = shutil.copytree(imagenet, tmp_path / "images")
    (images / "train" / "n01440764").rename(images / "train" / "dogs")
    one_line(run(*generate(images, card, tmp_path / "out")), "dogs")


def test_weights_that_do_not_fit_are_one_clear_line(imagenet, card, tmp_path, run):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"no weights")
    one_line(run(*generate(imagenet, card, tmp_path / "out", "--weights", weights)), r"w\.safetensors")


def test_weights_of_another_shape_are_one_clear_line(imagenet, card, tmp_path, run, builtin_target):
    state = {name: tensor.contiguous() for name, tensor in builtin_target.network.state_dict().items()}
    name = next(name for name in state if name.endswith("fc.weight"))
    save_file(state | {name: state[name][:3].clone()}, tmp_path / "w.safetensors")
    one_line(
        run(*generate(imagenet, card, tmp_path / "out", "--weights", tmp_path / "w.safetensors")),
        rf"w\.safetensors: .*of another shape: {name} \(3,",
    )


def test_images_need_a_target(imagenet, tmp_path, run):
    one_line(run("data", "sample", "--images", imagenet, "--out", tmp_path), "--target")


def test_an_unwritable_output_is_one_clear_line(imagenet, card, tmp_path, run):
    (tmp_path / "file").write_text("in the way")
    one_line(run(*generate(imagenet, card, tmp_path / "file" / "out")), "file.*[Nn]ot a directory.*--out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_one_clear_line(imagenet, card, tmp_path, run, monkeypatch):
    from impure.manifests.collection.writer import ShardWriter

    def full(shard, encoded):
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x" * 4096)

    monkeypatch.setattr(ShardWriter, "add", full)
    one_line(run(*generate(imagenet, card, tmp_path / "out")), "No space left")
    assert not list((tmp_path / "out").glob("*/*/*/*"))
    assert not list((tmp_path / "out" / "_tmp").glob("*/*"))


def test_running_out_of_memory_is_one_clear_line(imagenet, card, tmp_path, run, monkeypatch):
    def too_much(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr("impure.pipeline.generation.attack_batches.attack_batch", too_much)
    one_line(run(*generate(imagenet, card, tmp_path / "out")), "out of memory: a smaller")


def test_corrupt_and_odd_images_are_counted_named_and_converted(imagenet, card, tmp_path, run):
    """Grey, CMYK, palette and 16-bit pictures are used; broken ones are skipped and named."""
    images = shutil.copytree(imagenet, tmp_path / "images")
    paths = sorted((images / "train").rglob("*.png"))
    for place, path in enumerate(paths):
        picture = Image.open(path).convert("RGB")
        if place % 6 == 0:
            picture.save(path, "JPEG")
            path.write_bytes(path.read_bytes()[:-200])
        elif place % 6 == 1:
            picture.convert("CMYK").save(path, "JPEG", quality=95)
        elif place % 6 == 2:
            picture.quantize(64).save(path, "PNG")
        elif place % 6 == 3:
            picture.convert("L").save(path, "PNG")
        elif place % 6 == 4:
            deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
            Image.fromarray(deep).save(path, "PNG")
    result = run(*generate(images, card, tmp_path / "out", "--per-class", 5, "--allow-short", "--json"))
    assert result.exit_code in (0, 3), result.output
    said = json.loads(result.stdout)
    rows = [row for shard in select_shards(str(tmp_path / "out")) for row in shard.rows()[0].to_pylist()]
    unreadable = [row for row in rows if row["status"] == "unreadable"]
    broken = {path.relative_to(images).as_posix() for path in paths[::6]}
    assert {row["source_id"] for row in unreadable} <= broken
    assert len(unreadable) == said["plans"]["train"]["unreadable"] > 0
    stored = {row["source_id"] for row in rows if row["status"] == "ok"}
    assert not broken & stored
    kinds = {place % 6 for place, path in enumerate(paths) if path.relative_to(images).as_posix() in stored}
    assert kinds >= {1, 2, 5}, "CMYK, palette and plain pictures are sampled; grey ones may fool the target"


def test_a_shortfall_that_was_accepted_is_exit_code_3(imagenet, card, tmp_path, run):
    result = run(*generate(imagenet, card, tmp_path / "out", "--per-class", 11, "--allow-short", "--json"))
    sampled = json.loads(result.stdout)["plans"]["train"]
    assert result.exit_code == (3 if sampled["short"] else 0)
    assert sampled["asked"] == 33 == sampled["sampled"] + sampled["short"]


def test_status_ls_verify_and_preview_tell_what_is_there(collection_root, run, tmp_path):
    status = json.loads(run("data", "status", collection_root, "--json").stdout)
    assert sum(group["stored"] for group in status["groups"]) == 3 * 27
    assert status["missing"] == []
    assert "small/pgd/test" in run("data", "status", collection_root).stdout
    assert len(json.loads(run("data", "ls", collection_root, "--json").stdout)) == len(
        select_shards(str(collection_root))
    )
    assert run("data", "ls", collection_root).stdout.count(".tar") == len(select_shards(str(collection_root)))
    verified = run("data", "verify", collection_root, "--json")
    assert json.loads(verified.stdout)["bad"] == []
    sheet = run("data", "preview", collection_root, "--out", tmp_path / "sheet.png")
    assert sheet.exit_code == 0, sheet.output
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > 500


def test_verify_names_what_is_wrong_and_exits_with_3(collection_root, run, tmp_path):
    root = shutil.copytree(collection_root, tmp_path / "root")
    shards = select_shards(str(root))
    shards[0].tar.write_bytes(b"")
    shards[1].stem.with_suffix(".done.json").unlink()
    result = run("data", "verify", root)
    assert result.exit_code == 3
    assert f"{shards[0].shard_id}: 000000.tar has 0 bytes" in result.stdout
    assert f"{shards[1].shard_id}: planned, but not committed" in result.stdout


def test_an_empty_folder_is_no_collection(run, tmp_path):
    one_line(run("data", "status", tmp_path), "no collection")
    one_line(run("data", "verify", tmp_path), "no committed shard")
    one_line(run("data", "preview", tmp_path), "no committed shard")


def test_evaluation_prints_and_writes_the_table(collection_root, card, tmp_path, run):
    checkpoint = small_run(tmp_path / "run")
    result = run("evaluate", "--shards", collection_root, "--checkpoint", checkpoint, "--target", card)
    assert result.exit_code == 0, result.output
    assert "3-way" not in result.stdout
    for word in ("clean", "fgsm", "pgd", "mean of attacks", "none", "jpeg", "riae", "10-way, test"):
        assert word in result.stdout
    assert {path.name for path in (checkpoint / "report").iterdir()} > {
        "report.html", "report.md", "report.csv", "report.json", "report-predictions.parquet",
    }  # fmt: skip


def test_several_checkpoints_are_columns_of_one_table(collection_root, card, tmp_path, run):
    purifiers = [small_run(tmp_path / name) for name in ("a", "b")]
    asked = ("--shards", collection_root, "--target", card, "--attacks", "pgd", "--limit", 1, "--json")
    given = [word for run_folder in purifiers for word in ("--checkpoint", run_folder)]
    found = json.loads(run("evaluate", *asked, *given, "--out", tmp_path / "report").stdout)
    assert list(dict.fromkeys(row["defence"] for row in found["rows"])) == [
        "none",
        "jpeg",
        "riae:a",
        "riae:b",
    ]
    assert len(found["conditions"]["weights_sha256"]) == 3 and len(found["conditions"]["checkpoints"]) == 2


def test_evaluation_of_several_draws_of_few_images(collection_root, card, tmp_path, run):
    checkpoint = small_run(tmp_path / "run")
    asked = ("--shards", collection_root, "--checkpoint", checkpoint / "model.safetensors", "--target", card,
        "--defence", "none,riae", "--attacks", "pgd", "--limit", 4, "--samples", 2, "--json")  # fmt: skip
    evaluated = run("evaluate", *asked, "--combine", "worst", "--extra-resize", "--partition", "random")
    assert evaluated.exit_code == 0, evaluated.output
    found = json.loads(evaluated.stdout)
    rows = {row["defence"]: row for row in found["rows"] if row["attack"] == "pgd"}
    assert list(rows) == ["none", "none+resize", "riae", "riae+resize"]
    assert (rows["riae"]["samples"], rows["riae"]["combine"], rows["none"]["samples"]) == (2, "worst", 1)
    assert {row["n"] for row in rows.values()} == {4}
    assert found["conditions"]["partition"] == ["random"]
    assert (checkpoint / "report" / "report.html").exists()
    for option in ("--limit", "--samples"):
        one_line(run("evaluate", "--shards", collection_root, option, 0), option, 2)
    one_line(run("evaluate", "--shards", collection_root, "--combine", "best"), "'best' is not one of", 2)


def test_a_checkpoint_that_is_not_there_is_one_clear_line(collection_root, imagenet, tmp_path, run):
    asked = ("evaluate", "--shards", collection_root, "--out", tmp_path / "report")
    one_line(run(*asked, "--defence", "riae"), "needs a trained network; give --checkpoint")
    one_line(run(*asked, "--checkpoint", tmp_path / "run"), "run: no checkpoint there")
    one_line(run("purify", imagenet, tmp_path / "out", "--checkpoint", tmp_path / "run"), "no checkpoint")
    assert not list(tmp_path.iterdir())


def test_the_target_of_the_shards_must_be_given_and_be_the_same(
    collection_root, imagenet, card, tmp_path, run
):
    one_line(
        run("evaluate", "--shards", collection_root, "--defence", "none", "--out", tmp_path),
        "'small'.*--target",
    )
    shipped = read_json(card)
    other = tmp_path / "card.json"
    other.write_text(json.dumps(shipped | {"weights": str(tmp_path / "w.safetensors")}))
    state = {
        name: tensor * 1.5
        for name, tensor in load_file(shipped["weights"]).items()
        if tensor.is_floating_point()
    }
    whole = load_file(shipped["weights"])
    save_file(
        whole | {name: tensor.to(whole[name].dtype) for name, tensor in state.items()},
        tmp_path / "w.safetensors",
    )
    evaluated = run(
        "evaluate", "--shards", collection_root, "--defence", "none", "--target", other, "--out", tmp_path
    )
    one_line(evaluated, "other weights")


def test_purify_names_and_skips_what_it_cannot_read(imagenet, tmp_path, run):
    images = shutil.copytree(imagenet / "val" / "n01440764", tmp_path / "in")
    (images / "broken.jpg").write_bytes(b"no image")
    result = run("purify", images, tmp_path / "out", "--checkpoint", small_run(tmp_path / "run"))
    assert result.exit_code == 3
    assert "broken.jpg" in result.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 16
    done = next((tmp_path / "out").glob("*.png"))
    asked = ("--checkpoint", tmp_path / "run", "--partition", "random")
    assert run("purify", images / done.name, tmp_path / "random.png", *asked).exit_code == 0
    assert (tmp_path / "random.png").read_bytes() != done.read_bytes()


def test_training_without_its_shards_or_weights_is_one_clear_line(
    collection_root, tmp_path, run, monkeypatch
):
    one_line(run("train", "--shards", tmp_path / "nowhere"), "nowhere")
    one_line(run("train", "--shards", collection_root, "--attacks", "cw"), "cw")
    wrong = run("train", "--shards", collection_root, "--model", "huge", "--out", tmp_path)
    assert wrong.exit_code == 2 and "'huge' is not one of 'base', 'small', 'tiny'" in wrong.output
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    one_line(
        run("train", "--shards", collection_root, "--model", "small", "--out", tmp_path), "--feature-weights"
    )
    one_line(run("purify", tmp_path, tmp_path / "out", "--checkpoint", tmp_path / "run"), "no checkpoint")
