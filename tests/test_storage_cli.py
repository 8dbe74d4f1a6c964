"""Every way of storing holds the same pixels, and every command that reads them copes with it."""

import json
import shutil

import pytest
from PIL import Image

from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.collection.shard_id import ShardId
from tests.common import files_of, hashes, one_line, stamps

WAYS = {
    "default": ("--attack", "clean,fgsm,pgd"),
    "webp": ("--encoding", "webp", "--attack", "clean,fgsm,pgd"),
    "once": ("--encoding", "webp", "--clean", "once", "--attack", "fgsm,pgd"),
    "delta": ("--profile", "delta", "--attack", "clean,fgsm,pgd"),
}
OTHERS = ("webp", "once", "delta")
PAIRED = ("webp", "once")
CLEAN, PGD = ShardId("small", "clean", "train", 0), ShardId("small", "pgd", "train", 0)


@pytest.fixture(scope="module")
def generate(imagenet, card, run):
    """`generate`, of everything but attacks and storage."""

    def made(root, *more):
        return run(
            "data", "generate", "--images", imagenet, "--target", card, "--split", "train", "--per-class", 3,
            "--shard-size", 5, "--batch-size", 4, "--threads", 1, "--out", root, *more,
        )  # fmt: skip

    return made


@pytest.fixture(scope="module")
def stored(generate, tmp_path_factory):
    """A collection in every way, by its name; not to be changed."""
    roots = {name: tmp_path_factory.mktemp(name) / "root" for name in WAYS}
    for name, root in roots.items():
        made = generate(root, *WAYS[name])
        assert made.exit_code == 0, made.output
    return roots


@pytest.mark.parametrize("way", OTHERS)
def test_the_pixels_are_those_of_the_default(stored, run, way):
    assert hashes(stored[way]) == hashes(stored["default"])
    verified = run("data", "verify", stored[way])
    assert (verified.exit_code, "6 shards" in verified.stdout) == (0, True), verified.output


def test_members_are_as_asked_for(stored):
    for way, root in stored.items():
        for shard in select_shards(str(root)):
            profile = {"once": "clean-once", "delta": "delta"}.get(way, "pairs")
            encoding = "webp" if way in PAIRED else "png"
            assert (shard.storage.profile, shard.storage.encoding) == (profile, encoding)
    sizes = {
        way: sum(each.tar.stat().st_size for each in select_shards(str(root))) for way, root in stored.items()
    }
    assert sizes["once"] < sizes["webp"]


@pytest.mark.parametrize("way", PAIRED)
def test_replay_and_another_attack_agree(stored, card, run, way):
    found = run("data", "verify", stored[way], "--level", "replay", "--again", "--target", card)
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("way", PAIRED)
def test_a_contact_sheet_shows_them(stored, run, tmp_path, way):
    sheets = []
    for root in (stored[way], stored["default"]):
        drawn = run("data", "preview", root, "--out", tmp_path / "sheet.png")
        assert drawn.exit_code == 0, drawn.output
        sheets.append(Image.open(tmp_path / "sheet.png").tobytes())
    assert sheets[0] == sheets[1]


def test_perturbations_alone_are_sent_to_rebuild(stored, card, run, tmp_path):
    delta, report = stored["delta"], tmp_path / "report"
    for command in (
        ("data", "verify", delta, "--level", "replay", "--target", card),
        ("data", "preview", delta, "--out", tmp_path / "sheet.png"),
        ("train", "--shards", delta, "--model", "tiny", "--epochs", 1, "--out", tmp_path / "run"),
        ("evaluate", "--shards", delta, "--split", "train", "--defence", "none", "--target", card,
            "--out", report),
    ):  # fmt: skip
        one_line(run(*command), "impure-data rebuild")


def test_training_from_clean_once_webp_learns_the_same(stored, run, tmp_path):
    weights = []
    for name, root in (("once", stored["once"]), ("pairs", stored["default"])):
        trained = run("train", "--shards", root, "--model", "tiny", "--epochs", 1, "--batch-size", 9,
            "--device", "cpu", "--threads", 1, "--out", tmp_path / name)  # fmt: skip
        assert trained.exit_code == 0, trained.output
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


# --- refused ---


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--profile", "delta", "--clean", "once"), "delta stores no clean images"),
        (("--profile", "delta", "--eps", 128), "at most 127/255"),
        (("--profile", "delta", "--eps", 4, 200), "at most 127/255"),
    ],
)
def test_what_no_profile_holds_is_refused_before_anything_is_made(generate, tmp_path, more, said):
    one_line(generate(tmp_path / "root", "--attack", "fgsm", *more), said)
    assert not list((tmp_path / "root").glob("*/*"))


def test_the_largest_perturbation_is_held(imagenet, card, tmp_path, run):
    small = ("--images", imagenet, "--split", "train", "--attack", "fgsm", "--eps", 127, "--target", card)
    for name, profile in (("delta", "delta"), ("own", "pairs")):
        made = run("data", "generate", *small, "--per-class", 1, "--threads", 1, "--profile", profile,
            "--out", tmp_path / name)  # fmt: skip
        assert made.exit_code == 0, made.output
    assert run("data", "verify", tmp_path / "delta").exit_code == 0
    assert run("data", "rebuild", tmp_path / "delta", "--images", imagenet).exit_code == 0
    assert hashes(tmp_path / "delta-pairs") == hashes(tmp_path / "own")


