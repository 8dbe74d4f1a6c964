"""The stages of the proof as data: names, commands, what each needs; nothing is run here."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scales import AGNOSTIC, Scale

from impure.pipeline.targets.target_card import read_card

MASKS = ("occlusion", "image-noise", "feature-noise", "both")  # the paper's section 5.1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the proof.

    Attributes:
        name: In times.json and in the results.
        command: As it is typed; its program is the product's, or a script beside this file.
        needs: Stages without which it cannot be run.
        fresh: Folder that must not be there when it begins: evaluations overwrite nothing.
        looks: Whether it measures on the split test: each such look stands in the results.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    fresh: Path | None = None
    looks: bool = False


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Where everything lies, and at what size it is made."""

    scale: Scale
    out: Path
    photographs: Path
    cards: Path  # folder of the shared targets
    remarks: Path | None = None  # folder of findings.md and notes.md, what a person wrote about this very run

    def target(self, number: int) -> str:
        """A target's name in those of the stages."""
        shared = self.scale.targets[number]
        return f"{shared}-{self.scale.size}" if self.scale.size else shared

    def card(self, number: int) -> str:
        """A target's card."""
        return str((self.out / "targets" if self.scale.size else self.cards) / f"{self.target(number)}.json")

    def pairs(self, eps: int, number: int) -> str:
        """The collection of a budget; the last target, on which transfer is tested, has one of its own."""
        held_out = number and number == len(self.scale.targets) - 1
        return str(self.out / (f"pairs-{eps}-held-out" if held_out else f"pairs-{eps}"))

    def shards(self, eps: int, number: int) -> str:
        """A target's shards in it, below the name that its card gives; targets.py gives the file's.

        Raises:
            InputError: A shared card cannot be read.
        """
        name = self.target(number) if self.scale.size else read_card(Path(self.card(number))).name
        return f"{self.pairs(eps, number)}/{name}/*/*/*.tar"

    def run(self, name: str) -> str:
        """Folder of a training."""
        return str(self.out / "runs" / name)


def stages(proof: Proof) -> list[Stage]:
    """All stages in the order of their worth: what comes first can be read while the rest is made."""
    scale = proof.scale
    main, *other_eps = scale.eps
    riae, *other_seeds = seeds = [f"riae-{seed}" for seed in range(scale.seeds)]
    return [
        *_target(proof, 0),
        *_before_training(proof, 0),
        *_train_riae(proof, riae, "--seed", "0"),
        *(stage for stage in _collection(proof, 0, main) if stage not in _before_training(proof, 0)),
        *(_choice(proof, name, options) for name, options in scale.choices.items()),
        *(stage for name in other_seeds for stage in _train_riae(proof, name, "--seed", name[-1])),
        *(_defence(proof, name) for name in _purifiers(scale)),
        _evaluate(proof, "table1", seeds, "none,jpeg"),
        *_train_riae(proof, "riae-agnostic", "--attacks", AGNOSTIC),
        _defence(proof, "hgd-agnostic", "--attacks", AGNOSTIC, of="hgd"),
        _drawn_once(proof, "table2", _purifiers(scale)),
        _evaluate(proof, "table2-riae", [riae], "none", kind="table2"),
        _evaluate(proof, "table3", ["riae-agnostic", "hgd-agnostic"], "none", kind="table3"),
        _against_attacker(proof),
        _adaptive(proof, [riae, "riae-adversarial", "adversarial-training"]),
        *_figures(proof),
        *_transfer(proof),
        *(stage for eps in other_eps for stage in _collection(proof, 0, eps, splits=("val",))),
        *(_evaluate(proof, f"table1-eps{eps}", [riae, "hgd"], "none,jpeg", eps=eps) for eps in other_eps),
        *_diffusion(proof),
        *_masking_modes(proof),
    ]


def _purifiers(scale: Scale) -> list[str]:
    """The trained defences that are a table's columns as they are; a diffusion model needs parameters."""
    return [name for name in scale.defences if name != "ddpm"]


def _target(proof: Proof, number: int) -> Iterator[Stage]:
    """The training of a ten-class target; none where the shared one is taken as it is."""
    scale, target = proof.scale, proof.target(number)
    if scale.size:
        command = (
            "targets.py", "--card", str(proof.cards / f"{scale.targets[number]}.json"),
            "--classes-of", str(proof.cards / f"{scale.classes_of}.json"), "--images", str(proof.photographs),
            "--size", str(scale.size), *scale.target_options, "--out", proof.card(number),
        )  # fmt: skip
        yield Stage(name=f"target-{target}", command=command)


