"""Commands that move collections: their failures are logged, and leave no folder where none was."""

import shutil

import pytest

from impure.manifests.base.logs import FOLDER
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.sharing import remote_errors
from tests.common import one_line


@pytest.fixture
def damaged(collection_root, tmp_path):
    """A collection of which one tar is cut."""
    root = shutil.copytree(collection_root, tmp_path / "damaged")
    tar = Collection(root).committed[0].tar
    tar.write_bytes(tar.read_bytes()[:-1])
    return root


def check_logged(result, root, said):
    one_line(result, said)
    (log,) = (root / FOLDER).iterdir()
    assert f"Log: {log}" in result.stderr
    assert "Traceback (most recent call last)" in log.read_text()


def test_failed_transfers_are_logged(run, damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", ())
    check_logged(run("data", "push", damaged, "memory://logged"), damaged, "not what its marker says")
    here = tmp_path / "here"
    check_logged(run("data", "pull", damaged, here), here, "ended early")


def test_a_failed_merge_is_logged(run, damaged, collection_root, tmp_path):
    into = Collection(tmp_path / "into")
    plan = Collection(damaged).plan("small", "train")
    into.plan_path("small", "train").parent.mkdir(parents=True)
    write_table(into.plan_path("small", "train"), plan.table, {**plan.config, "seed": 7})
    check_logged(run("data", "merge", into.root, damaged), into.root, "another plan than")


def test_a_failed_rebuild_is_logged(run, damaged, imagenet, tmp_path):
    result = run("data", "rebuild", damaged, "--images", imagenet, "--out", tmp_path / "pairs")
    check_logged(result, tmp_path / "pairs", "holds no perturbations")


@pytest.mark.parametrize("command", ["pull", "merge"])
def test_what_fails_before_anything_is_made_leaves_no_folder(run, tmp_path, command):
    (tmp_path / "empty").mkdir()
    given = {"pull": ("empty", "here"), "merge": ("here", "empty")}[command]
    one_line(run("data", command, *(tmp_path / name for name in given)), "no committed shard there")
    assert not (tmp_path / "here").exists()
