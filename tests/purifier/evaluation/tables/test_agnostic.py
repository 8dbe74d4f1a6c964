"""Table 3 tells attacks that were seen in training from those that were not."""

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.tables.agnostic import check_trained, notes, table3, terminal_table3
from impure.purifier.evaluation.tables.trained_on import TrainedOn
from tests.purifier.evaluation.tables.evaluations import evaluation_of

ATTACKS = ("clean", "fgsm", "cw", "pgd")


def seen(*attacks: str, targets: tuple[str, ...] = ("net",), began_with: str = "") -> TrainedOn:
    return TrainedOn(attacks=frozenset(attacks), targets=frozenset(targets), began_with=began_with)


@pytest.fixture
def evaluation() -> Evaluation:
    return evaluation_of(ATTACKS, {"none": (10, 2, 1, 0), "riae": (9, 8, 5, 6), "hgd": (9, 7, 2, 7)})


def header(table: str) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]


def test_seen_attacks_are_marked_and_have_their_own_mean(evaluation: Evaluation) -> None:
    trained = {"riae": seen("fgsm", "pgd"), "hgd": seen("fgsm", "pgd")}
    measured = table3(evaluation, trained, "toy")
    assert header(measured.table) == [
        "net",
        "clean",
        "fgsm*",
        "cw",
        "pgd*",
        "mean of seen*",
        "mean of unseen",
    ]
    assert [line.split()[-4:-1:2] for line in measured.table.splitlines()[2:]] == [
        ["10.0", "10.0"], ["70.0", "50.0"], ["70.0", "20.0"],
    ]  # fmt: skip
    document = measured.document()
    models = {(row["defence"], row["attack"]): (row["seen"], row["threat_model"]) for row in document["rows"]}
    assert models["riae", "pgd"] == (True, "black-box") and models["riae", "cw"] == (False, "agnostic")
    assert models["none", "cw"] == (None, "black-box") and models["riae", "clean"] == (None, None)
    assert document["means"][1] == {
        "target": "net", "defence": "riae", "combine": "one", "samples": 1, "seen_attacks": "fgsm pgd",
        "mean_seen": 0.7, "mean_unseen": 0.5,
    }  # fmt: skip
    assert document["conditions"]["trained_on"][0] == "riae: fgsm, pgd on net"
    assert header(terminal_table3(evaluation, trained, 200)) == header(measured.table)


def test_checkpoints_of_other_attacks_have_a_table_of_their_own(evaluation: Evaluation) -> None:
    trained = {"riae": seen("fgsm", "pgd"), "hgd": seen()}
    one, other = table3(evaluation, trained, "toy").table.split("\n\n")
    assert header(one)[2:5] == ["fgsm*", "cw", "pgd*"] and "| riae" in one and "hgd" not in one
    assert header(other)[2:5] == ["fgsm", "cw", "pgd"] and "| hgd" in other and "riae" not in other
    assert "| none" in one and "| none" in other
    assert other.splitlines()[3].split()[-4] == "-"  # it saw nothing


def test_another_target_is_transfer_and_other_weights_are_named(evaluation: Evaluation) -> None:
    lines = notes(evaluation, {"riae": seen("fgsm", "cw", "pgd", targets=("other",), began_with="w (f)")})
    assert lines[0] == (
        "riae was trained on cw, fgsm, pgd on other; what w (f), which it began with, had seen is not known."
    )
    assert lines[1] == "net is none of the targets that riae learnt from: threat model transfer."
    assert lines[2] == "Every attack was seen in training: nothing here is agnostic."


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(InputError, match="give --checkpoint RUN of `impure-train --attacks fgsm,pgd,mifgsm`"):
        check_trained([], {})
    with pytest.raises(InputError, match="what nrp:weights=x was trained on: give it by --checkpoint"):
        check_trained(["riae", "nrp:weights=x"], {"riae": seen("pgd")})
