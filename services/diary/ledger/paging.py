"""Filters, pages and cursors over an owner's entries."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Tuple, and_, func, literal, select, tuple_

from services.diary.entry import Entry, Source
from services.diary.ledger import rows
from services.diary.ledger.tables import ExactText, entries
from services.errors import FieldError

# The order of pages and exports. An edit of the text alone changes none of the three.
BY_DAY = (entries.c.moment, entries.c.created_at, entries.c.id)
BY_QUEUE = (entries.c.queued_at, entries.c.id)


@dataclass(frozen=True)
class EntryFilter:
    """Selects the entries that match all fields; an empty field matches every entry.

    `first_day` and `last_day` (YYYY-MM-DD, both included) match entries whose days overlap with them. `text`
    is a phrase, in any case; `tag` matches exactly.
    """

    first_day: str = ""
    last_day: str = ""
    text: str = ""
    tag: str = ""
    source: Source | None = None

    def condition(self, owner: str, is_postgresql: bool) -> ColumnElement[bool]:
        """The filter in SQL; removed entries never match."""
        find = func.strpos if is_postgresql else func.instr
        conditions = [entries.c.owner == owner, ~entries.c.removed]
        if self.first_day:
            conditions.append(entries.c.last_day >= self.first_day)
        if self.last_day:
            conditions.append(entries.c.first_day <= self.last_day)
        if self.text:
            conditions.append(find(entries.c.folded, rows.casefolded(self.text)) > 0)
        if self.tag:
            conditions.append(find(entries.c.tags, rows.tag_pattern(self.tag)) > 0)
        if self.source is not None:
            conditions.append(entries.c.source == self.source)
        return and_(*conditions)


@dataclass(frozen=True)
class Page:
    """Some entries, and the cursor of the next page; None on the last page."""

    entries: list[Entry]
    next_cursor: str | None


Order = tuple[Column[Any], ...]


def page(
    connection: Connection, condition: ColumnElement[bool], order: Order, limit: int, cursor: str | None
) -> Page:
    """The page after a cursor, in descending order. Raises FieldError for an invalid cursor."""
    query = _ordered(condition, order, descending=True)
    if cursor is not None:
        query = query.where(tuple_(*order) < _position(parse_cursor(cursor, len(order))))
    result = connection.execute(query.limit(limit + 1)).all()
    next_cursor = format_cursor(result[limit - 1], order) if len(result) > limit else None
    return Page([rows.to_entry(row) for row in result[:limit]], next_cursor)


def page_after(
    connection: Connection, condition: ColumnElement[bool], order: Order, position: list[str], limit: int
) -> tuple[list[Entry], list[str]]:
    """The entries after a position, in ascending order, and the position of the last one.

    The position [] is the beginning.
    """
    query = _ordered(condition, order, descending=False)
    if position:
        query = query.where(tuple_(*order) > _position(position))
    result = connection.execute(query.limit(limit)).all()
    last = [*result[-1][-len(order) :]] if result else position
    return [rows.to_entry(row) for row in result], last


def format_cursor(row: Any, order: Order) -> str:
    """A row's position in an order, as an opaque string."""
    return base64.urlsafe_b64encode(json.dumps(list(row[-len(order) :])).encode()).decode().rstrip("=")


def parse_cursor(cursor: str, length: int) -> list[str]:
    """The position that `format_cursor` wrote. Raises FieldError."""
    error = FieldError(f"{cursor[:80]!r} is no cursor: take next_cursor of the page before", "cursor")
    try:
        position = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        "".join(position).encode()  # raises ValueError for half a surrogate pair
    except (ValueError, TypeError, RecursionError):
        raise error from None
    if not isinstance(position, list) or len(position) != length:
        raise error
    return position


def _ordered(condition: ColumnElement[bool], order: Order, descending: bool) -> Select[Any]:
    columns = [column.desc() if descending else column.asc() for column in order]
    position = [column.label(f"position_{number}") for number, column in enumerate(order)]
    return select(*rows.ENTRY_COLUMNS, *position).where(condition).order_by(*columns)


def _position(position: list[str]) -> Tuple:
    return tuple_(*(literal(part, ExactText) for part in position))
