"""Pages load nothing, run nothing of others, and show what strangers wrote as text."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.reports.document_page import page_of_folders
from impure.purifier.evaluation.reports.page import Bar, Bars, Block, Cell, Picture, Section, Table, render
from tests.purifier.evaluation.reports.documents_of_tests import (
    adaptive,
    stored_row,
    subject,
    table1,
    write,
)

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(3)</script></svg>'


class Parsed(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def loads_nothing(page: str) -> Parsed:
    """Our own script alone, images inside the page, no address but in plain links."""
    parsed = Parsed(page)
    assert len(parsed.all("script")) == 1 and parsed.all("script") == [{}]
    assert not {"link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in parsed.elements}
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (
            tag,
            attributes,
        )
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
        assert tag == "a" or "href" not in attributes
    assert not re.search(r"url\(|@import", page[page.index("<style>") : page.index("</style>")])
    return parsed


def test_the_policy_allows_what_is_here_and_nothing_else() -> None:
    page = render("Title", [Section(title="One", conditions={})])
    (policy,) = [meta["content"] for meta in loads_nothing(page).all("meta") if "http-equiv" in meta]
    assert policy and policy.startswith(
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
    )
    for tag in ("style", "script"):
        text = page[page.index(f"<{tag}>") + len(tag) + 2 : page.index(f"</{tag}>")]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_whatever_stands_in_a_section_is_text() -> None:
    block = Block(
        title=HOSTILE,
        warning=HOSTILE,
        tables=[Table(caption=HOSTILE, header=[HOSTILE], rows=[[Cell(HOSTILE, HOSTILE)]], folded=True)],
        bars=Bars(labels=[HOSTILE], groups=[(HOSTILE, [Bar(HOSTILE, 50, 40, 60)])]),
    )
    plot = Picture(HOSTILE, "data:image/png;base64,")
    section = Section(
        title=HOSTILE,
        lead=HOSTILE,
        notes=[HOSTILE],
        blocks=[block],
        plots=[plot],
        conditions={HOSTILE: HOSTILE},
        where=HOSTILE,
    )
    page = render(HOSTILE, [section, section], [HOSTILE])
    assert [image["src"] for image in loads_nothing(page).all("img")] == [plot.uri] * 2
    assert "\u202e" not in page and "&lt;script&gt;" in page


def test_every_document_is_a_section_in_the_order_of_the_paper(tmp_path: Path) -> None:
    write(tmp_path / "b" / "adaptive.json", adaptive())
    write(tmp_path / "a" / "residual.json", {"kind": "residual", "rows": [{"scale": 0.5, "accuracy": 0.25}]})
    write(tmp_path / "c" / "report.json", table1())
    write(tmp_path / "c" / "report-strips.svg", SVG)
    write(tmp_path / "c" / "config.json", {"riae": {"patch": 8}})
    page, count, complaints = page_of_folders([tmp_path, tmp_path / "c"])
    assert (count, complaints) == (3, [])
    parsed = loads_nothing(page)
    assert [link["href"] for link in parsed.all("a")] == ["#part-1", "#part-2", "#part-3"]
    titles = [
        page.index(f"<h2>{title}") for title in ("Accuracy on stored", "Attacks through", "Attack strength")
    ]
    assert titles == sorted(titles)
    (image,) = parsed.all("img")
    assert image["src"] == "data:image/svg+xml;base64," + base64.b64encode(SVG.encode()).decode()
    assert image["alt"] == "strips"
    assert "70.0<small>39.7–89.2</small>" in page and "gradients are there" in page


def test_table2_has_a_line_for_each_defence_and_says_where_it_is_from(tmp_path: Path) -> None:
    write(tmp_path / "a" / "table2.json", {**table1(), "kind": "table2"})
    write(tmp_path / "b" / "table1.json", table1())
    page, _, _ = page_of_folders([tmp_path])
    second = page[page.index("<h2>Many defences") :]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", second)
    assert heads[:5] == ["defence", "clean", "pgd", "pgd-e4", "mean of attacks"]
    cells = re.findall(r"<td[^>]*>([^<]*)<", second)
    assert cells[:10] == ["none", "100.0", "0.0", "–", "0.0", "riae", "90.0", "70.0", "80.0", "75.0"]
    assert f'<p class="soft">{tmp_path.name}/a/table2.json</p>' in second


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{'kind'", None),
        ('{"kind": "table1", ', "not a readable JSON"),
        ('{"kind": NaN}', "not a readable JSON"),
        ({"kind": ["table1"]}, "unknown"),
        ({"kind": HOSTILE}, "unknown"),
        ({"kind": "table1", "conditions": 3}, "conditions"),
        ({"kind": "table1", "rows": {"target": "toy"}}, "rows are no list"),
        ({"kind": "table1", "rows": [stored_row("pgd", "riae", 11)]}, "no interval"),
        ({"kind": "table1", "rows": [stored_row("pgd", "riae", True)]}, "correct is no count"),
        ({"kind": "table1", "rows": [stored_row("pgd", f"d{index}", 1) for index in range(99)]}, "defences"),
        ({"kind": "residual", "rows": [{}] * 100_001}, "at most 100000"),
        ({"kind": "table1", "rows": [stored_row("pgd", "riae", 1)] * 5001}, "more than 5000"),
        ({"kind": "residual", "rows": [{str(index): 1 for index in range(99)}]}, "columns"),
        (table1(classes=[3]), "classes are no list"),
        (adaptive(rows=3), "rows are no list"),
        (adaptive(rows=[{"attack": "pgd"}]), "is no count"),
        (adaptive(rows=[{"eps": 4, "samples": 1, "n": 1, "mean": 2.0}]), "from 0 to 1"),
        (adaptive(defences=[{"target": [], "checks": {}}]), "checks are no list"),
    ],
)  # fmt: skip
def test_a_broken_document_is_a_line_and_the_rest_goes_on(
    document: object, said: str | None, tmp_path: Path
) -> None:
    write(tmp_path / "bad" / "x.json", document)
    write(tmp_path / "good" / "report.json", table1())
    page, count, complaints = page_of_folders([tmp_path])
    loads_nothing(page)
    assert count == 1 and len(complaints) == (said is not None)
    assert said is None or (
        said in complaints[0] and "bad/x.json" in complaints[0] and "\n" not in complaints[0]
    )
    (tmp_path / "good" / "report.json").unlink()
    with pytest.raises(InputError, match="no evaluation"):
        page_of_folders([tmp_path])


def test_a_hostile_document_is_shown_as_text(tmp_path: Path) -> None:
    rows = [stored_row(HOSTILE, HOSTILE, 3, target=HOSTILE), stored_row("clean", "riae", 3, target=HOSTILE)]
    classes = [{"target": HOSTILE, "defence": HOSTILE, "images": HOSTILE, "class": HOSTILE, "accuracy": "x"}]
    write(tmp_path / "report.json", table1(rows, conditions={HOSTILE: HOSTILE * 1000}, classes=classes))
    write(tmp_path / "adaptive.json", adaptive(subject(defence=HOSTILE, target=HOSTILE)))
    rows = [{HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE, 10**30]}]
    write(tmp_path / "fig6.json", {"kind": "fig6", "notes": [HOSTILE, 3], HOSTILE: rows, "rows": rows})
    write(tmp_path / "fig9.json", '{"kind": "fig9", "rows": [{"a": "\\ud800"}]}')
    page, count, complaints = page_of_folders([tmp_path])
    loads_nothing(page.encode().decode())
    assert (count, complaints) == (4, []) and len(page) < 100_000


def test_images_that_are_none_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "fig6.json", {"kind": "fig6", "rows": []})
    write(tmp_path / "fig6-a.png", "no image")
    write(tmp_path / "fig6-b.svg", "<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>")
    (tmp_path / "fig6-c.svg").mkdir()
    page, _, complaints = page_of_folders([tmp_path])
    assert not loads_nothing(page).all("img")
    assert [line.partition("/")[2] for line in complaints] == [
        "fig6-a.png: it is no PNG",
        "fig6-b.svg: it is no plain SVG",
    ]
