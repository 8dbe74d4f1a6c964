"""The sizes at which the proof is made: how many photographs, which networks, for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

AGNOSTIC = "fgsm,pgd,mifgsm"  # what the paper's Table 3 trains on


def _options(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ATTACKS = {
    "cheap": _options("--attack clean,fgsm,pgd,mifgsm,difgsm,mdifgsm,apgd-ce,apgd-dlr"),
    "deepfool": _options("--attack deepfool"),
    "cw": _options("--attack cw"),
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size of the proof.

    Attributes:
        name: What --scale calls it.
        targets: Names of shared cards; the first is the main target.
        size: Height = width of ten-class targets that are made of these, pixels; 0 takes them as they are.
        target_options: Of that training, by targets.py.
        classes_of: The shared card whose classes the new targets know.
        attacks: The paper's nine, in parts -> options of impure-data generate.
        eps: Budgets in units of 1/255; the first is the main one.
        per_class: Images of each class in the splits train, validation and test.
        per_class_transfer: The same of the other targets.
        riae_pixels: Options of impure-train for RIAE's first training, by the pixel loss alone.
        riae: The same of its second, with the features' loss too; `{NAME}`: the card of the target NAME.
        transfer: What both take instead where they learn from several targets' pairs.
        brief_pixels: The same of the first training where masking modes are compared.
        brief: And of the second.
        riae_adversarial: The same of a third, against its own attacker.
        seeds: How many RIAE are trained on the main target.
        choices: Options of impure-eval that are compared on validation images.
        test_options: Those that were chosen, for all tables.
        static: Defences without training, for Table 2, and others with parameters; `{runs}`: the trainings.
        defences: Networks that are trained beside RIAE -> their options.
        adaptive: Options of impure-eval adaptive.
        common: Options of every command of the product: device and threads.
        small: Whether it is cut down to show that every command works; its figures mean nothing.
    """

    name: str
    targets: tuple[str, ...]
    attacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ATTACKS)
    size: int = 0
    target_options: tuple[str, ...] = ()
    classes_of: str = ""
    eps: tuple[int, ...] = (16, 4)
    per_class: tuple[int, int, int]
    per_class_transfer: tuple[int, int, int]
    riae_pixels: tuple[str, ...]
    riae: tuple[str, ...]
    transfer: tuple[str, ...] = ()
    brief_pixels: tuple[str, ...]
    brief: tuple[str, ...]
    riae_adversarial: tuple[str, ...]
    seeds: int = 3
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    test_options: tuple[str, ...] = ()
    static: str
    defences: Mapping[str, tuple[str, ...]]
    adaptive: tuple[str, ...]
    common: tuple[str, ...]
    small: bool = False


CPU = Scale(
    name="cpu",
    targets=("resnet10t", "mobilenetv3_small_075", "efficientnet_lite0"),
    size=64,
    target_options=_options("--epochs 4"),
    classes_of="resnet10t",
    attacks={
        **ATTACKS,
        "cw": _options("--attack cw --set c0=10 --set search_steps=1"),
    },  # 50 gradients, not 250
    per_class=(60, 10, 50),
    per_class_transfer=(20, 1, 20),
    riae_pixels=_options("--model tiny --mask image-noise --crop 48 --epochs 4"),
    riae=_options("--model tiny --mask image-noise --crop 48 --epochs 14 --lr 0.002 --warmup-epochs 0")
    + _options("--features {resnet10t} --recipe paper --feature-node layer4=0.0234 --feature-node fc=0.3")
    + _options("--validate-epochs 7"),
    transfer=_options("--epochs 4"),
    brief_pixels=_options("--model tiny --crop 48 --attacks pgd,mifgsm --epochs 2"),
    brief=_options("--model tiny --crop 48 --lr 0.002 --warmup-epochs 0 --features {resnet10t}")
    + _options("--recipe paper --feature-node layer4=0.0234 --feature-node fc=0.3")
    + _options("--attacks pgd,mifgsm --epochs 2 --validate-epochs 2"),
    riae_adversarial=_options("--model tiny --mask image-noise --recipe pixel --eps 4,16 --attack-steps 2")
    + _options("--epochs 4 --validate-epochs 4 --validate-images 50"),
    choices={
        "as-trained": (),
        "step-200": _options("--image-step 200"),
        "step-200-mean-of-5-random-partitions": _options("--image-step 200 --samples 5 --partition random"),
        "step-300-mean-of-5-random-partitions": _options("--image-step 300 --samples 5 --partition random"),
        "step-400-mean-of-5-random-partitions": _options("--image-step 400 --samples 5 --partition random"),
        "vote-of-3-random-partitions": _options("--samples 3 --combine vote --partition random"),
    },
    test_options=_options("--image-step 400 --samples 5 --partition random"),
    static="all",
    defences={
        "hgd": _options("--model hgd-tiny --epochs 12"),
        "nrp": _options("--model nrp-tiny --features {resnet10t} --feature-node layer3=1 --epochs 1"),
        "dir": _options("--model dir-tiny --epochs 1"),
        "dir-joint": _options("--model dir-joint-tiny --epochs 1 --init {runs}/dir"),
        "magnet": _options("--model magnet-tiny --epochs 10"),
        "disco": _options("--model disco-tiny --epochs 1"),
        "recon": _options("--model recon-tiny --features {resnet10t} --epochs 1"),
        "comdefend": _options("--model comdefend-tiny --epochs 3"),
        "edsr": _options("--model edsr-tiny --epochs 12"),
        # As many FLOP as RIAE: 600 images x (4 x 0.36 + 0.54) GFLOP against 6,000 x (4 x 0.25 + 14 x 0.53).
        "adversarial-training": _options("--model adversarial-training-tiny --epochs 42"),
        "ddpm": _options("--model ddpm-tiny --epochs 4"),
    },
    adaptive=_options("--preset quick --budget 12m"),
    common=_options("--device cpu --threads 1"),
)

