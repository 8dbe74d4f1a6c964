"""The proof on photographs: its stages, their order, its records and its page."""

import importlib
import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
CARD = {
    "architecture": "timm:resnet10t", "num_classes": 2, "wnids": ["n01440764", "n02102040"], "input_size": 32,
    "resize": 32, "crop": 32, "interpolation": "bilinear", "antialias": True,
    "mean": [0.5] * 3, "std": [0.5] * 3,
}  # fmt: skip
MODULES = ("scales", "stages", "run_stages", "chart", "results")


@pytest.fixture
def proof_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "imagenette"))
    modules = {name: importlib.import_module(name) for name in MODULES}
    yield SimpleNamespace(**modules)
    for name in MODULES:
        sys.modules.pop(name)


def proof_of(modules: SimpleNamespace, out: Path, scale: str = "cpu") -> Any:
    chosen, cards = modules.scales.SCALES[scale], out / "cards"
    cards.mkdir()
    for name in chosen.targets:  # as the shared ones are: a file's name is not always the card's
        (cards / f"{name}.json").write_text(json.dumps(CARD | {"name": name.replace("_", "-")}))
    return modules.stages.Proof(scale=chosen, out=out, photographs=Path("photos"), cards=cards)


def options_of(command: str) -> set[str]:
    """The options of one of the product's commands."""
    from impure import cli

    names = {"impure-data": "data", "impure-train": "train", "impure-eval": "evaluate"}
    program, below = command.split()[0], command.split()[1]
    entry = getattr(cli, names[program])
    entry = getattr(entry, "commands", {}).get(below, entry)
    return {option for parameter in entry.params for option in parameter.opts}


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_every_stage_has_a_name_comes_after_what_it_needs_and_types_options_that_exist(
    proof_modules: SimpleNamespace, tmp_path: Path, scale: str
) -> None:
    planned = proof_modules.stages.stages(proof_of(proof_modules, tmp_path, scale))
    names = [stage.name for stage in planned]
    assert len(set(names)) == len(names)
    for place, stage in enumerate(planned):
        assert set(stage.needs) <= set(names[:place]), stage.name
        if stage.command[0].startswith("impure-"):
            typed = {word for word in stage.command if word.startswith("--")}
            assert typed <= options_of(" ".join(stage.command[:2])), stage.name
    assert [stage.name for stage in planned if stage.looks][:1] == ["table1"]
    assert all("validation" in stage.command for stage in planned if stage.name.startswith("choice-"))


def test_shared_targets_shards_go_by_the_name_that_their_card_gives(
    proof_modules: SimpleNamespace, tmp_path: Path
) -> None:
    planned = proof_modules.stages.stages(proof_of(proof_modules, tmp_path, "gpu"))
    trained = next(stage.command for stage in planned if stage.name == "riae-0")
    assert trained[trained.index("--shards") + 1] == f"{tmp_path}/pairs-16/efficientnet-lite0/*/*/*.tar"


def test_small_takes_the_same_stages(proof_modules: SimpleNamespace, tmp_path: Path) -> None:
    proof = proof_of(proof_modules, tmp_path)
    small = replace(proof, scale=proof_modules.scales.small(proof.scale))
    first, second = ([stage.name for stage in proof_modules.stages.stages(each)] for each in (proof, small))
    assert first == second
    page = tmp_path / "page.md"
    proof_modules.results.write_results([], proof_modules.run_stages.Runs(tmp_path / "t"), small, page)
    assert "SMALL=1 .venv/bin/python benchmarks/imagenette --scale cpu" in page.read_text()


