"""What is chosen, and what is counted, is what one plain pass over each class gives."""

import random

from impure.manifests.collection.schema import STATUS_OK, UNREADABLE
from impure.pipeline.generation.class_choice import MISCLASSIFIED, choose
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

    def try_batch(images):
        batches.append([image.source_id for image in images])
        return [{"source_id": image.source_id, "status": status_of[image.source_id]} for image in images]

    return candidates, try_batch, batches


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
        candidates, try_batch, batches = classes(table)
        counted = []
        tallies = choose(candidates, wanted, batch_size, try_batch, counted.append)
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
        candidates, try_batch, _ = classes({"n0": statuses})
        assert len(choose(candidates, 2, 32, try_batch, int)["n0"].chosen) == 2


def test_the_tail_of_a_class_is_tried_in_batches_that_grow():
    """One hundred wrong images before the right one take nine batches, not a hundred and one."""
    candidates, try_batch, batches = classes({"n0": [MISCLASSIFIED] * 100 + [STATUS_OK] * 400})
    tally = choose(candidates, 1, 32, try_batch, int)["n0"]
    assert (len(tally.chosen), tally.misclassified) == (1, 100)
    assert [len(batch) for batch in batches] == [1, 1, 2, 4, 8, 16, 32, 32, 32]


def test_no_class_is_tried_further_when_it_has_enough():
    candidates, try_batch, batches = classes({"n0": [STATUS_OK] * 50, "n1": [MISCLASSIFIED] * 9})
    choose(candidates, 3, 4, try_batch, int)
    tried = [source_id for batch in batches for source_id in batch]
    assert sum(source_id.startswith("n0") for source_id in tried) == 3
