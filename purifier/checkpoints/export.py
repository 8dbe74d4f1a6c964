"""Exports a purifier as one file that needs no impure: PyTorch's `.pt2`, or ONNX.

What is exported partitions uniformly and takes its noise as an input, so that it is a plain function of
images of one size, in batches of any size. With onnxruntime and NumPy alone:

    session = onnxruntime.InferenceSession("purifier.onnx")
    inputs = {"images": images}  # float32 RGB in [0,1] (B, 3, H, W)
    for noise in session.get_inputs()[1:]:  # as many as the masking mode uses, perhaps none
        inputs[noise.name] = generator.standard_normal((len(images), *noise.shape[1:]), np.float32)
    (purified,) = session.run(None, inputs)

With PyTorch alone (the shapes of the noise are those that `Description.inputs` gives):

    purify = torch.export.load("purifier.pt2").module()
    with torch.no_grad():
        purified = purify(images, image_noise=torch.randn(...), feature_noise=torch.randn(...))

With impure, either file gives what `RIAE.purify(images, seed=seed)` gives on a CPU, but for rounding:

    noise = read_description(path).draw_noise(len(images), seed)
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.export import Dim, ExportedProgram

from impure.manifests.base.canonical_json import canonical_json, from_mapping, parse_object
from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import atomic_path, writing
from impure.purifier.checkpoints.export_formats import FORMATS, KEY, Format, Run
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Randomness, draw_for_test
from impure.purifier.riae.riae_config import RIAEConfig
from impure.purifier.riae.size_limits import check_sizes

NOISES = ("image_noise", "feature_noise")
TOLERANCE = 1e-4  # of a purified value in [0,1], file against network
BATCHES = (1, 3)  # that are compared
MAX_SIDE = 4096  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an exported file says about itself; its inputs follow from it.

    Raises:
        InputError: A side is no whole number of pixels or beyond `MAX_SIDE`, or a digest is no text.
    """

    riae: RIAEConfig
    height: int
    width: int
    collections: tuple[str, ...] = ()  # digests of what the purifier was trained on

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_SIDE:
                raise InputError(f"export: {name} is {value!r:.40}; it must be 1 to {MAX_SIDE} pixels")
        if not isinstance(self.collections, tuple) or any(type(item) is not str for item in self.collections):
            raise InputError(f"export: collections is {self.collections!r:.40}; it must be a list of digests")

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the inputs, in their order, without the batch's dimension."""
        noises = {name: tuple(noise.shape[1:]) for name, noise in self.draw_noise(1).items()}
        return {"images": (3, self.height, self.width), **noises}

    def draw_noise(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """The noise with which the file gives what `RIAE.purify(images, seed=seed)` gives on a CPU.

        Args:
            batch: How many images.
            seed: Of the noise.

        Returns:
            Standard normal values by input: image_noise (batch, S, L, 3pp) and feature_noise
            (batch, S, L, d), each only where the masking mode uses it.
        """
        randomness = self._draw(batch, Generator().manual_seed(seed))
        noises = {name: getattr(randomness, name) for name in NOISES}
        return {name: noise for name, noise in noises.items() if noise.dim() > 1}

    def _draw(self, batch: int, generator: Generator) -> Randomness:
        multiple = self.riae.multiple
        height, width = (side + -side % multiple for side in (self.height, self.width))
        return draw_for_test(self.riae, torch.zeros(()).expand(batch, 3, height, width), generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that was written and compared with its network."""

    path: Path
    description: Description
    difference: float  # largest one of a purified value in [0,1], file against network


class FixedSize(nn.Module):
    """A purifier for images of one size; everything that a test draws, but for the noise, is a constant."""

    def __init__(self, riae: RIAE, description: Description) -> None:
        """Draw the constants.

        Args:
            riae: The purifier.
            description: Of the images.
        """
        super().__init__()
        self.riae = riae
        self.height = description.height
        self.width = description.width
        randomness = description._draw(1, Generator())
        for name in Randomness._fields:
            if name not in NOISES:
                self.register_buffer(name, getattr(randomness, name).clone())

    def forward(
        self, images: Tensor, image_noise: Tensor | None = None, feature_noise: Tensor | None = None
    ) -> Tensor:
        """Purify images.

        Args:
            images: RGB in [0,1] (B, 3, H, W).
            image_noise: Standard normal (B, S, L, 3pp), where the masking mode uses it.
            feature_noise: Standard normal (B, S, L, d), where the masking mode uses it.

        Returns:
            RGB in [0,1] (B, 3, H, W).
        """
        batch, none = images.shape[0], images.new_empty(0)
        constants = [getattr(self, name) for name in Randomness._fields if name not in NOISES]
        noises = [none if noise is None else noise for noise in (image_noise, feature_noise)]
        randomness = Randomness(*(value.expand(batch, *value.shape[1:]) for value in constants), *noises)
        purified = self.riae.purify_once(self.riae.pad(images), randomness)
        return purified[..., : self.height, : self.width]


def export(
    riae: RIAE, path: Path, *, height: int = 224, width: int = 224, collections: Sequence[str] = ()
) -> Exported:
    """Write a purifier for images of one size; the module's docstring says how to run the file.

    The file is read back and compared with `riae.purify` on random images in batches of one and of three;
    only then does it take its name. It computes in float32, and holds the description as `impure.json`
    (`.pt2`: an extra file; `.onnx`: an entry of the metadata).

    Args:
        riae: The purifier; it is left as it is.
        path: The file; its ending chooses the format, see `FORMATS`.
        height: Of the images, in pixels.
        width: Of the images, in pixels. Sides that are no multiple of `riae.config.multiple` are padded
            inside.
        collections: Digests of what the purifier was trained on, for the description.

    Raises:
        InputError: The ending is unknown, a side is impossible, a library is missing, the network is too
            large for ONNX, or the file does not compute the same.
        WriteError: The file cannot be written.
    """
    form = _format(path)
    description = Description(riae=riae.config, height=height, width=width, collections=tuple(collections))
    form.check(riae)
    model = copy.deepcopy(riae).cpu().float().eval()
    with writing(path), atomic_path(path) as temporary:
        form.write(_trace(model, description), temporary, canonical_json(asdict(description)))
        difference = _difference(form.open(temporary), model, description)
        if not difference <= TOLERANCE:  # NaN is no smaller than anything
            raise InputError(
                f"{path}: not written, its output differs from the network's by {difference:.2g} "
                f"(at most {TOLERANCE:g} is taken); export to another of {', '.join(FORMATS)}"
            )
    return Exported(path=path, description=description, difference=difference)


def read_description(path: Path) -> Description:
    """What an exported file says about itself; nothing of its network is run.

    Raises:
        InputError: It is no file that `export` wrote, or the library that reads it is missing.
    """
    form, where = _format(path), f"{path}: {KEY}"
    try:
        text = form.read(path)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes the libraries raise whatever it may be
        raise InputError(f"{path}: not a readable {path.suffix} file ({first_line(error)})") from error
    values = {} if text is None else parse_object(text, where)
    if not isinstance(values.get("riae"), dict):
        raise InputError(f"{path}: holds no {KEY} with a 'riae' object; it is no exported purifier")
    riae = from_mapping(RIAEConfig, values["riae"], where)
    check_sizes(riae, str(path))
    return from_mapping(Description, {**values, "riae": riae}, where)


def _format(path: Path) -> Format:
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: an exported purifier is a file ending in {' or '.join(FORMATS)}")
    return FORMATS[path.suffix]


def _trace(model: RIAE, description: Description) -> ExportedProgram:
    """The network as a graph; only the noise that its masking mode uses is an input."""
    count = max(BATCHES)  # with one image the graph would hold for one image alone
    images, noises = torch.zeros(count, *description.inputs["images"]), description.draw_noise(count)
    batch = Dim("batch", min=1)
    shapes = {name: {0: batch} for name in description.inputs}
    return torch.export.export(FixedSize(model, description), (images,), noises, dynamic_shapes=shapes)


def _difference(run: Run, model: RIAE, description: Description) -> float:
    """The largest difference between a file and the network; NaN where either gives one."""
    differences = []
    for batch in BATCHES:
        generator = Generator().manual_seed(batch)
        images = torch.rand(batch, *description.inputs["images"], generator=generator)
        with torch.no_grad():
            purified = run({"images": images, **description.draw_noise(batch, seed=batch)})
            differences.append((purified - model.purify(images, seed=batch)).abs().max())
    return float(torch.stack(differences).max())
