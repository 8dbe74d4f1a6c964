"""The stages of the proof as data: names, commands, what each needs; nothing is run here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scales import AGNOSTIC, DEAR, Scale


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the proof.

    Attributes:
        name: In times.json and in the results.
        command: As it is typed; its program is the product's, or a script beside this file.
        needs: Stages without which it cannot be run.
        fresh: Folder that must not be there when it begins: an evaluation takes another rather than overwrite.
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

    def target(self, number: int) -> str:
        """A target's name in the shards."""
        shared = self.scale.targets[number]
        return f"{shared}-{self.scale.size}" if self.scale.size else shared

    def card(self, number: int) -> str:
        """A target's card."""
        return str((self.out / "targets" if self.scale.size else self.cards) / f"{self.target(number)}.json")

    def pairs(self, eps: int) -> Path:
        """The collection of a budget; it holds all targets."""
        return self.out / f"pairs-{eps}"

    def shards(self, eps: int, number: int) -> str:
        """A target's shards in it."""
        return f"{self.pairs(eps)}/{self.target(number)}/*/*/*.tar"

    def run(self, name: str) -> str:
        """Folder of a training."""
        return str(self.out / "runs" / name)


def stages(proof: Proof) -> list[Stage]:
    """All stages in the order of their worth: what comes first can be read while the rest is made."""
    scale = proof.scale
    main, *other_eps = scale.eps
    riae = "riae-0"
    others = range(1, len(scale.targets))
    seeds = [f"riae-{seed}" for seed in range(scale.seeds)]
    return [
        *_collection(proof, 0, main),
        _train_riae(proof, riae, "--seed", "0"),
        *(_choice(proof, name, options) for name, options in scale.choices.items()),
        _evaluate(proof, "table1", [riae], "none,jpeg"),
        *(_train(proof, name, *options) for name, options in scale.defences.items()),
        _evaluate(proof, "table2", [riae, *_purifiers(scale)], scale.static),
        _train_riae(proof, "riae-agnostic", "--attacks", AGNOSTIC),
        _train(proof, "hgd-agnostic", *scale.defences["hgd"], "--attacks", AGNOSTIC),
        _evaluate(proof, "table3", ["riae-agnostic", "hgd-agnostic"], "none"),
        *(_train_riae(proof, name, "--seed", name[-1]) for name in seeds[1:]),
        _evaluate(proof, "seeds", seeds, "none"),
        *(stage for eps in other_eps for stage in _collection(proof, 0, eps)),
        *(_evaluate(proof, f"table1-eps{eps}", [riae, "hgd"], "none,jpeg", eps) for eps in other_eps),
        _adaptive(proof, [riae, "adversarial-training"]),
        *(stage for number in others for stage in _collection(proof, number, main)),
        *_transfer(proof, main),
    ]


def _purifiers(scale: Scale) -> list[str]:
    """The trained defences that are a table's columns as they are; a diffusion model needs parameters."""
    return [name for name in scale.defences if name != "ddpm"]


def _collection(proof: Proof, number: int, eps: int) -> Iterator[Stage]:
    """The target, where it is made, and its attacked photographs of a budget: training first, then the rest."""
    scale, target = proof.scale, proof.target(number)
    needs = (f"target-{target}",) if scale.size else ()
    if scale.size and eps == scale.eps[0]:
        command = (
            "targets.py", "--card", str(proof.cards / f"{scale.targets[number]}.json"),
            "--classes-of", str(proof.cards / f"{scale.classes_of}.json"), "--images", str(proof.photographs),
            "--size", str(scale.size), "--epochs", str(scale.target_epochs), "--out", proof.card(number),
        )  # fmt: skip
        yield Stage(name=needs[0], command=command)
    train, validation, test = scale.per_class
    common = (
        "impure-data", "generate", "--images", str(proof.photographs), "--target", proof.card(number),
        "--eps", str(eps), "--out", str(proof.pairs(eps)), "--clean", "once", "--allow-short", *scale.common,
    )  # fmt: skip
    parts = {
        "train": ("--split", "train", "--per-class", str(train)),
        "val": ("--split", "val", "--per-class", str(test), "--validation-per-class", str(validation)),
    }
    for attacks in ("clean," + ",".join(scale.cheap), ",".join(DEAR)):
        for split, sizes in parts.items():
            yield Stage(
                name=f"pairs-{eps}-{target}-{split}-{'first' if 'clean' in attacks else 'dear'}",
                command=(*common, "--attack", attacks, *sizes),
                needs=needs,
            )


def _train_riae(proof: Proof, name: str, *options: str, shards: str = "") -> Stage:
    """RIAE, with the feature network of its loss where the scale has one of its own."""
    return _train(proof, name, *proof.scale.riae, *options, shards=shards)


def _train(proof: Proof, name: str, *options: str, shards: str = "") -> Stage:
    """A training on the main target's pairs, or on others; `{main}` and such in options are cards."""
    scale = proof.scale
    main = scale.eps[0]
    cards = {shared: proof.card(number) for number, shared in enumerate(scale.targets)}
    command = (
        "impure-train", "--shards", shards or proof.shards(main, 0), "--target", proof.card(0), *scale.common,
        *(option.format(**cards, runs=proof.out / "runs") for option in options), "--out", proof.run(name),
    )  # fmt: skip
    needed = [stage.name for stage in _collection(proof, 0, main)]
    if name == "dir-joint":
        needed.append("dir")
    return Stage(name=name, command=command, needs=tuple(needed))


def _checkpoints(proof: Proof, names: list[str]) -> list[str]:
    """The options that name trainings: RIAE's weights that were best on validation images, others' last ones."""
    best = {name: proof.run(name) + ("/best" if name.startswith("riae") else "") for name in names}
    return [word for name in names for word in ("--checkpoint", best[name])]


def _evaluate(
    proof: Proof, name: str, runs: list[str], defences: str, eps: int = 0, *, options: tuple[str, ...] = ()
) -> Stage:
    """Accuracy on all test images behind trainings and other defences."""
    eps = eps or proof.scale.eps[0]
    folder = proof.out / "evaluations" / name
    command = (
        "impure-eval", "table1", "--shards", proof.shards(eps, 0), "--target", proof.card(0),
        "--defence", defences.format(runs=proof.out / "runs"), *_checkpoints(proof, runs),
        *(options or proof.scale.test_options), *proof.scale.common, "--out", str(folder),
    )  # fmt: skip
    return Stage(name=name, command=command, needs=tuple(runs), fresh=folder, looks="validation" not in options)


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
