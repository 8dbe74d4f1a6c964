"""The two kinds of file that a purifier is exported to: how each is written, opened and read."""

import importlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import MAX_JSON

KEY = "impure.json"  # the description's name in both kinds of file
OPSET = 18  # the oldest that PyTorch writes, and so the one that most runtimes read
MAX_ONNX = 2_000_000_000  # bytes of weights; protobuf's files end at 2 GiB

Run = Callable[[dict[str, Tensor]], Tensor]
"""Inputs by name to purified images (B, 3, H, W)."""


@contextmanager
def _silent(message: str, category: type[Warning]) -> Iterator[None]:
    """Without a warning of PyTorch 2.11 about code of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield


def _write_pt2(program: ExportedProgram, path: Path, description: str) -> None:
    program.example_inputs = None  # or megabytes of zeros were stored
    file = io.BytesIO()  # on a full disk PyTorch's writer would end the process
    torch.export.save(program, file, extra_files={KEY: description})
    path.write_bytes(file.getbuffer())


def _open_pt2(path: Path) -> Run:
    with path.open("rb") as file, _silent("The given buffer is not writable", UserWarning):
        network = torch.export.load(file).module()

    def run(inputs: dict[str, Tensor]) -> Tensor:
        noises = dict(inputs)
        purified: Tensor = network(noises.pop("images"), **noises)
        return purified

    return run


def _read_pt2(path: Path) -> bytes | None:
    """Loading the file as PyTorch does would load the network as well."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/extra/{KEY}"):
                with archive.open(name) as file:
                    return file.read(MAX_JSON)
    return None


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f".onnx files need {name}: pip install 'impure[export]'") from error


def _check_onnx(model: nn.Module) -> None:
    """Find out what is missing before the work, not after it."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _library(name)
    if (size := 4 * sum(weight.numel() for weight in model.parameters())) > MAX_ONNX:
        raise InputError(f"export: {size / 1e9:.1f} GB of weights do not fit into one .onnx file; take .pt2")


def _write_onnx(program: ExportedProgram, path: Path, description: str) -> None:
    with _silent(r".*LeafSpec.* is deprecated", FutureWarning):
        converted: Any = torch.onnx.export(  # an ONNXProgram, whose own types do not say all that it takes
            program, dynamo=True, verbose=False, opset_version=OPSET, output_names=["purified"]
        )
    converted.rename_axes({converted.model.graph.inputs[0].shape[0]: "batch"})
    converted.model.metadata_props[KEY] = description
    converted.save(path, external_data=False)


def _open_onnx(path: Path) -> Run:
    runtime: Any = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Tensor]) -> Tensor:
        (purified,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(purified)

    return run


def _read_onnx(path: Path) -> str | None:
    onnx: Any = _library("onnx")
    model = onnx.load_model(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}.get(KEY)


class Format(NamedTuple):
    """How a kind of file is made and used."""

    check: Callable[[nn.Module], None]  # raises InputError where it cannot be made
    write: Callable[[ExportedProgram, Path, str], None]
    open: Callable[[Path], Run]
    read: Callable[[Path], str | bytes | None]  # the description's JSON, if there is one


FORMATS: dict[str, Format] = {
    ".pt2": Format(lambda model: None, _write_pt2, _open_pt2, _read_pt2),
    ".onnx": Format(_check_onnx, _write_onnx, _open_onnx, _read_onnx),
}
