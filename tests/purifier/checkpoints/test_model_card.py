import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from impure.manifests.base.errors import InputError
from impure.purifier.checkpoints.model_card import write_card
from impure.purifier.evaluation.validation_table import ValidationTable, read_rows
from tests.common import small_run

HEADER = "epoch,target,attack,defence,n,correct,accuracy\n"


@pytest.fixture
def make(tmp_path: Path, riae: Any) -> Any:
    def write(validation: str = "", **config: Any) -> Path:
        small_run(tmp_path / "run", riae("both"), **config)
        if validation:
            (tmp_path / "run" / "validation.csv").write_text(HEADER + validation)
        return tmp_path / "run"

    return write


def front_matter(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return parsed


def test_the_code_in_it_works(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make()
    text = write_card(run).read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(run)
    names: dict[str, Any] = {}
    exec(code.replace("224", "16"), names)
    assert names["purified"].shape == (1, 3, 16, 16) and torch.isfinite(names["purified"]).all()


def test_what_hugging_face_reads(make: Any) -> None:
    header = front_matter(write_card(make()).read_text())
    assert header["license"] == "apache-2.0" and header["library_name"] == "impure"
    assert header["pipeline_tag"] == "image-to-image" and "adversarial-purification" in header["tags"]


@pytest.mark.parametrize(
    ("license", "note"),
    [("cc-by-nc-4.0", "weights of MAE"), ("other", "states no licence"), ("apache-2.0", "Apache")],
)
def test_weights_bind_what_began_from_them(make: Any, license: str, note: str) -> None:
    init = {"origin": "mae", "file": "x.pth", "license": license, "loaded": ["a"] * 99, "random": ["b"]}
    text = write_card(make(init=init)).read_text()
    assert front_matter(text)["license"] == license and note in text
    assert re.search(r"\| loaded +\| +99 \|", text) and re.search(r"\| random +\| +1 \|", text)
    assert ("license_name" in front_matter(text)) == (license == "other")


def test_an_unknown_licence_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match="is none of apache"):
        write_card(make(init={"license": "mit\ntags: [x]"}))


def test_training_and_data_are_told(make: Any) -> None:
    data = {"pairs": 1234, "pixels": "ab" * 32, "collections": ["cd" * 32], "shards": ["toy/fgsm/train/0"]}
    text = write_card(make(train={"learning_rate": 1e-4, "epochs": 7}, data=data, epoch=5)).read_text()
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if "|" in line
    }
    assert rows["learning\\_rate"] == "0.0001" and rows["epochs"] == "7"
    assert rows["pairs"] == "1234" and rows["collections"] == f'\\["{"cd" * 32}"\\]'
    assert "weights are those of epoch 5" in text and "### Software" not in text


def test_the_bare_target_the_best_and_the_last_epoch(make: Any) -> None:
    validation = (
        "0,toy,clean,none,10,10,0\n0,toy,fgsm,none,10,1,0\n1,toy,clean,riae,10,9,0\n1,toy,fgsm,riae,10,7,0\n"
        "2,toy,clean,riae,10,8,0\n2,toy,fgsm,riae,10,6,0\n"
    )
    text = write_card(make(validation)).read_text()
    assert re.search(r"\| target \| attack \| +n \| unprotected \| best: epoch 1 \| last: epoch 2 \|", text)
    assert re.search(r"\| toy +\| +fgsm +\| +10 \| +10\.00 % \| +70\.00 % \| +60\.00 % \|", text)
    assert re.search(r"\| mean +\| +\| +\| +55\.00 % \| +80\.00 % \| +70\.00 % \|", text)
    assert "did not know of the purifier" in text


def test_one_column_where_the_last_is_the_best(make: Any) -> None:
    text = write_card(
        make(
            "".join(
                f"{epoch},toy,{attack},riae,10,{epoch},0\n" for epoch in (1, 2) for attack in ("clean", "a")
            )
        )
    ).read_text()
    assert "best and last: epoch 2" in text and "best: epoch 1" not in text and "unprotected" not in text
    (columns,) = re.findall(r"\| target .*", text)
    assert columns.count("|") == 5


def test_the_best_is_the_trainers_best(make: Any) -> None:
    lines = ["3,t,clean,riae,9,5,0", "3,t,a,riae,90,10,0", "5,t,clean,riae,9,4,0", "5,t,a,riae,90,20,0"]
    run = make("\n".join(lines) + "\n")
    cells = [("t", "clean", 9), ("t", "a", 90)]
    best = ValidationTable(run / "validation.csv", cells).best()
    assert best is not None and f"best: epoch {best[0]} " in write_card(run).read_text()


def test_epochs_that_cannot_be_compared_are_refused(make: Any) -> None:
    rows = ["1,t,clean,riae,9,5,0", "1,t,a,riae,9,5,0", "2,t,clean,riae,9,5,0", "2,t,b,riae,9,5,0"]
    with pytest.raises(InputError, match="different targets, attacks"):
        write_card(make("\n".join(rows) + "\n"))


HOSTILE = "| <script>x</script>\n# Big ![a](https://e) `code` [b](c) ---"


def test_hostile_values_stay_in_their_cells(make: Any) -> None:
    run = make(train={HOSTILE: HOSTILE, "deep": {"list": [HOSTILE]}, "long": "x" * 10**5})
    rows = (f'1,"{HOSTILE}",{attack},riae,10,9,0.9\n' for attack in ("clean", "a"))
    (run / "validation.csv").write_text(HEADER + "".join(rows))
    text = write_card(run).read_text()
    assert len(text) < 10_000
    assert "<script" not in text.replace("\\<script", "") and "\n# Big" not in text
    assert text.count("\\| \\<script\\>x\\</script\\> \\# Big !\\[a\\](https\\://e) \\`code\\`") >= 3
    lines = [line for line in text.splitlines() if "Big" in line]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 5) for line in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"validation\.csv: not a readable .* has no column attack, correct, defence, epoch, n, target"),
        ("epoch,n,target,attack,defence\n", "has no column correct"),
        (HEADER + "1,toy,clean,riae,10,x,0\n", "line 2: invalid literal"),
        (HEADER + "1,toy\n", "line 2: invalid literal"),
        (HEADER + "1,toy,clean,riae,10,11,0\n", "line 2: .*11"),
        (HEADER + "1,toy,clean,riae,0,0,0\n", "line 2: "),
        (HEADER + '1,"toy', "not a readable validation table"),
    ],
)
def test_damaged_tables(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "validation.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / "validation.csv")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        write_card(tmp_path)
