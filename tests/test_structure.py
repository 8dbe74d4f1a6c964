"""Rules that no linter checks: modules sayable in a sentence, small files, no cycle, the field's words."""

import ast
import re
import subprocess
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("manifests", "pipeline", "purifier")
MODULES = [ROOT / "cli.py", *(path for room in PACKAGES for path in sorted((ROOT / room).rglob("*.py")))]
NAMED = [path for path in MODULES if path.name != "__init__.py"]

THIS = Path(__file__)
CHANGELOG = ROOT / "CHANGELOG.md"
MOST_LINES = 300
MOST_MODULES = 15

#: Words that the field's replaced. Where an old name is plain English too, only its use as a name counts.
OLD_WORDS = {
    "classes": r"\b(_?Unit|UnitId|Committed(?! shards?\b)|Collector|Maker|Crew|Ledger|_?UnitInFlight)\b",
    "more classes": r"\b(ShardImages|Finisher|Habits|Learner|Climb|_Walk|class Walk)\b",
    "functions": r"\b(pose|settle|aiming_at|likeliest_but|judges_of)\(",
    "methods": r"\bdef _?(claim|alone|aside|standing)\(",
    "attributes": r"\.(leads|aims)\b|\branks\.(decide|wait)\(",
    "judging": r"\b[Jj]udg(e|es|ed|ing)\b",
    "variables": r"\b(ledger|crew|habits|learner|collector|finisher|unit_in_flight)\b",
    "flags": r"--(dividing|draws|accumulate|grad-clip|ema)\b",
    "arguments": r"\b(dividing|draws|accumulate|habits|material)=",
    "help texts": r'"(Likewise|Of all draws)\.|The same for 256 images|Parts of a GPU.s share',
}

#: Old words that only the product has to avoid, since tests and benchmarks may use them in their plain sense.
OLD_WORDS_OF_THE_PRODUCT = {
    "classes": r"\bclass _?(Task|Order|Place|Job|Notes|Goal|Material|Part|Aims)\b",
    "locals": r"^\s*(goal|aims?|maker|notes|material|answers?|found|each|there) = ",
    "loops": r"\bfor (each|there|found) in\b",
}


def _tracked(*patterns: str) -> list[Path]:
    """Tracked files, without links: `src/impure` shows the same modules again."""
    names = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", NAMED, ids=_name)
def test_a_module_says_in_one_sentence_what_it_holds(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith("."), f"its first line is no sentence: {first!r}"


def test_no_module_name_occurs_twice() -> None:
    count = Counter(path.stem for path in NAMED)
    assert [name for name, times in count.items() if times > 1] == []


def test_no_file_is_too_long() -> None:
    length = {_name(path): len(path.read_text().splitlines()) for path in _tracked("*.py")}
    assert {name: lines for name, lines in length.items() if lines > MOST_LINES} == {}


def test_no_folder_holds_too_many_modules() -> None:
    count = Counter(_name(path.parent) for path in NAMED)
    assert {folder: modules for folder, modules in count.items() if modules > MOST_MODULES} == {}


def test_imports_form_no_cycle() -> None:
    """Between modules, imports inside functions and for type checkers included."""
    graph = grimp.build_graph("impure", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()


def _uses(pattern: str, paths: list[Path]) -> list[str]:
    """Lines that match, with file and number."""
    return [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("kind", OLD_WORDS)
def test_old_words_are_gone(kind: str) -> None:
    tracked = _tracked("*.py", "*.md", "*.j2", "*.html")
    uses = _uses(OLD_WORDS[kind], [path for path in tracked if path not in (THIS, CHANGELOG)])
    assert uses == [], "\n".join(uses)


@pytest.mark.parametrize("kind", OLD_WORDS_OF_THE_PRODUCT)
def test_old_words_are_gone_from_the_product(kind: str) -> None:
    uses = _uses(OLD_WORDS_OF_THE_PRODUCT[kind], MODULES)
    assert uses == [], "\n".join(uses)


def test_pillow_is_told_which_formats_it_may_open() -> None:
    """For others it starts programs: Ghostscript on EPS."""
    assert [line for line in _uses(r"Image\.open\(", MODULES) if "formats=" not in line] == []
