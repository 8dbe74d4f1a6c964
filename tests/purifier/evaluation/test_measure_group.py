"""The measurement loop, with a defence that writes down what it is given."""

from pathlib import Path

import torch

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import list_pairs
from impure.purifier.evaluation.measure_group import Defended, measure_group, undefended
from impure.purifier.evaluation.predict import NO_CLASS, Loaded
from impure.purifier.evaluation.select import Group, batches, select_groups
from tests.purifier.conftest import Brightness, write_collection

CPU = torch.device("cpu")


def test_batches_are_of_one_size_and_never_longer_than_asked(tmp_path: Path) -> None:
    pairs = list_pairs(write_collection(tmp_path, attacks=("pgd",), count=5))
    assert [len(batch) for batch in batches(pairs, 2)] == [2, 2, 1]
    assert [pair.key for batch in batches(pairs, 2) for pair in batch] == [pair.key for pair in pairs]
    mixed = list_pairs(
        write_collection(tmp_path / "mixed", attacks=("pgd",), sizes=((8, 8), (8, 8), (8, 12)))
    )
    assert [len(batch) for batch in batches(mixed, 2)] == [2, 1, 2, 1]


def attacked_group(shards: list[CommittedShard]) -> Group:
    return select_groups(shards, {"toy": Brightness()})[1]


def test_the_loop_counts_and_keeps_the_sample_that_is_shown(shards: list[CommittedShard]) -> None:
    seen: list[tuple[int, int]] = []
    told: list[int] = []

    def defend(loaded: Loaded, number: int) -> Defended:
        seen.append((number, len(loaded.labels)))
        right = loaded.labels.clone()
        spoilt = torch.where(loaded.labels == 1, NO_CLASS, loaded.labels)
        return Defended({"copy": loaded.attacked}, {"right": right, "spoilt": spoilt}, {})

    group, reader = attacked_group(shards), PairReader()
    measured = measure_group(reader, group, defend, batch_size=4, device=CPU, advance=told.append)
    assert seen == [(0, 4), (1, 2)] and told == [4, 2]
    assert [measured.correct(name) for name in ("right", "spoilt")] == [6, 3] and measured.not_finite == 3
    assert group.shown == 2
    wanted = reader.adversarial(group.pairs[2]) / 255
    assert measured.shown.images["copy"].shape == (1, 3, 16, 16)
    assert torch.equal(measured.shown.images["copy"][0], wanted)
    assert measured.shown.predictions["right"].tolist() == [group.pairs[2].label]
    last = measure_group(reader, group._replace(shown=5), defend, batch_size=4, device=CPU).shown
    assert torch.equal(last.images["copy"][0], reader.adversarial(group.pairs[5]) / 255)


def test_undefended_shows_its_sample_clean_and_adversarial(shards: list[CommittedShard]) -> None:
    bare = undefended(PairReader(), attacked_group(shards), Brightness(), CPU)
    assert torch.allclose(bare.images["adversarial"], 1 - bare.images["clean"])
    assert {name: classes.tolist() for name, classes in bare.predictions.items()} == {
        "clean": [0],
        "adversarial": [1],
    }
