"""What comes from outside stands in the page, its figures and its CSV as it is, and is nothing but text."""

import csv
import html
import io
import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from example_page import Page
from example_run import run_record, stored_run, trial_record, trials

from odd_names import ODD_NAMES
from pagelab.errors import printable
from pagelab.report.page import write_report
from pagelab.report.run_data import RunData
from pagelab.store.record import CheckRecord, Validity

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [name for name in ODD_NAMES if "\udcff" not in name]  # no record can hold one that is no Unicode
ALL = " ¦ ".join(NAMES)


class Attributes(HTMLParser):
    """The names of all attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {name for name, _ in attrs}


def as_text(name: str) -> str:
    return "\n".join(map(printable, name.split("\n")))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run in which every name is odd: two models, so that figures have titles and legends."""
    plain_run = stored_run(tmp_path_factory.mktemp("results"), [trial_record(1, 1.0, 80.0)])
    check = CheckRecord(name=ALL, verdict="warn", found=ALL, why=ALL, fix=ALL)
    run = run_record(experiment=ALL, host=ALL, notes=[ALL], forced=[ALL], preflight=[check], manifest={ALL: ALL})
    records = [
        one.model_copy(
            update={
                "trial": one.trial + 100 * place,
                "factors": one.factors.model_copy(update={"model": name}),
                "command": ["llama-cli", name],
                "validity": Validity(valid=True, warnings=[name]),
            }
        )
        for place, name in enumerate((ALL, *NAMES[:4]))
        for one in trials()
    ]
    data = RunData(plain_run, run, records, configuration=f"experiment: {json.dumps(ALL)}\n")
    return write_report(data).parent


def test_the_page_has_no_tag_and_no_attribute_of_a_name(directory: Path) -> None:
    text = (directory / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "img", "iframe", "object"}
    assert text.count("</svg>") == text.count("<svg")
    assert not [name for name in Attributes(text).names if name.startswith("on")]
    assert len(page.ids) == len(set(page.ids))
    for name in NAMES:
        for line in as_text(name).split("\n"):
            assert str(html.escape(line)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert printable(text.replace("\n", "")) == text.replace("\n", "")


def test_figures_are_whole_and_show_names_as_they_are(directory: Path) -> None:
    texts: set[str] = set()
    drawn = sorted((directory / "figures").glob("*.svg"))
    assert len(drawn) >= 3
    for path in drawn:
        tree = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own
        texts |= {"".join(element.itertext()) for element in tree.iter(f"{SVG}text")}
        assert not tree.findall(f".//{SVG}script")
    shown = "\n".join(texts)
    for name in NAMES:
        for line in as_text(name).split("\n"):
            assert " ".join(line.split()) in " ".join(shown.split())


def test_a_spreadsheet_gets_texts_and_no_formulas(directory: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((directory / "summary.csv").read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 45
    assert {row["factors.model"] for row in rows} == {as_text(name) for name in (ALL, *NAMES[:4])}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@", "-"))]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_what_begins_like_a_formula_is_marked_as_a_text(tmp_path: Path, name: str) -> None:
    store = stored_run(tmp_path, [trial_record(1, 1.0, 80.0)])
    records = [one.model_copy(update={"factors": one.factors.model_copy(update={"model": name})}) for one in trials()]
    path = write_report(RunData(store, run_record(), records)).parent / "summary.csv"
    assert {row["factors.model"] for row in csv.DictReader(path.open())} == {f"'{name}"}