def _collection(
    proof: Proof, number: int, eps: int, *, splits: tuple[str, ...] = ("train", "val")
) -> list[Stage]:
    """Attacked photographs of a target and a budget."""
    scale, target = proof.scale, proof.target(number)
    train, validation, test = scale.per_class_transfer if number else scale.per_class
    common = (
        "impure-data", "generate", "--images", str(proof.photographs), "--target", proof.card(number),
        "--eps", str(eps), "--out", proof.pairs(eps, number), "--clean", "once", "--allow-short",
        *scale.common,
    )  # fmt: skip
    sizes = {
        "train": ("--per-class", str(train)),
        "val": ("--per-class", str(test), "--validation-per-class", str(validation)),
    }
    return [
        Stage(
            name=f"pairs-{eps}-{target}-{split}-{name}",
            command=(*common, "--split", split, *sizes[split], *attacks),
            needs=tuple(stage.name for stage in _target(proof, number)),
        )
        for name, attacks in proof.scale.attacks.items()
        for split in splits
    ]


def _before_training(proof: Proof, number: int) -> list[Stage]:
    """What a training needs of a collection: images to learn from, and the main target's to validate with.

    C&W, the dearest, is left out of what is validated with.
    """
    made = _collection(proof, number, proof.scale.eps[0], splits=("train",) if number else ("train", "val"))
    return [stage for stage in made if not stage.name.endswith("-val-cw")]


def _train_riae(
    proof: Proof, name: str, *options: str, targets: tuple[int, ...] = (0,), brief: bool = False
) -> Iterator[Stage]:
    """RIAE: by its pixel loss alone, which goes fast, and from there with the features' loss."""
    scale, pixels = proof.scale, f"{name}-pixels"
    first, second = (scale.brief_pixels, scale.brief) if brief else (scale.riae_pixels, scale.riae)
    yield _train(proof, pixels, *first, *options, "--validate", "none", targets=targets)
    begun = ("--init", proof.run(pixels))
    yield _train(proof, name, *second, *options, *begun, targets=targets, after=(pixels,))


def _train(
    proof: Proof, name: str, *options: str, targets: tuple[int, ...] = (0,), after: tuple[str, ...] = ()
) -> Stage:
    """A training on the pairs of one target, or on those of all that have no collection of their own."""
    scale, main = proof.scale, proof.scale.eps[0]
    cards = {shared: proof.card(number) for number, shared in enumerate(scale.targets)}
    command = (
        "impure-train", "--shards", proof.shards(main, 0) if targets == (0,) else proof.pairs(main, 0),
        *(word for number in targets for word in ("--target", proof.card(number))), *scale.common,
        *(option.format(**cards, runs=proof.out / "runs") for option in options), "--out", proof.run(name),
    )  # fmt: skip
    needs = [stage.name for number in targets for stage in _before_training(proof, number)]
    return Stage(name=name, command=command, needs=(*needs, *after))


def _defence(proof: Proof, name: str, *options: str, of: str = "") -> Stage:
    """A training of what RIAE is compared with; `of` is whose options it takes, where its name is another."""
    chosen = (*proof.scale.defences[of or name], *options, "--validate", "none")
    return _train(proof, name, *chosen, after=("dir",) if name == "dir-joint" else ())


def _checkpoints(proof: Proof, names: list[str]) -> list[str]:
    """The options that name trainings: RIAE's weights that were best in validation, others' last ones."""
    best = {name: proof.run(name) + ("/best" if name.startswith("riae") else "") for name in names}
    return [word for name in names for word in ("--checkpoint", best[name])]


def _evaluate(
    proof: Proof,
    name: str,
    runs: list[str],
    defences: str,
    *,
    kind: str = "table1",
    eps: int = 0,
    target: int = 0,
    options: tuple[str, ...] = (),
) -> Stage:
    """Accuracy behind trainings and other defences, on test images unless the options say otherwise."""
    given = ("--defence", defences, *_checkpoints(proof, runs), *(options or proof.scale.test_options))
    stage = _measure(proof, name, kind, given, runs, eps=eps or proof.scale.eps[0], target=target)
    return replace(stage, looks="validation" not in options)