def test_a_stage_is_run_once_and_again_if_its_command_changes(
    proof_modules: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    script = tmp_path / "stage.py"
    script.write_text("import sys; sys.exit(int(sys.argv[1]))")
    make, module = proof_modules.stages.Stage, proof_modules.run_stages
    runs = module.Runs(tmp_path / "times.json")
    good = make(name="good", command=(str(script), "3"), fresh=tmp_path / "old")
    bad = make(name="bad", command=(str(script), "1"), needs=("good",))
    late = make(name="late", command=(str(script), "0"), needs=("bad",))
    assert [module.run_stage(stage, runs, tmp_path, 60.0) for stage in (good, bad, late)] == [
        False,
        True,
        True,
    ]
    assert not (tmp_path / "old").exists()
    again = module.Runs(tmp_path / "times.json")
    assert [module.done(stage, again) for stage in (good, bad, late)] == [True, False, False]
    assert not module.done(replace(good, command=(str(script), "0")), again)
    assert module.run_stage(replace(good, name="slow"), again, tmp_path, 0.0)
    assert again.all[-1]["code"] == module.OUT_OF_TIME


def test_stages_run_at_once_and_each_after_all_that_it_needs(proof_modules: SimpleNamespace) -> None:
    make, both, ended = proof_modules.stages.Stage, Barrier(2), []
    planned = [
        make(name=name, command=(), needs=needs)
        for name, needs in (
            ("first", ()),
            ("after", ("first",)),
            ("beside", ()),
            ("last", ("after", "beside")),
        )
    ]

    def run(stage: Any) -> bool:
        if stage.name in ("first", "beside"):
            both.wait(timeout=60)  # neither goes on before the other has begun
        ended.append(stage.name)
        return bool(stage.name == "beside")

    seen: list[int] = []
    assert proof_modules.run_stages.run_all(planned, 2, run, lambda: seen.append(len(ended))) == 1
    assert sorted(ended[:2]) == ["beside", "first"] or ended[:2] == ["first", "after"]
    assert ended.index("first") < ended.index("after") and ended[-1] == "last"
    assert seen[-1] == len(planned)


def test_what_needs_a_stage_that_runs_again_runs_again(
    proof_modules: SimpleNamespace, tmp_path: Path
) -> None:
    make, module = proof_modules.stages.Stage, proof_modules.run_stages
    first = make(name="first", command=("one",))
    second = make(name="second", command=("two",), needs=("first",))
    other = make(name="other", command=("three",))
    runs = module.Runs(tmp_path / "times.json")
    for stage in (first, second, other):
        command = module.shown(stage)
        runs.add(
            {"stage": stage.name, "command": command, "begun": "", "seconds": 1, "code": 0, "looks": False}
        )
    assert module.to_do([first, second, other], runs) == []
    changed = replace(first, command=("one", "more"))
    assert module.to_do([changed, second, other], runs) == [changed, second]


def row(attack: str, defence: str, correct: int) -> dict[str, Any]:
    return {
        "target": "t",
        "attack": attack,
        "defence": defence,
        "n": 100,
        "correct": correct,
        "accuracy": correct / 100,
        "samples": 1,
    }


def test_the_page_says_what_came_back_with_its_interval(
    proof_modules: SimpleNamespace, tmp_path: Path
) -> None:
    proof = proof_of(proof_modules, tmp_path)
    planned = proof_modules.stages.stages(proof)
    table1 = next(stage for stage in planned if stage.name == "table1")
    rows = [
        *(row(attack, "none", correct) for attack, correct in (("clean", 100), ("pgd", 0), ("fgsm", 20))),
        *(row(attack, "riae", correct) for attack, correct in (("clean", 90), ("pgd", 60), ("fgsm", 60))),
    ]
    table1.fresh.mkdir(parents=True)
    (table1.fresh / "report.json").write_text(json.dumps({"conditions": {}, "rows": rows}))
    runs = proof_modules.run_stages.Runs(tmp_path / "times.json")
    command = proof_modules.run_stages.shown(table1)
    runs.add({"stage": "table1", "command": command, "begun": "now", "seconds": 60, "code": 0, "looks": True})
    proof_modules.results.write_results(planned, runs, proof, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "60.0<br>50.2-69.1" in page  # Wilson's interval of 60 of 100
    line = next(line for line in page.splitlines() if line.startswith("| riae"))
    assert line.split("|")[-2].strip() == "0.55"  # the mean of 60/100 and 40/80
    assert "| now   |" in page and str(tmp_path) not in page
    assert "Table 2" not in page  # what is not measured is not there


def test_remarks_stand_on_the_page_of_the_run_that_they_are_about_alone(
    proof_modules: SimpleNamespace, tmp_path: Path
) -> None:
    proof, page = proof_of(proof_modules, tmp_path), tmp_path / "page.md"
    (tmp_path / "findings.md").write_text("It was so.\n")
    for remarks, shown in ((None, False), (tmp_path, True)):
        about = replace(proof, remarks=remarks)
        proof_modules.results.write_results([], proof_modules.run_stages.Runs(tmp_path / "t"), about, page)
        assert ("\n\nIt was so.\n\n" in page.read_text()) is shown


def test_table_2_holds_what_was_measured_apart(proof_modules: SimpleNamespace, tmp_path: Path) -> None:
    proof = proof_of(proof_modules, tmp_path)
    planned = proof_modules.stages.stages(proof)
    runs = proof_modules.run_stages.Runs(tmp_path / "times.json")
    for stage in planned:
        command = proof_modules.run_stages.shown(stage)
        ended = {"command": command, "begun": "now", "seconds": 1, "code": 0, "looks": stage.looks}
        runs.add({"stage": stage.name} | ended)
    tables = [stage for stage in planned if stage.name in ("table2", "table2-riae")]
    for stage, defences in zip(tables, (("none", "jpeg"), ("none", "riae")), strict=True):
        stage.fresh.mkdir(parents=True)
        rows = [row(attack, defence, 50) for attack in ("clean", "pgd") for defence in defences]
        (stage.fresh / "report.json").write_text(json.dumps({"conditions": {}, "rows": rows}))
    proof_modules.results.write_results(tables, runs, proof, tmp_path / "page.md")
    table = (tmp_path / "page.md").read_text().partition("## Table 2")[2].partition("\n## ")[0]
    labels = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert labels == ["defence", "-------", "none", "jpeg", "riae"]
    assert "(page-table2.svg)" in table and ">riae<" in (tmp_path / "page-table2.svg").read_text()


def test_what_has_a_page_of_its_own_is_shown_by_that(proof_modules: SimpleNamespace, tmp_path: Path) -> None:
    proof = proof_of(proof_modules, tmp_path)
    planned = proof_modules.stages.stages(proof)
    residual = next(stage for stage in planned if stage.name == "residual")
    residual.fresh.mkdir(parents=True)
    rows = [
        {"target": "t", "attack": "pgd", "way": "global", "scale": 0.0, "n": 9, "correct": 9, "accuracy": 1.0}
    ]
    (residual.fresh / "residual.json").write_text(json.dumps({"conditions": {}, "rows": rows}))
    (residual.fresh / "residual.md").write_text("# What is left\n\n![bars](bars.png)\n\n| s |\n\n- seed 0\n")
    runs = proof_modules.run_stages.Runs(tmp_path / "times.json")
    command = proof_modules.run_stages.shown(residual)
    ended = {"stage": "residual", "command": command, "begun": "now", "seconds": 1, "code": 0, "looks": True}
    runs.add(ended)
    proof_modules.results.write_results(planned, runs, proof, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert (
        "## What is left\n" in page
        and "\n| s |\n" in page
        and "bars.png" not in page
        and "seed 0" not in page
    )


def test_the_command_lists_its_stages(proof_modules: SimpleNamespace, tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / "benchmarks" / "imagenette" / "__main__.py"))["main"]
    given = ("--photographs", "photos", "--cards", "cards", "--out", str(tmp_path), "--dry-run")
    listed = CliRunner().invoke(main, [*given, "--until", "riae-0"])
    assert listed.exit_code == 0 and listed.output.splitlines()[-2] == "to do: riae-0"
    missing = CliRunner().invoke(main, [*given, "--scale", "gpu"])
    assert missing.exit_code == 1 and "cards/efficientnet_lite0.json: cannot be read" in missing.output
    assert missing.output.count("\n") == 1
    refused = CliRunner().invoke(main, [*given, "--until", "riae-9"])
    assert refused.exit_code == 2 and "choose from target-resnet10t-64" in refused.output
