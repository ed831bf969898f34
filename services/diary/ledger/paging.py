"""Which entries of an owner are listed, and in what order: filter, page, cursor."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Tuple, and_, func, literal, select, tuple_

from services.diary.entry import Entry, Source
from services.diary.ledger import rows
from services.diary.ledger.tables import ExactText, entries
from services.errors import FieldError

# The order of pages and exports. None of the three changes when only the words of an entry do.
BY_DAY = (entries.c.moment, entries.c.created_at, entries.c.id)
BY_QUEUE = (entries.c.queued_at, entries.c.id)


@dataclass(frozen=True)
class EntryFilter:
    """Which entries: all that touch these days (YYYY-MM-DD, both included), hold this phrase whatever its
    case, carry this tag to the letter, and have this source. What is left out picks all."""

    first_day: str = ""
    last_day: str = ""
    text: str = ""
    tag: str = ""
    source: Source | None = None

    def condition(self, owner: str, is_postgresql: bool) -> ColumnElement[bool]:
        """As SQL; removed entries are never picked."""
        place = func.strpos if is_postgresql else func.instr
        told = [entries.c.owner == owner, ~entries.c.removed]
        if self.first_day:
            told.append(entries.c.last_day >= self.first_day)
        if self.last_day:
            told.append(entries.c.first_day <= self.last_day)
        if self.text:
            told.append(place(entries.c.folded, rows.casefolded(self.text)) > 0)
        if self.tag:
            told.append(place(entries.c.tags, rows.tag_pattern(self.tag)) > 0)
        if self.source is not None:
            told.append(entries.c.source == self.source)
        return and_(*told)


@dataclass(frozen=True)
class Page:
    """Some entries, and the cursor of those that follow; none at the end."""

    entries: list[Entry]
    next_cursor: str | None


Order = tuple[Column[Any], ...]


def page(
    connection: Connection, condition: ColumnElement[bool], order: Order, limit: int, cursor: str | None
) -> Page:
    """The page after a cursor, last in `order` first. Raises FieldError for a cursor that is none."""
    query = _ordered(condition, order, newest_first=True)
    if cursor is not None:
        query = query.where(tuple_(*order) < _place(read_cursor(cursor, len(order))))
    found = connection.execute(query.limit(limit + 1)).all()
    more = len(found) > limit
    following = write_cursor(found[limit - 1], order) if more else None
    return Page([rows.to_entry(row) for row in found[:limit]], following)


def page_after(
    connection: Connection, condition: ColumnElement[bool], order: Order, place: list[str], limit: int
) -> tuple[list[Entry], list[str]]:
    """The entries after a place, first in `order` first, and the place of the last; [] is the beginning."""
    query = _ordered(condition, order, newest_first=False)
    if place:
        query = query.where(tuple_(*order) > _place(place))
    found = connection.execute(query.limit(limit)).all()
    return [rows.to_entry(row) for row in found], [*found[-1][-len(order) :]] if found else place


def write_cursor(row: Any, order: Order) -> str:
    """A place in an order, opaque to whoever pages."""
    return base64.urlsafe_b64encode(json.dumps(list(row[-len(order) :])).encode()).decode().rstrip("=")


def read_cursor(cursor: str, length: int) -> list[str]:
    """The place that `write_cursor` wrote. Raises FieldError."""
    wrong = FieldError(f"{cursor[:80]!r} is no cursor: take next_cursor of the page before", "cursor")
    try:
        place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        "".join(place).encode()  # which half a surrogate pair fails
    except (ValueError, TypeError, RecursionError):
        raise wrong from None
    if not isinstance(place, list) or len(place) != length:
        raise wrong
    return place


def _ordered(condition: ColumnElement[bool], order: Order, newest_first: bool) -> Select[Any]:
    by = [column.desc() if newest_first else column.asc() for column in order]
    place = [column.label(f"place_{number}") for number, column in enumerate(order)]
    return select(*rows.ENTRY_COLUMNS, *place).where(condition).order_by(*by)


def _place(place: list[str]) -> Tuple:
    return tuple_(*(literal(part, ExactText) for part in place))
