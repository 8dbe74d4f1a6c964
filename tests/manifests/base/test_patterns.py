"""Patterns of files: WebDataset's braces, and names that hold brackets or braces themselves."""

import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.patterns import expand_braces, find_files


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{000000..000001}.tar", ["000000.tar", "000001.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{}/{x}/{,a}", ["{}/{x}/", "{}/{x}/a"]),
        ("{2..1}.tar", ["{2..1}.tar"]),
    ],
)
def test_braces_are_as_in_webdataset(pattern, expanded):
    assert list(expand_braces(pattern)) == expanded


@pytest.fixture
def names(tmp_path):
    """Finds names below a folder whose own name looks like a pattern."""
    root = tmp_path / "out [2012]" / "{a,b}"
    for name in ("000000.tar", "000001.tar", "x[1].tar", "x1.tar", "y{1,2}.tar"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return lambda pattern: [path.relative_to(root).as_posix() for path in find_files(f"{root}/{pattern}")]


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("000000.tar", ["000000.tar"]),
        ("x[1].tar", ["x[1].tar"]),  # and not x1.tar
        ("y{1,2}.tar", ["y{1,2}.tar"]),
    ],
)
def test_a_name_that_is_there_is_no_pattern(names, pattern, files):
    assert names(pattern) == files


def test_square_brackets_of_a_folder_are_no_pattern(tmp_path):
    folder = tmp_path / "out [2012]"
    folder.mkdir()
    for name in ("000000.tar", "000001.tar", "x1.tar"):
        (folder / name).touch()
    assert len(find_files(f"{folder}/*.tar")) == 3
    assert len(find_files(f"{folder}/{{000000..000001}}.tar")) == 2
    assert [path.name for path in find_files(f"{tmp_path}/*/x[12].tar")] == ["x1.tar"]
    assert find_files(f"{folder}/z*.tar") == []
    with pytest.raises(InputError, match=r"000002\.tar: no such file"):
        find_files(f"{folder}/{{000000..000002}}.tar")