@pytest.mark.parametrize(("way", "field"), [("webp", "encoding"), ("once", "profile"), ("delta", "profile")])
def test_another_storage_of_what_was_begun_is_refused(generate, stored, tmp_path, way, field):
    root = shutil.copytree(stored["default"], tmp_path / "root", ignore=shutil.ignore_patterns("_tmp"))
    Collection(root).marker_path(PGD).unlink()
    before = stamps(root / "small")
    one_line(generate(root, *WAYS[way]), rf"made with another config: .*storage\.{field} \(there .*--out")
    assert stamps(root / "small") == before


# --- repair where clean images are stored once ---


@pytest.mark.parametrize("bad", [{CLEAN}, {PGD}, {CLEAN, PGD}], ids=["clean", "attack", "both"])
def test_a_damaged_clean_shard_does_not_cost_the_attacks(stored, imagenet, card, run, tmp_path, bad):
    root = shutil.copytree(stored["once"], tmp_path / "root")
    for shard_id in bad:
        path = Collection(root).stem(shard_id).with_suffix(".tar")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    before = stamps(root)
    mended = run("data", "verify", root, "--repair", "--images", imagenet, "--target", card)
    assert mended.exit_code == 0, mended.output
    after = stamps(root)
    assert {name for name in after if after[name] != before[name]} == files_of(*bad)
    assert hashes(root) == hashes(stored["once"])


# --- rebuild ---


@pytest.mark.parametrize("more", [(), ("--encoding", "webp", "--clean", "once")], ids=["pairs", "once"])
def test_rebuilding_gives_the_pairs_back(stored, imagenet, card, run, tmp_path, more):
    out = tmp_path / "out"
    command = ("data", "rebuild", stored["delta"], "--images", imagenet, "--out", out, *more, "--json")
    made = run(*command)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout) == {"out": str(out), "stored": 27, "lost": {}}
    assert hashes(out) == hashes(stored["default"])
    replayed = run("data", "verify", out, "--level", "replay", "--again", "--target", card)
    assert replayed.exit_code == 0, replayed.output
    before = stamps(out / "small")
    again = run(*command)
    assert (again.exit_code, json.loads(again.stdout)["stored"]) == (0, 27)
    assert stamps(out / "small") == before


def test_a_missing_and_a_changed_photograph_are_named_and_mended_later(stored, imagenet, run, tmp_path):
    mine = shutil.copytree(imagenet, tmp_path / "mine")
    planned = Collection(stored["delta"]).read(PGD).rows()[0]["source_id"].to_pylist()
    missing, changed = (mine / source_id for source_id in planned[:2])
    missing.unlink()
    Image.new("RGB", (64, 64)).save(changed)
    command = ("data", "rebuild", stored["delta"], "--images", mine, "--out", tmp_path / "out")
    for _ in range(2):  # nobody mistakes the second run for a complete one
        made = run(*command, "--json")
        assert made.exit_code == 3, made.output
        document = json.loads(made.stdout)
        assert document["stored"] == 27 - 6
        for shard_id in (CLEAN, PGD):
            lost = document["lost"][str(shard_id)]
            assert "not among" in lost[planned[0]]
            assert "other pixels" in lost[planned[1]]
        assert len(document["lost"]) == 3
    told = run(*command)
    assert told.exit_code == 3
    assert f"{PGD}: 2 lost, the first {planned[0]}" in told.stdout
    assert run("data", "verify", tmp_path / "out").exit_code == 0
    for path in (missing, changed):
        shutil.copy(imagenet / path.relative_to(mine), path)
    mended = run(*command)
    assert mended.exit_code == 0, mended.output
    assert hashes(tmp_path / "out") == hashes(stored["default"])


def test_an_interrupted_rebuild_goes_on(stored, imagenet, run, tmp_path):
    command = ("data", "rebuild", stored["delta"], "--images", imagenet, "--out", tmp_path / "out")
    assert run(*command).exit_code == 0
    before = stamps(tmp_path / "out" / "small")
    Collection(tmp_path / "out").marker_path(PGD).unlink()
    assert run(*command).exit_code == 0
    after = stamps(tmp_path / "out" / "small")
    assert {f"small/{name}" for name in after if after[name] != before[name]} == files_of(PGD)
    assert hashes(tmp_path / "out") == hashes(stored["default"])


def test_what_cannot_be_rebuilt_is_one_clear_line(stored, imagenet, run, tmp_path):
    images = ("--images", imagenet)
    one_line(run("data", "rebuild", stored["default"], *images, "--out", tmp_path / "a"), "no perturbations")
    one_line(run("data", "rebuild", stored["delta"], *images, "--out", stored["delta"]), "another folder")
    one_line(run("data", "rebuild", stored["delta"], "--images", tmp_path / "no"), "no: no such folder")
    damaged = shutil.copytree(stored["delta"], tmp_path / "delta")
    Collection(damaged).stem(PGD).with_suffix(".tar").unlink()
    one_line(run("data", "rebuild", damaged, *images), "000000.tar")
