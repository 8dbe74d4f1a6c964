"""One line of the leaderboard: RobustBench's fields, and ours beside them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A defence before a target under one budget; None is what nobody measured, or a person has to fill in.

    Fields up to `footnote` are those of RobustBench's model_info files, accuracies in per cent as text like
    there; ours are numbers in per cent.

    Attributes:
        name: The defence's; RobustBench has the paper's title.
        link: Of its paper.
        authors: By hand.
        additional_data: By hand: whether more than the data set was trained on.
        number_forward_passes: By hand.
        dataset: The images.
        venue: By hand.
        architecture: Defence and target.
        eps: L∞ budget.
        clean_acc: Of untouched images, mean of draws.
        reported: By hand: what a paper claims.
        autoattack_acc: Under AutoAttack through the defence, mean of draws, where it was run.
        unreliable: Whether a check of the attack failed; None where nobody attacked through the defence.
        footnote: What has to be known.
        threat_model: RobustBench's folder.
        rank: By worst-case accuracy, among sound entries of the same images and budget.
        defence: Its column.
        target: Its name in the shards.
        n: Attacked images.
        samples: Draws of a verdict.
        mean_acc: Mean of draws, per image the least over all attacks through the defence.
        worst_acc: Images right in every draw, likewise.
        vote_acc: Images whose majority of draws is right, likewise.
        worst_interval: Wilson's 95 % interval of `worst_acc`.
        clean_worst_acc: Of untouched images under the same verdict, like all that follow.
        clean_vote_acc: See above.
        noise_mean_acc: Of random noise of the budget's size.
        noise_worst_acc: See above.
        noise_vote_acc: See above.
        black_box_acc: Mean over the stored attacks of the budget, made against the bare target.
        black_box_attacks: These.
        attacks: Through the defence, by who knows it.
        checks_failed: Names of checks.
        target_sha256: Of the target's weights.
        defence_sha256: Of the defence's, where it has any.
        documents: Where the numbers are from.
    """

    name: str
    link: str | None
    authors: None = None
    additional_data: None = None
    number_forward_passes: None = None
    dataset: str
    venue: None = None
    architecture: str
    eps: str
    clean_acc: str | None = None
    reported: None = None
    autoattack_acc: str | None = None
    unreliable: bool | None = None
    footnote: str
    threat_model: str = "Linf"
    rank: int | None = None
    defence: str
    target: str
    n: int | None = None
    samples: int | None = None
    mean_acc: float | None = None
    worst_acc: float | None = None
    vote_acc: float | None = None
    worst_interval: tuple[float, float] | None = None
    clean_worst_acc: float | None = None
    clean_vote_acc: float | None = None
    noise_mean_acc: float | None = None
    noise_worst_acc: float | None = None
    noise_vote_acc: float | None = None
    black_box_acc: float | None = None
    black_box_attacks: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    checks_failed: tuple[str, ...] = ()
    target_sha256: str | None
    defence_sha256: str | None
    documents: tuple[str, ...]

    @property
    def league(self) -> tuple[str, str]:
        """Entries that may be compared: of the same images and budget."""
        return (self.dataset, self.eps)

    @property
    def is_sound(self) -> bool:
        """Whether it may have a rank: attacked through the defence, and every check passed."""
        return self.unreliable is False and self.worst_acc is not None
