import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from impure import cli
from impure.manifests.collection import select
from impure.pipeline.attacks import ATTACKS


def generate(images, card, out, *more):
    return (
        "data", "generate", "--images", images, "--target", card, "--attack", "fgsm", "--split", "train",
        "--per-class", 2, "--threads", 1, "--out", out, *more,
    )  # fmt: skip


def one_line(result, said, code=1):
    """Bad input: one clear line on standard error, no traceback, a non-zero exit."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert re.search(said, errors[0]), errors[0]


def test_the_nine_are_the_registrys():
    assert set(cli.NINE) == set(ATTACKS)


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (("--attack", "fgsn"), r"fgsn.*fgsm, pgd", 1),
        (("--eps", 0), r"eps.* 1 to 255, got 0", 1),
        (("--eps", 300), r"eps.* 1 to 255, got 300", 1),
        (("--set", "stepz=3"), "stepz", 1),
        (("--set", "steps"), "NAME=VALUE", 1),
        (("--target", "nowhere.json"), r"nowhere\.json", 1),
        (("--target", "resnet1001"), r"resnet1001.*inception_v3", 1),
        (("--device", "cuda:77"), "cuda:77", 1),
        (("--split", "dev"), "dev", 2),
        (("--per-class", 0), "per-class", 2),
        (("--per-class", 500), "too few", 1),
    ],
)
def test_bad_options_are_one_clear_line(imagenet, card, tmp_path, run, more, said, code):
    one_line(run(*generate(imagenet, card, tmp_path / "out", *more)), said, code)
    assert not list(tmp_path.glob("out/*/*"))


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


def test_images_need_a_target(imagenet, tmp_path, run):
    one_line(run("data", "sample", "--images", imagenet, "--out", tmp_path), "--target")


def test_an_unwritable_output_is_one_clear_line(imagenet, card, tmp_path, run):
    (tmp_path / "file").write_text("in the way")
    one_line(run(*generate(imagenet, card, tmp_path / "file" / "out")), "file.*[Nn]ot a directory")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_one_clear_line(imagenet, card, tmp_path, run, monkeypatch):
    import impure.pipeline.shards as module

    def full(path, samples):
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x" * 4096)

    monkeypatch.setattr(module, "write_tar", full)
    one_line(run(*generate(imagenet, card, tmp_path / "out")), "No space left")
    assert not list((tmp_path / "out").glob("*/*/*/*"))
    assert not list((tmp_path / "out" / "_tmp").glob("*/*"))


def test_running_out_of_memory_is_one_clear_line(imagenet, card, tmp_path, run, monkeypatch):
    import torch

    def too_much(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr("impure.pipeline.generate.attack_batch", too_much)
    one_line(run(*generate(imagenet, card, tmp_path / "out")), "--batch-size")


def test_corrupt_and_odd_images_are_counted_named_and_converted(imagenet, card, tmp_path, run):
    """Grey, CMYK, palette and 16-bit pictures are used; broken ones are skipped and named."""
    images = shutil.copytree(imagenet, tmp_path / "images")
    paths = sorted((images / "train").rglob("*.png"))
    for place, path in enumerate(paths):
        picture = Image.open(path).convert("RGB")
        if place % 6 == 0:
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
    rows = [row for unit in select(str(tmp_path / "out")) for row in unit.rows()[0].to_pylist()]
    unreadable = [row for row in rows if row["status"] == "unreadable"]
    broken = {path.relative_to(images).as_posix() for path in paths[::6]}
    assert {row["source_id"] for row in unreadable} <= broken
    assert len(unreadable) == said["plans"]["train"]["unreadable"] > 0
    assert not broken & {row["source_id"] for row in rows if row["status"] == "ok"}


def test_a_shortfall_that_was_accepted_is_exit_code_3(imagenet, card, tmp_path, run):
    result = run(*generate(imagenet, card, tmp_path / "out", "--per-class", 11, "--allow-short", "--json"))
    sampled = json.loads(result.stdout)["plans"]["train"]
    assert result.exit_code == (3 if sampled["short"] else 0)
    assert sampled["asked"] == 33 == sampled["sampled"] + sampled["short"]


def test_a_dry_run_attacks_nothing(imagenet, card, tmp_path, run):
    result = run(*generate(imagenet, card, tmp_path / "out", "--dry-run", "--json"))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["pairs"] == 6
    assert not list((tmp_path / "out").glob("*/*/*/*.tar"))


def test_status_ls_verify_and_preview_tell_what_is_there(collection_root, run, tmp_path):
    status = json.loads(run("data", "status", collection_root, "--json").stdout)
    assert sum(group["stored"] for group in status["groups"]) == 3 * 27
    assert status["missing"] == []
    assert "small/pgd/test" in run("data", "status", collection_root).stdout
    assert len(json.loads(run("data", "ls", collection_root, "--json").stdout)) == len(
        select(str(collection_root))
    )
    assert run("data", "ls", collection_root).stdout.count(".tar") == len(select(str(collection_root)))
    verified = run("data", "verify", collection_root, "--json")
    assert json.loads(verified.stdout)["bad"] == []
    sheet = run("data", "preview", collection_root, "--out", tmp_path / "sheet.png")
    assert sheet.exit_code == 0, sheet.output
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > 500


def test_verify_names_what_is_wrong_and_exits_with_3(collection_root, run, tmp_path):
    root = shutil.copytree(collection_root, tmp_path / "root")
    units = select(str(root))
    units[0].tar.write_bytes(b"")
    units[1].stem.with_suffix(".done.json").unlink()
    result = run("data", "verify", root)
    assert result.exit_code == 3
    assert f"{units[0].unit}: 000000.tar has 0 bytes" in result.stdout
    assert f"{units[1].unit}: planned, but not committed" in result.stdout


def test_an_empty_folder_is_no_collection(run, tmp_path):
    one_line(run("data", "verify", tmp_path), "no committed shard")
    one_line(run("data", "preview", tmp_path), "no committed shard")


def commands():
    return [cli.data, *cli.data.commands.values(), cli.train, cli.evaluate, cli.purify]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_command_and_option_is_documented(command):
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help or parameter.name in ("preset",), parameter.name


def test_help_imports_nothing_heavy():
    code = "import sys, impure.cli; print(sorted({'torch', 'numpy', 'pyarrow', 'PIL'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "[]"