def _drawn_once(proof: Proof, name: str, runs: list[str]) -> Stage:
    """Table 2 but for RIAE: what is random is drawn once, as published; random enlargement has no mean."""
    given = ("--defence", proof.scale.static, *_checkpoints(proof, runs))
    return _measure(proof, name, "table2", given, runs, eps=proof.scale.eps[0])


def _measure(
    proof: Proof,
    name: str,
    kind: str,
    options: tuple[str, ...],
    runs: list[str],
    *,
    eps: int,
    target: int = 0,
) -> Stage:
    """One command of impure-eval on a target's shards."""
    folder = proof.out / "evaluations" / name
    command = (
        "impure-eval", kind, "--shards", proof.shards(eps, target), "--target", proof.card(target),
        *options, *proof.scale.common, "--out", str(folder),
    )  # fmt: skip
    attacked = _collection(proof, target, eps, splits=("val",))
    needs = (*runs, *(stage.name for stage in attacked))
    return Stage(name=name, command=command, needs=needs, fresh=folder, looks=True)


def _against_attacker(proof: Proof) -> Stage:
    """RIAE trained on, against PGD through itself and the target."""
    begun = f"{proof.run('riae-0')}/best"
    options = (*proof.scale.riae_adversarial, "--stage", "adversarial", "--init", begun)
    return _train(proof, "riae-adversarial", *options, after=("riae-0",))


def _diffusion(proof: Proof) -> Iterator[Stage]:
    """DiffPure in few long steps, on few images: it costs as much as all others together."""
    if "ddpm" in proof.scale.defences:
        yield _defence(proof, "ddpm")
        given = ("--defence", f"none,diffpure:weights={proof.run('ddpm')}:t=100:steps=5", "--limit", "20")
        yield _measure(proof, "diffusion", "table2", given, ["ddpm"], eps=proof.scale.eps[0])


def _figures(proof: Proof) -> Iterator[Stage]:
    """The paper's figures, on some test images."""
    few, riae, pixels = ("--limit", "100"), proof.run("riae-0") + "/best", proof.run("riae-0-pixels")
    options = {
        "fig6": ("--checkpoint", riae),
        "fig8": ("--checkpoint", pixels, "--checkpoint", riae),
        "fig9": ("--checkpoint", riae),
        "residual": ("--checkpoint", riae),
    }
    for kind, chosen in options.items():
        yield _measure(proof, kind, kind, (*chosen, *few), ["riae-0"], eps=proof.scale.eps[0])


def _masking_modes(proof: Proof) -> Iterator[Stage]:
    """Figure 7: a RIAE for each masking mode, all trained alike and briefly."""
    runs = {mask: f"riae-{mask}" for mask in MASKS}
    for mask, name in runs.items():
        yield from _train_riae(proof, name, "--mask", mask, brief=True)
    options = (*_checkpoints(proof, list(runs.values())), "--limit", "100")
    yield _measure(proof, "fig7", "fig7", options, list(runs.values()), eps=proof.scale.eps[0])


def _choice(proof: Proof, name: str, options: tuple[str, ...]) -> Stage:
    """What may be chosen at test time, on validation images."""
    chosen = ("--split", "validation", *options)
    return _evaluate(proof, f"choice-{name}", ["riae-0"], "none", options=chosen)


def _adaptive(proof: Proof, runs: list[str]) -> Stage:
    """Attacks through the defences, on test images."""
    folder = proof.out / "evaluations" / "adaptive"
    command = (
        "impure-eval", "adaptive", "--shards", proof.shards(proof.scale.eps[0], 0), "--target", proof.card(0),
        *_checkpoints(proof, runs), *proof.scale.adaptive, *proof.scale.common, "--out", str(folder),
    )  # fmt: skip
    return Stage(name="adaptive", command=command, needs=tuple(runs), looks=True)


def _transfer(proof: Proof) -> Iterator[Stage]:
    """RIAE trained on the pairs of all targets but the last, tested on the last."""
    main, last = proof.scale.eps[0], len(proof.scale.targets) - 1
    for number in range(1, last):
        yield from _target(proof, number)
        yield from _before_training(proof, number)
    yield from _train_riae(proof, "riae-transfer", *proof.scale.transfer, targets=tuple(range(last)))
    yield from _target(proof, last)
    yield from _collection(proof, last, main, splits=("val",))
    yield _evaluate(proof, "transfer", ["riae-0", "riae-transfer", "hgd"], "none,jpeg", target=last)
