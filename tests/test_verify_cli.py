"""`impure-data verify`: what is wrong is found and named, and --repair makes exactly that again."""

import json
import re
import shutil
import tarfile

import pytest
from safetensors.torch import load_file, save_file

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.files import read_json, sha256_file
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_id import ShardId
from tests.common import files_of, hashes, one_line, stamps
from tests.damage import DAMAGES, FGSM, PGD, edit_manifest, edit_marker, flip, stem


@pytest.fixture(scope="module")
def sound(imagenet, card, run, tmp_path_factory):
    """A collection of six shards in which all is well; not to be changed."""
    root = tmp_path_factory.mktemp("sound") / "root"
    made = run("data", "generate", "--images", imagenet, "--target", card, "--attack", "clean,fgsm,pgd",
        "--split", "train", "--per-class", 3, "--shard-size", 5, "--batch-size", 4, "--threads", 1,
        "--out", root)  # fmt: skip
    assert made.exit_code == 0, made.output
    return root


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / "root", ignore=shutil.ignore_patterns("_tmp"))


@pytest.fixture
def repair(run, imagenet, card):
    """Run verify --repair on a root."""

    def repaired(root, *more):
        return run("data", "verify", root, "--repair", "--images", imagenet, "--target", card, *more)

    return repaired


@pytest.fixture(scope="module")
def other_card(card, tmp_path_factory):
    """The same target with other weights."""
    folder, shipped = tmp_path_factory.mktemp("other"), read_json(card)
    weights = load_file(shipped["weights"])
    save_file({name: each * 2 if each.is_floating_point() else each for name, each in weights.items()},
        folder / "w.safetensors")  # fmt: skip
    (folder / "card.json").write_text(json.dumps(shipped | {"weights": str(folder / "w.safetensors")}))
    return folder / "card.json"


def another_class(rows, value=None):
    """Change the first successful row's prediction to another wrong class."""
    row = next(row for row in rows if row["success"])
    row["pred_adv"] = next(c for c in range(10) if c not in (row["label"], row["pred_adv"]))
    if value is not None:
        row["pred_adv"] = value


# --- replay ---


def replay(run, root, card, *more):
    return run("data", "verify", root, "--level", "replay", "--target", card, *more)


def test_replay_finds_nothing_wrong_with_a_clean_collection_and_the_same_pixels_again(sound, card, run):
    found = replay(run, sound, card, "--again")
    assert found.exit_code == 0, found.output
    assert "6 shards checked at level replay: nothing wrong" in found.stdout


@pytest.mark.parametrize("value", [None, 10, -1])
def test_replay_finds_an_edited_prediction_that_every_hash_vouches_for(root, card, run, value):
    edit_manifest(root, PGD, lambda rows: another_class(rows, value))
    assert run("data", "verify", root).exit_code == 0
    found = replay(run, root, card, "--samples", 100, "--json")
    assert found.exit_code == 3, found.output
    bad = json.loads(found.stdout)["bad"]
    assert [each["shard_id"] for each in bad] == [str(PGD)]
    assert re.search(r"pred_adv is -?\d+, the target says \d+", bad[0]["problem"])


def test_a_missing_target_is_said_before_anything_is_decoded(sound, run, monkeypatch):
    monkeypatch.setattr(
        "impure.pipeline.commands.verification.verify", lambda *arguments: pytest.fail("decoded")
    )
    one_line(run("data", "verify", sound, "--level", "replay"), "'small'.*--target")


def test_a_filter_leaves_other_shards_out_of_every_level(root, card, run, repair):
    stem(root, PGD).with_suffix(".tar").write_bytes(b"")
    stem(root, ShardId("small", "clean", "train", 0)).with_suffix(".done.json").unlink()
    found = replay(run, root, card, "--attack", "fgsm", "--split", "train")
    assert found.exit_code == 0, found.output
    assert "2 shards checked at level replay: nothing wrong" in found.stdout
    found = run("data", "verify", root, "--attack", "clean,pgd", "--json")
    assert {bad["shard_id"] for bad in json.loads(found.stdout)["bad"]} == {
        str(PGD), "small/clean/train/000000"
    }  # fmt: skip
    one_line(
        run("data", "verify", root, "--attack", "cw"), "no shards of attack 'cw'; it has clean, fgsm, pgd"
    )
    assert "1 mended, 0 left" in repair(root, "--attack", "pgd").stdout
    assert not stem(root, ShardId("small", "clean", "train", 0)).with_suffix(".done.json").exists()


