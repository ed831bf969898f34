"""The compatibility table of docs/compatibility.md, from what the clients' programs report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features import FEATURES

PAGE = Path(__file__).parents[2] / "docs/compatibility.md"
BEGIN, END = "<!-- written by `make test-clients WRITE=1` -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Cell:
    """What a client's program reports about a feature; `ok` is None when the client does not offer it."""

    version: str
    ok: bool | None
    detail: str
    took_s: float

    def __str__(self) -> str:
        return {True: "yes", False: "broken", None: "–"}[self.ok]


Results = Mapping[str, Mapping[str, Cell]]  # by client, by feature


def table(results: Results) -> str:
    """Markdown: a row for a feature, a column for a client. Without versions, so that it is stable."""
    rows = [["", *results], ["---"] * (len(results) + 1)]
    for name, title in FEATURES.items():
        rows.append([title, *(str(cells.get(name, "not tested")) for cells in results.values())])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def reasons(results: Results) -> str:
    """Why a client has its dashes: a line for each reason."""
    lines = []
    for client, cells in results.items():
        titles: dict[str, list[str]] = {}
        for name, title in FEATURES.items():
            if name in cells and cells[name].ok is None:
                titles.setdefault(cells[name].detail, []).append(title)
        lines += [f"- {client}, {', '.join(names)}: {why}\n" for why, names in titles.items()]
    return "".join(lines)


def section(results: Results) -> str:
    """The text between the page's marks."""
    return f"\n{table(results)}\nA dash: the client does not offer it.\n\n{reasons(results)}\n"


def committed() -> str:
    """The text between the marks of the committed page."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def write(results: Results) -> None:
    """Write the section into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + section(results) + END + rest.partition(END)[2])