GPU = replace(
    CPU,
    name="gpu",
    targets=("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    size=0,
    eps=(16,),
    per_class=(30, 2, 10),
    per_class_transfer=(30, 2, 10),
    riae_pixels=_options("--model small --mask image-noise --recipe pixel --epochs 20 --bf16"),
    riae=_options("--model small --mask image-noise --epochs 20 --bf16 --features {efficientnet_lite1}")
    + _options("--feature-node blocks.4=10"),
    transfer=(),
    brief_pixels=_options("--model small --recipe pixel --epochs 2 --bf16"),
    brief=_options("--model small --epochs 2 --bf16 --features {efficientnet_lite1}")
    + _options("--feature-node blocks.4=10"),
    riae_adversarial=_options("--model small --mask image-noise --recipe pixel --eps 4 --attack-steps 2")
    + _options("--epochs 2 --bf16"),
    seeds=1,
    choices={name: CPU.choices[name] for name in ("as-trained", "step-200")},
    test_options=(),
    static="none,jpeg,bit-depth,random",
    defences={
        "hgd": _options("--model hgd --epochs 4 --bf16"),
        "disco": _options("--model disco --epochs 4"),
        "recon": _options("--model recon --features {efficientnet_lite0} --epochs 4"),
        "adversarial-training": _options("--model adversarial-training --epochs 4"),
    },
    adaptive=_options("--preset quick --images 50"),
    common=_options("--device cuda"),
)

SCALES = {scale.name: scale for scale in (CPU, GPU)}


def small(scale: Scale) -> Scale:
    """The same stages as small as can be, on a CPU: no command shall fail for a slip where time is dear."""
    crop = ("--crop", "64")
    return replace(
        scale,
        target_options=_options("--epochs 2 --per-class 40"),
        per_class=(2, 1, 1),
        per_class_transfer=(2, 1, 1),
        riae_pixels=(*_one_epoch(scale.riae_pixels), *crop),
        riae=(*_one_epoch(scale.riae), *crop),
        transfer=(),
        brief_pixels=(*_one_epoch(scale.brief_pixels), *crop),
        brief=(*_one_epoch(scale.brief), *crop),
        riae_adversarial=(*_one_epoch(scale.riae_adversarial), *crop, "--eps", "4", "--validate-images", "1"),
        defences={name: (*_one_epoch(options), *crop) for name, options in scale.defences.items()},
        adaptive=_options("--preset quick --images 2 --steps 2 --eot 1 --samples 2 --attacks pgd-ce"),
        common=CPU.common,
        small=True,
    )


def _one_epoch(options: tuple[str, ...]) -> tuple[str, ...]:
    """Options of a training, for a single epoch."""
    return (*(word for word in options if word != "--bf16"), "--epochs", "1", "--lr-cycles", "1")
