import argparse
import copy
import pickle
import re
import tarfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.weights import (
    TensorHeader,
    check_shapes,
    load_strictly,
    load_weights_file,
    plain_tensors,
    read_header,
    read_saved,
    read_weights,
)

WEIGHTS = {"weight": torch.arange(6.0).view(3, 2), "bias": torch.ones(3)}


class Malice:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_half_precision_weights_of_both_formats_fill_a_network(tmp_path, suffix):
    halves = {name: tensor.half() for name, tensor in WEIGHTS.items()}
    path = tmp_path / f"w{suffix}"
    save_file(halves, path) if suffix == ".safetensors" else torch.save(halves, path)
    network = nn.Linear(2, 3)
    load_weights_file(network, path)
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in network.state_dict().items())
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, r"1 missing: bias\)"),
        ({"extra": torch.ones(1)}, r"1 unexpected: extra\)"),
        ({"bias": torch.ones(4)}, r"1 of another shape: bias \(4,\), not \(3,\)\)"),
        ({"bias": torch.tensor([0, torch.inf, 0])}, "1 tensors hold NaN or infinity, the first is bias"),
        ({"weight": torch.full((3, 2), torch.nan)}, "NaN or infinity, the first is weight"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change, message):
    network = nn.Linear(2, 3)
    before = copy.deepcopy(network.state_dict())
    weights = {name: tensor for name, tensor in (WEIGHTS | change).items() if tensor is not None}
    with pytest.raises(InputError, match=f"the file: .*{message}"):
        load_strictly(network, weights, "the file")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_message_names_four_tensors_at_most():
    with pytest.raises(InputError, match=r"9 missing: n0, n1, n2, n3\)"):
        check_shapes({f"n{index}": (1,) for index in range(9)}, {}, "x")


@pytest.mark.parametrize("content", [b"", b"junk", Malice()])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_and_hostile_files_are_refused_in_one_line_and_run_no_code(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=rf"^[^\n]*w{suffix}: not a readable state \([^\n]+\); delete it\Z"):
        read_saved(path, "state", "; delete it")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(InputError, match=r"w\.pth: no such weights file"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
    ],
    ids=["sparse", "meta", "quantised"],
)
def test_tensors_without_plain_values_are_refused_in_one_line(tmp_path, tensor):
    torch.save({"weight": tensor}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: holds no weights, or more than plain tensors[^\n]*\Z"):
        load_weights_file(nn.Linear(2, 3), tmp_path / "w.pth")


def tar_file(path):
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            tar.addfile(tarfile.TarInfo(name))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: torch.save(nn.Linear(2, 3), path), "GLOBAL torch.nn.modules.linear.Linear"),
        (lambda path: path.write_bytes(pickle.dumps(WEIGHTS)), "GLOBAL|Unsupported operand"),
        (lambda path: torch.jit.script(nn.Linear(2, 3)).save(str(path)), "TorchScript archive"),
        (tar_file, "legacy .tar"),
    ],
    ids=["module", "pickle", "script", "tar"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_files_of_other_kinds_are_refused_with_what_to_do(tmp_path, write, reason):
    write(tmp_path / "w.pth")
    line = rf"w\.pth: not a readable weights file \([^\n]*({reason})[^\n]*\); save the network's state_dict"
    with pytest.raises(InputError, match=rf"{line}[^\n]*\Z"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pointer_of_git_lfs_is_told_from_weights(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match="a Git LFS pointer.*git lfs pull"):
        read_weights(path)


def test_only_allowed_classes_are_read(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(InputError, match=re.escape("GLOBAL argparse.Namespace")):
        read_saved(path)
    assert read_saved(path, allowed=[argparse.Namespace])["args"].lr == 0.1


@pytest.mark.parametrize(
    "content",
    [{}, [], {"w": 1}, {"w": torch.ones(2).to_sparse()}, {"w": torch.ones(2, device="meta")}],
)
def test_other_content_than_tensors_is_no_weights(content):
    with pytest.raises(InputError, match="x: holds no weights"):
        plain_tensors(content, "x")


def test_a_header_tells_shapes_and_types_without_the_values(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"half": torch.ones(2, 3).half(), "count": torch.tensor(1)}, path)
    assert read_header(path) == {"half": TensorHeader((2, 3), "F16"), "count": TensorHeader((), "I64")}
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="not a readable safetensors"):
        read_header(path)
