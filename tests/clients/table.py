"""The compatibility table of docs/compatibility.md, from what the clients' programs have told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features import FEATURES

PAGE = Path(__file__).parents[2] / "docs/compatibility.md"
BEGIN, END = "<!-- written by `make test-clients WRITE=1` -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Cell:
    """What a client's program told of a feature; `ok` is None when the client does not offer it."""

    version: str
    ok: bool | None
    detail: str
    took_s: float

    def __str__(self) -> str:
        return {True: "yes", False: "broken", None: "–"}[self.ok]


Told = Mapping[str, Mapping[str, Cell]]  # by client, by feature


def table(told: Told) -> str:
    """Markdown: a row for a feature, a column for a client. Without versions, so that it is stable."""
    rows = [["", *told], ["---"] * (len(told) + 1)]
    for name, title in FEATURES.items():
        rows.append([title, *(str(cells.get(name, "not tested")) for cells in told.values())])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def reasons(told: Told) -> str:
    """Why a client has its dashes: a line for each reason."""
    lines = []
    for client, cells in told.items():
        titles: dict[str, list[str]] = {}
        for name, title in FEATURES.items():
            if name in cells and cells[name].ok is None:
                titles.setdefault(cells[name].detail, []).append(title)
        lines += [f"- {client}, {', '.join(names)}: {why}\n" for why, names in titles.items()]
    return "".join(lines)


def written(told: Told) -> str:
    """What stands between the page's marks."""
    return f"\n{table(told)}\nA dash: the client does not offer it.\n\n{reasons(told)}\n"


def committed() -> str:
    """What of the page stands between its marks."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def write(told: Told) -> None:
    """Put it into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + written(told) + END + rest.partition(END)[2])
