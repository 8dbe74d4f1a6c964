import shutil

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import STATUS_OK, UNREADABLE
from impure.pipeline.generation.draw_plan import mix_into_shards
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.generation.sampling import classify, sample
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source import SourceImage
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.preprocess import load_clean


@pytest.fixture(scope="module")
def target(card):
    return load_target(str(card))


def draw(root, images, target, split="val", per_class=3, **settings):
    config = SampleConfig(split=split, per_class=per_class, **settings)
    return sample(Collection(root), open_source(str(images)), target, config)


def ids(plan):
    return [row["source_id"] for row in plan.table.to_pylist() if row["status"] == STATUS_OK]


def test_validation_and_test_are_disjoint_and_balanced(tmp_path, imagenet, target):
    validation, test = draw(tmp_path, imagenet, target)
    assert not set(ids(validation)) & set(ids(test))
    for plan in (validation, test):
        wnids = plan.table["wnid"].to_pylist()
        assert sorted(wnids.count(wnid) for wnid in set(wnids)) == [3, 3, 3]


def test_only_correctly_classified_images_are_chosen_with_the_wnids_label(tmp_path, imagenet, target):
    (plan,) = draw(tmp_path, imagenet, target, "train")
    source = open_source(str(imagenet))
    for row in plan.table.to_pylist():
        clean = load_clean(source, SourceImage(row["source_id"], row["wnid"]), target.card)
        ((prediction, _),) = classify(target, [clean])
        assert prediction == row["label"] == target.card.wnids.index(row["wnid"])


