"""Markers: what is refused when one is read, and what the counts in them mean."""

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.collection.marker import (
    MAX_BYTES,
    MAX_NUMBER,
    MAX_TEXT,
    add_counts,
    check_marker,
    count_rows,
    percent_fooled,
)


def marker(**changes):
    """A sound marker, but for changes; `a__b` changes the field `b` of the field `a`, None removes it."""
    sound = {
        "shard_id": "toy/pgd/test/000000",
        "config": {
            "target": {"weights": "", "wnids": ["a", "b"], "num_classes": 2},
            "storage": {"profile": "pairs", "encoding": "png"},
        },
        "config_digest": "",
        "tar": {"bytes": 10, "sha256": ""},
        "manifest": {"bytes": 20, "sha256": ""},
        "counts": {"planned": 2, "stored": 1, "failed": 1, "succeeded": 0},
    }
    for keys, value in changes.items():
        *parents, last = keys.split("__")
        place = sound
        for parent in parents:
            place = place[parent]
        place[last] = value
        if value is None:
            del place[last]
    return sound


def test_a_sound_marker_comes_back_as_it_is():
    assert check_marker(marker(), "here") == marker()
    more = marker(counts__unreadable=0, counts__planned=MAX_NUMBER, extra={"a": 1}, config__seed=3, seconds=1)
    assert check_marker(more, "here") == more


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shard_id": 3}, "shard_id"),
        ({"config": []}, "config"),
        ({"config_digest": None}, "config_digest"),
        ({"config__target": None}, "config.target"),
        ({"config__target__weights": 1}, "config.target.weights"),
        ({"config__target__wnids": "ab"}, "config.target.wnids"),
        ({"config__target__wnids": ["a", 1]}, "config.target.wnids"),
        ({"config__target__num_classes": -1}, "config.target.num_classes"),
        ({"config__storage": None}, "config.storage"),
        ({"config__storage": "pairs"}, "config.storage"),
        ({"config__storage__encoding": None}, "config.storage.encoding"),
        ({"config__storage__profile": "pickles"}, "config.storage"),
        ({"config__storage__odd": "x"}, "config.storage"),
        ({"tar": "x"}, "tar"),
        ({"tar__bytes": -1}, "tar.bytes"),
        ({"tar__bytes": 1.5}, "tar.bytes"),
        ({"tar__bytes": True}, "tar.bytes"),
        ({"tar__bytes": MAX_NUMBER + 1}, "tar.bytes"),
        ({"manifest__sha256": None}, "manifest.sha256"),
        ({"counts": [1, 2]}, "counts"),
        ({"counts__stored": -1}, "counts.stored"),
        ({"counts__failed": "0"}, "counts.failed"),
        ({"counts__succeeded": True}, "counts.succeeded"),
        ({"counts__planned": None}, "counts.planned"),
        ({"counts__unreadable": -1}, "counts"),
        ({"counts__odd": "x"}, "counts"),
        ({"counts__odd": False}, "counts"),
        ({"tar__bytes": 10**39}, "tar.bytes"),
        ({"tar__bytes": 1e39}, "tar.bytes"),
        ({"manifest__bytes": MAX_BYTES + 1}, "manifest.bytes"),
        ({"config__target__wnids": [["a"], "b"]}, "config.target.wnids"),
        ({"config__target__architecture": 3}, "config.target.architecture"),
        ({"config__attack": "pgd"}, "config.attack"),
        ({"config__attack": {"params": [1]}}, "config.attack.params"),
        ({"config__attack": {"eps_255": "16"}}, "config.attack.eps_255"),
        ({"config__attack": {"params": {"x": [10**39]}}}, "config.attack.params.x"),
        ({"config__seed": 1.5}, "config.seed"),
        ({"software": "torch"}, "software"),
        ({"software": {"torch": ["2"]}}, "software"),
        ({"attacked_together": 3}, "attacked_together"),
        ({"attacked_together": [[3]]}, "attacked_together"),
        ({"seconds": "3"}, "seconds"),
        ({"device": "\x1b[2J"}, "device"),
        ({"software": {"\x1b]0;x\x07": "1"}}, "keys in software"),
        ({"config__target__wnids": ["a" * (MAX_TEXT + 1), "b"]}, "config.target.wnids"),
    ],
    ids=str,
)
def test_what_readers_rely_on_is_checked_and_named(changes, named):
    with pytest.raises(InputError, match=rf"^here: its {named}\b.*; delete it and generate again$"):
        check_marker(marker(**changes), "here")


def test_counts_are_of_what_became_of_the_planned_images():
    rows = [
        {"status": "ok", "success": True},
        {"status": "ok", "success": False},
        {"status": "failed", "success": True},
        {"status": "changed", "success": None},
        {"status": "unreadable", "success": None},
    ]
    counts = count_rows(rows)
    assert counts == {"planned": 4, "stored": 2, "unreadable": 1, "failed": 2, "succeeded": 1}
    assert add_counts([counts, marker()["counts"]]) == {
        "planned": 6, "stored": 3, "unreadable": 1, "failed": 3, "succeeded": 1,
    }  # fmt: skip
    assert percent_fooled(counts) == "50.0"
    assert percent_fooled(add_counts([])) == "-"
