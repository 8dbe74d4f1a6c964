"""The defences that can be compared, by name, and the networks that impure-train trains for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.defence import Defence, TrainedDefence
from impure.purifier.defences.base.parameters import Value, check_values, parameters_of
from impure.purifier.defences.base.published_weights import PUBLISHED, published_file
from impure.purifier.defences.diffusion.consistency_purification import ConsistencyPurification
from impure.purifier.defences.diffusion.diffpure import DiffPure
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.static.bit_depth import BitDepth
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.defences.static.jpeg import Jpeg
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.defences.static.pixel_deflection import PixelDeflection
from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.defences.trained.adversarial_training import AdversarialTraining
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.comdefend import ComDefend
from impure.purifier.defences.trained.dir import DIR, JointDIR
from impure.purifier.defences.trained.disco import Disco
from impure.purifier.defences.trained.hgd import HGD
from impure.purifier.defences.trained.magnet import MagNet
from impure.purifier.defences.trained.nrp import NRP
from impure.purifier.defences.trained.recon import Recon
from impure.purifier.defences.trained.wavelet_sr import WaveletSR


@dataclass(frozen=True, slots=True)
class Entry:
    """A defence under a name: its class, and the parameters of a preset."""

    kind: type[Defence]
    preset: Mapping[str, Value] = field(default_factory=dict)

    @property
    def needs_weights(self) -> bool:
        """Whether it is built around a trained network."""
        return issubclass(self.kind, TrainedDefence)

    @property
    def parameters(self) -> dict[str, Value]:
        """Its parameters with their values where nothing else is said."""
        defaults = {name: parameter.default for name, parameter in parameters_of(self.kind).items()}
        return {**defaults, **self.preset}


#: A defence with weights is built by `NAME:weights=RUN`, or from `--checkpoint RUN`.
DEFENCES: dict[str, Entry] = {
    "none": Entry(NoDefence),
    "gaussian-noise": Entry(GaussianNoise),
    "bit-depth": Entry(BitDepth),
    "jpeg": Entry(Jpeg),
    "random": Entry(RandomResize),
    "random-impure": Entry(RandomResize, {"interpolation": "bilinear", "padding": "imagenet-mean"}),
    "pixel-deflection": Entry(PixelDeflection),
    "pixel-deflection-impure": Entry(
        PixelDeflection,
        {"deflections": 12_000, "window": 20, "channels": "together", "estimate_sigma": True},
    ),
    "wavelet-sr": Entry(WaveletSR),
    "comdefend": Entry(ComDefend),
    "magnet": Entry(MagNet),
    "hgd": Entry(HGD),
    "recon": Entry(Recon),
    "dir": Entry(DIR),
    "dir-joint": Entry(JointDIR),
    "adversarial-training": Entry(AdversarialTraining),
    "disco": Entry(Disco),
    "nrp": Entry(NRP),
    "riae": Entry(RIAEDefence),
    "diffpure": Entry(DiffPure),
    "consistency": Entry(ConsistencyPurification),
}

#: What impure-train trains beside RIAE (see `model_names`), and the defence that it is validated as.
NETWORKS: dict[str, type[NetworkDefence]] = {
    "edsr": WaveletSR,
    "comdefend": ComDefend,
    "magnet": MagNet,
    "hgd": HGD,
    "recon": Recon,
    "dir": DIR,
    "dir-joint": JointDIR,
    "adversarial-training": AdversarialTraining,
    "disco": Disco,
    "nrp": NRP,
    "ddpm": DiffPure,
}


def build_defence(text: str) -> Defence:
    """The defence that a text names, such as `jpeg`, `jpeg:quality=50` or `riae:weights=RUN`.

    Args:
        text: `NAME` or `NAME:KEY=VALUE:KEY=VALUE`; weights are a run, a file, a hub name, or `published`.

    Raises:
        InputError: Name or key is unknown, a value impossible, or weights are missing or unreadable.
    """
    name, given = read_text(text)
    entry = DEFENCES[name]
    weights = given.pop("weights", None)
    values = {**entry.preset, **check_values(entry.kind, given, f"defence {name}", as_text=True)}
    if issubclass(entry.kind, TrainedDefence):
        if weights is None:
            raise InputError(
                f"defence {name!r} needs a trained network; give --checkpoint RUN or {name}:weights=RUN"
            )
        file = str(published_file(name)) if weights == PUBLISHED else weights
        return entry.kind.from_weights(file, **values)
    if weights is not None:
        raise InputError(f"defence {name!r} has no weights; leave them out")
    return entry.kind(**values)


def read_text(text: str) -> tuple[str, dict[str, str]]:
    """The name of a defence, and its parameters as text.

    Raises:
        InputError: There is no such defence, or a parameter is not KEY=VALUE.
    """
    name, *pairs = text.split(":")
    if name not in DEFENCES:
        raise InputError(f"no defence {name!r}; choose from {', '.join(DEFENCES)}")
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value or key in given:
            raise InputError(f"defence {text!r}: write NAME:KEY=VALUE:KEY=VALUE, each key once")
        given[key] = value
    return name, given


def build_defences(texts: Sequence[str], trained: Mapping[str, Defence] | None = None) -> dict[str, Defence]:
    """The defences that an evaluation compares, by the names of their columns, in order.

    Args:
        texts: See `build_defence`; `all` stands for every defence that needs no weights, and a name alone for
            all `trained` ones of that name.
        trained: Defences from checkpoints, by column, `NAME` or `NAME:RUN`. Those not named are last.

    Raises:
        InputError: See `build_defence`, or there is no checkpoint for a name that needs one.
    """
    names = [name for text in texts for name in (without_weights() if text == "all" else [text])]
    left = dict(trained or {})
    built: dict[str, Defence] = {}
    for name in dict.fromkeys(names):
        if columns := [column for column in left if column.partition(":")[0] == name]:
            built |= {column: left.pop(column) for column in columns}
        else:
            built[name] = build_defence(name)
    return built | left


def without_weights() -> list[str]:
    """The names of all defences that need no trained network."""
    return [name for name, entry in DEFENCES.items() if not entry.needs_weights]