def test_the_seed_decides(tmp_path, imagenet, target):
    first, again, other = (
        ids(draw(tmp_path / name, imagenet, target, "train", seed=seed)[0])
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


def test_a_plan_is_frozen_and_another_config_is_refused_by_name(tmp_path, imagenet, target):
    (plan,) = draw(tmp_path, imagenet, target, "train")
    before = Collection(tmp_path).plan_path("small", "train").stat()
    assert ids(draw(tmp_path, imagenet, target, "train")[0]) == ids(plan)
    assert Collection(tmp_path).plan_path("small", "train").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(InputError, match=r"per_class \(there 3, now 2\)"):
        draw(tmp_path, imagenet, target, "train", per_class=2)


def test_shards_follow_the_plans_order(tmp_path, imagenet, target):
    (plan,) = draw(tmp_path, imagenet, target, "train", shard_size=4)
    assert plan.table["shard"].to_pylist() == [0] * 4 + [1] * 4 + [2]


def test_a_shortfall_is_an_error_that_names_classes_and_writes_nothing(tmp_path, imagenet, target):
    with pytest.raises(InputError, match=r"3 of 3 classes: n01440764 has \d+ of 40 .*--allow-short"):
        draw(tmp_path, imagenet, target, "train", per_class=40)
    assert not list(tmp_path.iterdir())


def test_corrupt_images_are_passed_over_and_named(tmp_path, imagenet, target):
    images = shutil.copytree(imagenet, tmp_path / "images")
    broken = sorted((images / "train" / "n01440764").iterdir())[:6]
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    (plan,) = draw(tmp_path / "out", images, target, "train", per_class=5)
    assert plan.counts()["sampled"] == 15
    named = [row for row in plan.table.to_pylist() if row["status"] == UNREADABLE]
    assert {row["source_id"] for row in named} <= {path.relative_to(images).as_posix() for path in broken}
    assert len(named) == plan.counts()["unreadable"] > 0
    assert all("decoded" in row["error"] for row in named)
    assert Collection(tmp_path / "out").plan("small", "train").digest == plan.digest


def test_what_was_passed_over_is_counted(tmp_path, imagenet, target):
    """Where a class is short, each of its images is chosen, misclassified or unreadable, and counted once."""
    images = shutil.copytree(imagenet, tmp_path / "images")
    for path in sorted((images / "val" / "n01440764").iterdir())[:2]:
        path.write_bytes(b"no picture")
    for path in sorted((images / "val" / "n02102040").iterdir())[:3]:
        shutil.copy(next((images / "val" / "n02979186").iterdir()), path)  # a picture of another class
    source = open_source(str(images))
    config = SampleConfig(split="val", per_class=9)
    plans = sample(Collection(tmp_path / "out"), source, target, config, allow_short=True)
    loaded = [load_clean(source, image, target.card) for image in source.images("val")]
    readable = [clean for clean in loaded if clean.pixels is not None]
    labels = [target.card.wnids.index(clean.image.wnid) for clean in readable]
    right = sum(
        prediction == label for (prediction, _), label in zip(classify(target, readable), labels, strict=True)
    )
    counts = [plan.counts() for plan in plans]
    assert [count["asked"] for count in counts] == [27, 27]
    assert [count["unreadable"] for count in counts] == [2, 0]
    assert [count["misclassified"] for count in counts] == [len(readable) - right] * 2
    assert len(readable) - right >= 3
    assert sum(count["sampled"] for count in counts) == right
    assert sum(count["short"] for count in counts) == 54 - right


def test_the_validation_split_may_be_smaller(tmp_path, imagenet, target):
    """The same images in the same order, divided elsewhere."""
    plans = draw(tmp_path / "few", imagenet, target, per_class=4, validation_per_class=2)
    even = draw(tmp_path / "even", imagenet, target, per_class=3)
    assert [plan.counts()["asked"] for plan in plans] == [6, 12]
    few, same = (
        {row for plan in drawn for row in plan.table["source_id"].to_pylist()} for drawn in (plans, even)
    )
    assert few == same and len(few) == 18
    with pytest.raises(InputError, match=r"validation_per_class \(there 2, now null\)"):
        draw(tmp_path / "few", imagenet, target, per_class=4)
    with pytest.raises(InputError, match="it is for val"):
        SampleConfig(split="train", per_class=1, validation_per_class=1)


def test_two_images_of_one_name_are_refused_before_anything_is_attacked(tmp_path, imagenet, target):
    images = shutil.copytree(imagenet, tmp_path / "images")
    for wnid in ("n01440764", "n02102040"):
        paths = sorted((images / "train" / wnid).iterdir())
        for path in paths[1:]:
            path.unlink()
        paths[0].rename(paths[0].with_name("n01440764_5.JPEG"))
    with pytest.raises(InputError, match=r"n01440764/n01440764_5.JPEG and .*two images of one name"):
        draw(tmp_path / "out", images, target, "train", per_class=1)


def test_no_shard_is_left_empty_by_unreadable_images():
    rows = [{"source_id": f"{index}.png", "status": STATUS_OK} for index in range(10)]
    for seed in range(50):
        broken = {"source_id": f"broken-{seed}.png", "status": UNREADABLE}
        config = {"seed": seed, "shard_size": 5, "target": {"name": "t"}}
        table = mix_into_shards("train", [*rows, broken], config)
        assert set(table["shard"].to_pylist()) == {0, 1}


def test_unknown_classes_are_refused_and_unused_ones_left_out(tmp_path, imagenet, target, capsys):
    images = shutil.copytree(imagenet, tmp_path / "images")
    (images / "train" / "n01440764").rename(images / "train" / "n01530575")  # ImageNet's, not the target's
    assert len(set(draw(tmp_path / "a", images, target, "train")[0].table["wnid"].to_pylist())) == 2
    assert "Left out: 1 of 3 classes of 'images', which target 'small' does not know (n01530575" in (
        capsys.readouterr().err
    )
    (images / "train" / "n01530575").rename(images / "train" / "n99999999")
    with pytest.raises(InputError, match="n99999999"):
        draw(tmp_path / "b", images, target, "train")


def test_a_target_that_knows_none_of_the_classes_is_refused(tmp_path, imagenet, builtin_target):
    with pytest.raises(InputError, match="knows none"):
        draw(tmp_path, imagenet, builtin_target)


def test_two_right_photographs_of_three_are_enough_for_validation_and_test(tmp_path, imagenet, target):
    """Whichever the seed tries first: a round that ends without enough loses no candidate."""
    images = tmp_path / "images"
    shutil.copytree(imagenet / "val" / "n01440764", images / "val" / "n01440764")
    source = open_source(str(images))
    every = [load_clean(source, image, target.card) for image in source.images("val")]
    label = target.card.wnids.index("n01440764")
    right = [clean.image.source_id for clean in every if classify(target, [clean])[0][0] == label]
    for path in (images / "val" / "n01440764").iterdir():
        if path.relative_to(images).as_posix() not in right[:2]:
            path.unlink()
    wrong = next((imagenet / "val" / "n02102040").iterdir())
    shutil.copy(wrong, images / "val" / "n01440764" / "wrong.JPEG")
    for seed in range(6):
        plans = draw(tmp_path / str(seed), images, target, per_class=1, seed=seed)
        assert sorted(source_id for plan in plans for source_id in ids(plan)) == right[:2]


def test_a_clean_image_with_broken_logits_is_classified_as_nothing(imagenet, target):
    source = open_source(str(imagenet))
    cleans = [load_clean(source, image, target.card) for image in source.images("val")[:2]]
    logits = torch.tensor([[torch.nan, 0.0], [1.0, -torch.inf]])

    def broken(images):
        return logits

    broken.mean, broken.memory_format = target.mean, target.memory_format
    assert [prediction for prediction, _ in classify(broken, cleans)] == [-1, 0]
