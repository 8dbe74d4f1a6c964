"""What a user asked of `generate`, and the configs that it comes to: attacks, storage, executor."""

from collections.abc import Sequence
from dataclasses import dataclass

from impure.manifests.base.errors import InputError
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.collection.storage import MAX_CHANGE, Storage
from impure.manifests.collection.storage_profiles import CLEAN_ONCE, DELTA
from impure.manifests.commands.click_options import comma_separated
from impure.manifests.sharing.open_collection import cache_home
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_names import ALL_ATTACKS, PAPER_ATTACKS
from impure.pipeline.attacks.attack_parameters import parse_override
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.commands.sample_arguments import SampleArguments
from impure.pipeline.executors.executor_config import ExecutorConfig
from impure.pipeline.executors.rank import rank_of
from impure.pipeline.generation.run import GenerateConfig
from impure.pipeline.generation.sample_config import SPLITS_OF, SampleConfig
from impure.pipeline.targets.target_card import TargetCard


@dataclass(frozen=True, kw_only=True)
class GenerateArguments(SampleArguments):
    """The values of the options of `generate`; see its help."""

    attack: str
    eps: tuple[int, ...]
    targeted: str | None
    preset: str
    overrides: tuple[str, ...]
    implementation: str
    restarts: int
    precision: str
    compiled: bool
    encoding: str
    clean: str
    profile: str
    executor: str
    workers: int | None
    worker: str | None
    submit: tuple[str, ...]
    dry_run: bool

    @property
    def attack_names(self) -> list[str]:
        """The attacks that were asked for, each once, CLEAN perhaps among them.

        Raises:
            InputError: There is none, or one is unknown.
        """
        asked = comma_separated(self.attack)
        known = (*ATTACKS, CLEAN, ALL_ATTACKS)
        wrong = [name for name in asked if name not in known] or ([] if asked else [""])
        if wrong:
            raise InputError(f"unknown attack {wrong[0]!r}; choose from {', '.join(known)}")
        every = {ALL_ATTACKS: (CLEAN, *PAPER_ATTACKS)}
        return list(dict.fromkeys(name for word in asked for name in every.get(word, (word,))))


def executor_config(arguments: GenerateArguments) -> ExecutorConfig:
    """Who works.

    Raises:
        InputError: An option is another executor's, or a rank does not know its number.
    """
    if arguments.executor == "rank":
        rank_of(arguments.worker)  # refused before anything is sampled
    return ExecutorConfig(
        executor=arguments.executor,
        workers=arguments.workers,
        worker=arguments.worker,
        submit=arguments.submit,
        job_folder=cache_home() / "slurm",
    )


def storage_of_arguments(arguments: GenerateArguments) -> Storage:
    """How pairs are stored.

    Raises:
        InputError: The options contradict each other, or the profile cannot hold the budgets.
    """
    if arguments.clean == "once" and arguments.profile == DELTA:
        raise InputError("--profile delta stores no clean images: leave --clean away")
    if arguments.profile == DELTA and max(arguments.eps) > MAX_CHANGE:
        raise InputError(f"--profile delta holds changes of at most {MAX_CHANGE}/255: lower --eps")
    profile = CLEAN_ONCE if arguments.clean == "once" else arguments.profile
    return Storage(encoding=arguments.encoding, profile=profile)


def attack_configs(arguments: GenerateArguments) -> list[AttackConfig | None]:
    """The attacks that were asked for; None stands for the untouched pairs.

    Raises:
        InputError: A name or a parameter is none.
    """
    names = arguments.attack_names
    overrides = tuple(parse_override(text) for text in arguments.overrides)
    attacks = [
        AttackConfig(
            name=name,
            eps_255=eps,
            preset=arguments.preset,
            implementation=arguments.implementation,
            overrides=overrides,
            targeted=arguments.targeted,
            restarts=arguments.restarts,
            precision=arguments.precision,
        )
        for name in names
        if name != CLEAN
        for eps in dict.fromkeys(arguments.eps)
    ]
    untouched = CLEAN in names or arguments.clean == "once"  # stored once, clean images need a shard
    return [None, *attacks] if untouched else [*attacks]


def attacks_on(
    attacks: Sequence[AttackConfig | None], card: TargetCard
) -> tuple[list[AttackConfig | None], dict[str, str]]:
    """The attacks that can run on a target, and why the others cannot, by name.

    Raises:
        InputError: None of the attacks can.
    """
    fitting: list[AttackConfig | None] = []
    refused = {}
    for attack in attacks:
        if attack is not None:
            try:
                attack.check_classes(card.num_classes)
            except InputError as error:
                refused[attack.variant] = f"target {card.name!r}: {error}"
                continue
        fitting.append(attack)
    if refused and not any(fitting):
        raise InputError("; ".join(refused.values()))
    return fitting, refused


def generate_config(
    arguments: GenerateArguments,
    attacks: Sequence[AttackConfig | None],
    storage: Storage,
    samples: Sequence[SampleConfig],
    run_id: str,
) -> GenerateConfig:
    """What is made of the samples."""
    return GenerateConfig(
        attacks=tuple(attacks),
        seed=arguments.seed,
        batch_size=samples[0].batch_size,
        splits=tuple(split for config in samples for split in SPLITS_OF[config.split]),
        compiled=arguments.compiled,
        storage=storage,
        run_id=run_id,
    )
