"""The page of a run, taken apart."""

from html.parser import HTMLParser

from pagelab.report.page import write_report
from pagelab.report.run_data import RunData
from pagelab.store.run_store import RunStore


class Page(HTMLParser):
    """The links, ids and tables of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attributes if name in ("href", "src", "srcset", "data", "action")]
        self.links += [value or "" for name, value in attributes if name == "xlink:href"]
        self.ids += [value or "" for name, value in attributes if name == "id"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append(" ".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None and data.strip():
            self._cell.append(data.strip())

    def table(self, *headings: str) -> list[list[str]]:
        """The one table that has these headings, without its head."""
        found = [rows for rows in self.tables if all(any(name in cell for cell in rows[0]) for name in headings)]
        assert len(found) == 1, [rows[0] for rows in self.tables]
        return found[0][1:]


def report(store: RunStore, include_invalid: bool = False) -> Page:
    return Page(write_report(RunData.read(store, include_invalid)).read_text())
