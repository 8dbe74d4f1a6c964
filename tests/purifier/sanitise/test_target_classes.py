import pytest

from impure.purifier.sanitise.target_classes import target_classes


def flags(shares: list[float], images: int = 100) -> tuple[list[int], list[bool]]:
    """So many images a class, of which a share is suspicious."""
    labels = [label for label in range(len(shares)) for _ in range(images)]
    suspicious = [index < round(share * images) for share in shares for index in range(images)]
    return labels, suspicious


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ([0.05, 0.03, 0.50, 0.04, 0.06], [2]),
        ([0.05, 0.03, 0.00, 0.04, 0.06], []),  # downwards is no sign
        ([0.0] * 9 + [0.01], []),  # nor one image where the others have none
        ([0.0] * 9 + [0.03], [9]),
        ([0.4, 0.0], []),  # of two, none is the odd one out
        ([0.30, 0.31, 0.05, 0.04, 0.06, 0.05, 0.04], [0, 1]),
    ],
)
def test_outliers_upwards(shares: list[float], wanted: list[int]) -> None:
    assert target_classes(*flags(shares), outlier=2) == wanted


def test_the_limit_is_the_scaled_deviation() -> None:
    """Median 0.10, median absolute deviation 0.02: the limit of 2 deviations is 0.10 + 2 · 1.4826 · 0.02."""
    for share, wanted in ((0.159, []), (0.16, [4])):
        assert target_classes(*flags([0.08, 0.10, 0.08, 0.12, share], 1000), outlier=2) == wanted


def test_no_images() -> None:
    assert target_classes([], [], outlier=2) == []
