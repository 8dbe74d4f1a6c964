"""Which classes a backdoor leads to: those with unusually many suspicious images."""

from collections.abc import Iterable
from statistics import median

CONSISTENT = 1.4826  # makes the median absolute deviation of normal numbers their standard deviation
LEAST_DEVIATION = 0.01  # where most classes have no suspicious image, one alone is no sign


def target_classes(labels: Iterable[int], suspicious: Iterable[bool], outlier: float) -> list[int]:
    """Classes whose share of suspicious images is an outlier upwards.

    Outliers by the median absolute deviation, as Wang et al. 2019 (Neural Cleanse, section V-A) look for a
    backdoor's class. Of two classes neither is one.

    Args:
        labels: The class that each image is given before it is purified.
        suspicious: Whether the image's label flips when it is purified.
        outlier: Least distance from the median, in deviations.
    """
    by_class: dict[int, list[bool]] = {}
    for label, flag in zip(labels, suspicious, strict=True):
        by_class.setdefault(label, []).append(flag)
    share = {label: sum(flags) / len(flags) for label, flags in by_class.items()}
    if not share:
        return []
    middle = median(share.values())
    deviation = CONSISTENT * median(abs(value - middle) for value in share.values())
    limit = middle + outlier * max(deviation, LEAST_DEVIATION)
    return sorted(label for label, value in share.items() if value > limit)
