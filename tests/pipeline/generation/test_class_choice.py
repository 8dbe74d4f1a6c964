"""What is chosen, and what is counted, is what one plain pass over each class gives."""

import random

import pytest

from impure.manifests.collection.schema import STATUS_OK, UNREADABLE
from impure.pipeline.generation.class_choice import MISCLASSIFIED, Accuracy, choose
from impure.pipeline.sources.source import SourceImage

STATUSES = (STATUS_OK, MISCLASSIFIED, UNREADABLE)


def classes(table):
    """Candidates of each class from its statuses, and a classifier that answers with them."""
    candidates = {
        wnid: [SourceImage(f"{wnid}_{index}", wnid) for index in range(len(statuses))]
        for wnid, statuses in table.items()
    }
    status_of = {
        image.source_id: status
        for wnid, statuses in table.items()
        for image, status in zip(candidates[wnid], statuses, strict=True)
    }
    batches = []

    def begin(images):
        batches.append([image.source_id for image in images])
        rows = [{"source_id": image.source_id, "status": status_of[image.source_id]} for image in images]
        return lambda: rows

    return candidates, begin, batches


def one_pass(statuses, wanted):
    """Indices of what is chosen and of what is unreadable, and the number misclassified."""
    chosen, unreadable, misclassified = [], [], 0
    for index, status in enumerate(statuses):
        if len(chosen) == wanted:
            break
        chosen += [index] * (status == STATUS_OK)
        unreadable += [index] * (status == UNREADABLE)
        misclassified += status == MISCLASSIFIED
    return chosen, unreadable, misclassified


def test_the_choice_is_that_of_one_pass_for_any_table_and_any_size_of_rounds():
    for seed in range(300):
        rng = random.Random(seed)
        weights = [rng.random() for _ in STATUSES]
        table = {
            f"n{number}": rng.choices(STATUSES, weights, k=rng.randrange(1, 30))
            for number in range(rng.randrange(1, 6))
        }
        wanted, batch_size = rng.randrange(1, 8), rng.randrange(1, 20)
        candidates, begin, batches = classes(table)
        counted = []
        tallies = choose(candidates, wanted, batch_size, begin, counted.append)
        for wnid, statuses in table.items():
            chosen, unreadable, misclassified = one_pass(statuses, wanted)
            tally = tallies[wnid]
            assert [row["source_id"] for row in tally.chosen] == [f"{wnid}_{index}" for index in chosen]
            assert [row["source_id"] for row in tally.unreadable] == [f"{wnid}_{i}" for i in unreadable]
            assert tally.misclassified == misclassified
        tried = [source_id for batch in batches for source_id in batch]
        assert len(tried) == len(set(tried))
        assert max(map(len, batches)) <= batch_size
        assert sum(counted) == sum(len(tally.chosen) for tally in tallies.values())


def test_an_exhausted_round_loses_no_candidate():
    """Two right and one wrong are enough for two, whatever the order."""
    for wrong in range(3):
        statuses = [MISCLASSIFIED if index == wrong else STATUS_OK for index in range(3)]
        candidates, begin, _ = classes({"n0": statuses})
        assert len(choose(candidates, 2, 32, begin, int)["n0"].chosen) == 2


def test_the_tail_of_a_class_is_tried_in_full_batches():
    """One hundred wrong images before the right one take five batches, not a hundred and one."""
    candidates, begin, batches = classes({"n0": [MISCLASSIFIED] * 100 + [STATUS_OK] * 400})
    tally = choose(candidates, 1, 32, begin, int)["n0"]
    assert (len(tally.chosen), tally.misclassified) == (1, 100)
    assert [len(batch) for batch in batches] == [1, 32, 32, 32, 32]


def test_batches_are_full_to_the_end():
    """A hundred classes of which four images in five are right: hardly a batch is not full, or in excess."""
    rng = random.Random(0)
    table = {f"n{number}": rng.choices(STATUSES, (8, 2, 0), k=60) for number in range(100)}
    candidates, begin, batches = classes(table)
    choose(candidates, 10, 64, begin, int)
    assert sum(len(batch) < 64 for batch in batches) <= 2
    assert sum(map(len, batches)) <= 1000 / 0.8 + 4 * 64


def test_a_batch_is_decoded_while_the_one_before_is_classified():
    candidates, begin, batches = classes({"n0": [STATUS_OK] * 12})
    began = []

    def noting(images):
        finish = begin(images)
        return lambda: (began.append(len(batches)), finish())[1]

    choose(candidates, 12, 4, noting, int)
    assert began == [2, 3, 3]


@pytest.mark.parametrize(("right", "told"), [(2, True), (60, False)])
def test_a_target_near_chance_is_noticed_at_once(right, told, capsys):
    accuracy = Accuracy("resnet", 1000)
    for start in range(0, 1000, 50):
        accuracy.watch(
            [{"status": STATUS_OK if i < right else MISCLASSIFIED} for i in range(start, start + 50)]
        )
    said = capsys.readouterr().err
    assert said.count("Target 'resnet' tried 100 images and got 2 right, hardly more") == told
    assert told or not said


def test_no_class_is_tried_further_when_it_has_enough():
    candidates, begin, batches = classes({"n0": [STATUS_OK] * 50, "n1": [MISCLASSIFIED] * 9})
    choose(candidates, 3, 4, begin, int)
    tried = [source_id for batch in batches for source_id in batch]
    assert sum(source_id.startswith("n0") for source_id in tried) == 3