def test_what_replay_finds_is_made_again_and_replayed_again(root, sound, repair):
    edit_manifest(root, PGD, another_class)
    before = stamps(root)
    mended = repair(root, "--level", "replay", "--samples", 100)
    assert mended.exit_code == 0, mended.output
    assert "1 mended, 0 left" in mended.stdout
    after = stamps(root)
    assert {name for name in after if after[name] != before[name]} == files_of(PGD)
    rows = [Collection(each).read(PGD).rows()[0].drop(["run_id"]) for each in (root, sound)]
    assert rows[0].equals(rows[1])


def test_other_pixels_than_the_attack_gives_are_found_by_attacking_again(root, card, run):
    """A shard that says it was made with another seed: only another attack can tell."""
    config = Collection(root).read(PGD).marker["config"] | {"seed": 5}
    edit_marker(root, PGD, config=config, config_digest=digest(config))
    edit_manifest(root, PGD, lambda rows: None, config)
    assert replay(run, root, card).exit_code == 0
    found = replay(run, root, card, "--again")
    assert found.exit_code == 3, found.output
    assert re.search(rf"{PGD}: the attack gives other pixels on \d of 4 images$", found.stdout, re.MULTILINE)


def replay_with_config(run, root, card, **changes):
    """Replay a collection in which a shard says that it was made otherwise."""
    config = Collection(root).read(PGD).marker["config"] | changes
    edit_manifest(root, PGD, lambda rows: None, config)
    edit_marker(root, PGD, config=config, config_digest=digest(config))
    return replay(run, root, card, "--again")


@pytest.mark.parametrize(("name", "value"), [("seed", None), ("attack", []), ("compiled", 3)])
def test_a_config_of_the_wrong_kind_is_found_and_named(root, card, run, name, value):
    result = replay_with_config(run, root, card, **{name: value})
    assert result.exit_code == 3, result.output
    assert re.search(rf"^{PGD}: .*its config\.{name} is of the wrong kind", result.stdout, re.MULTILINE)


def test_an_unknown_attack_is_one_clear_line(root, card, run):
    one_line(replay_with_config(run, root, card, attack={"name": "fgsn"}), "unknown attack 'fgsn'; choose")


def test_other_weights_are_refused(sound, other_card, run):
    one_line(replay(run, sound, other_card), "made on 'small' with other weights")
    one_line(run("data", "verify", sound, "--level", "replay"), "'small'.*--target")


# --- repair ---


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_exactly_the_bad_shards_are_made_again(damage, root, sound, run, repair):
    wanted, before = damage(root), stamps(root)
    seen = run("data", "verify", root, "--json")
    assert seen.exit_code == 3, seen.output
    bad = {each["shard_id"]: each["problem"] for each in json.loads(seen.stdout)["bad"]}
    assert bad.keys() == {str(shard_id) for shard_id in wanted}
    assert all(re.search(problem, bad[str(shard_id)]) for shard_id, problem in wanted.items()), bad
    assert stamps(root) == before

    mended = repair(root, "--json")
    assert mended.exit_code == 0, mended.output
    document = json.loads(mended.stdout)
    assert {each["shard_id"]: each["problem"] for each in document["bad"]} == bad
    assert document["left"] == []
    after = stamps(root)
    assert {name for name in after if after[name] != before.get(name)} == files_of(*wanted)
    assert hashes(root) == hashes(sound)
    for shard_id in wanted:
        assert sha256_file(stem(root, shard_id).with_suffix(".tar")) == sha256_file(
            stem(sound, shard_id).with_suffix(".tar")
        )


def test_damage_is_told_to_people_and_what_to_do_about_it(root, run, repair):
    flip(root)
    seen = run("data", "verify", root)
    assert seen.exit_code == 3
    assert f"{PGD}: 000000.tar has another SHA-256" in seen.stdout
    assert "6 shards checked at level decode: 1 wrong" in seen.stdout
    assert "--repair" in seen.stdout
    mended = repair(root)
    assert mended.exit_code == 0
    assert "1 mended, 0 left" in mended.stdout
    assert repair(root).stdout.endswith("nothing wrong\n0 mended, 0 left\n")


def test_a_shard_of_images_out_of_tars_is_made_again(imagenet, card, tmp_path, run):
    pictures = tmp_path / "pictures" / "train.tar"
    pictures.parent.mkdir()
    with tarfile.open(pictures, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted((imagenet / "train").rglob("*.png")):
            tar.add(path, f"{path.stem}.png")
            (tmp_path / "cls").write_text(path.parent.name)
            tar.add(tmp_path / "cls", f"{path.stem}.cls")
    images, root = ("--images", pictures), tmp_path / "root"
    made = run("data", "generate", *images, "--target", card, "--attack", "fgsm", "--split", "train",
        "--per-class", 2, "--shard-size", 4, "--threads", 1, "--out", root)  # fmt: skip
    assert made.exit_code == 0, made.output
    wanted = hashes(root)
    stem(root, ShardId("small", "fgsm", "train", 0)).with_suffix(".tar").unlink()
    mended = run("data", "verify", root, "--repair", *images, "--target", card)
    assert mended.exit_code == 0, mended.output
    assert hashes(root) == wanted


# --- what cannot be repaired ---


def nothing_changed(root, before, result, said):
    one_line(result, said)
    assert stamps(root) == before


def test_an_attack_without_a_marker_is_not_guessed_at(root, repair):
    for path in root.glob("small/pgd/*/*.done.json"):
        path.unlink()
    flip_other = stem(root, FGSM).with_suffix(".tar")
    flip_other.write_bytes(flip_other.read_bytes()[:-1])
    before = stamps(root)
    nothing_changed(
        root, before, repair(root), "small/pgd/.*: no marker says how it was made; run its generate command"
    )


def test_without_its_target_or_plan_nothing_is_made(root, run, imagenet, card, other_card):
    flip(root)
    before = stamps(root)
    given = ("data", "verify", root, "--repair", "--images", imagenet)
    nothing_changed(root, before, run(*given), "'small'.*--target")
    nothing_changed(root, before, run(*given, "--target", other_card), "other weights")
    (root / "plans/small-train.parquet").unlink()
    del before["plans/small-train.parquet"]
    nothing_changed(root, before, run(*given, "--target", card), "its plan is lost")


def test_other_images_are_not_taken_for_the_planned_ones(root, run, imagenet, card, tmp_path):
    flip(root)
    before = stamps(root)
    given = ("data", "verify", root, "--repair", "--target", card)
    nothing_changed(root, before, run(*given), "--images")  # builtin
    nothing_changed(root, before, run(*given, "--images", tmp_path / "nowhere"), "no such folder")
    (tmp_path / "elsewhere").mkdir()
    nothing_changed(
        root, before, run(*given, "--images", tmp_path / "elsewhere"), r"5 of its images are not.*--images"
    )
    mine = shutil.copytree(imagenet, tmp_path / imagenet.name)
    lost = Collection(root).read(PGD).rows()[0]["source_id"][1].as_py()
    (mine / lost).unlink()
    nothing_changed(root, before, run(*given, "--images", mine), rf"1 of .* images.*{lost}")
    shutil.copy(next(path for path in mine.rglob("*.png") if path.name != lost), mine / lost)
    nothing_changed(root, before, run(*given, "--images", mine), rf"1 of .* images.*{lost}")


def test_a_shard_that_fails_again_stays_bad_and_is_named(root, repair, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the device is gone")

    flip(root)
    monkeypatch.setattr("impure.pipeline.generation.attack_batches.attack_batch", broken)
    failed = repair(root, "--json")
    assert failed.exit_code == 3, failed.output
    assert [each["shard_id"] for each in json.loads(failed.stdout)["left"]] == [str(PGD)]
    assert f"{PGD}: RuntimeError: the device is gone" in failed.stderr
